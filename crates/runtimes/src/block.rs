//! Shoal's own lines in somebody else's file.
//!
//! They stand between two marks, which are comments. What is taken out is what was put in: for every text without marks,
//! [`strip`] of [`put`] gives it back byte for byte, also when other lines of the file have changed meanwhile.

use std::ops::Range;

const BEGIN: &str = "# shoal: begin";
const END: &str = "# shoal: end";
/// Before a line that was there and is put back.
const WAS: &str = "# shoal: was|";

/// What did not exist before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// The file.
    pub(crate) file: bool,
    /// How many folders, from that of the file upwards.
    pub(crate) folders: usize,
}

/// A text without Shoal's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stripped {
    /// What others wrote.
    pub(crate) base: String,
    /// What the marks say was made; `None` where there are no lines of Shoal's.
    pub(crate) made: Option<Made>,
}

/// Marks that do not belong together, and the line of the first that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) line: usize,
}

/// Puts `lines`, each with its end, in place of the whole lines `over` of `base`, which are kept as comments.
///
/// `undo` is the command that takes them out again.
pub(crate) fn put(base: &str, over: Range<usize>, lines: &str, made: Made, undo: &str) -> String {
    let (before, was, after) = (&base[..over.start], &base[over.clone()], &base[over.end..]);
    let mut block = format!("{BEGIN}{}. `{undo}` takes out what stands up to the end.\n", words(made));
    for line in was.split_inclusive('\n') {
        block.push_str(WAS);
        block.push_str(line);
    }
    if !was.is_empty() && !was.ends_with('\n') {
        block.push('\n');
    }
    block.push_str(lines);
    block.push_str(END);
    // Where the last line of the file had no end, the last mark has none.
    if !base.is_empty() && !base.ends_with('\n') && after.is_empty() {
        let join = if was.is_empty() { "\n" } else { "" };
        return format!("{before}{join}{block}");
    }
    block.push('\n');
    format!("{before}{block}{after}")
}

/// Takes all of Shoal's lines out.
pub(crate) fn strip(text: &str) -> Result<Stripped, Damaged> {
    let mut stripped = Stripped { base: String::with_capacity(text.len()), made: None };
    let mut open = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let words = line.trim();
        match open {
            None if words.starts_with(BEGIN) => {
                let made = stripped.made.get_or_insert_default();
                let said = read_words(words);
                *made = Made { file: made.file || said.file, folders: made.folders.max(said.folders) };
                open = Some(number);
            }
            None if words == END => return Err(Damaged { line: number }),
            None => stripped.base.push_str(line),
            Some(_) if words.starts_with(BEGIN) => return Err(Damaged { line: number }),
            Some(_) if words == END => {
                open = None;
                // The last mark has no end: nor had the last line of the file.
                if !line.ends_with('\n') && stripped.base.ends_with('\n') {
                    stripped.base.pop();
                }
            }
            Some(_) => {
                if let Some(was) = line.strip_prefix(WAS) {
                    stripped.base.push_str(was);
                }
            }
        }
    }
    match open {
        Some(line) => Err(Damaged { line }),
        None => Ok(stripped),
    }
}

fn words(made: Made) -> String {
    match made {
        Made { file: false, .. } => String::new(),
        Made { file: true, folders: 0 } => ", made file".to_owned(),
        Made { file: true, folders } => format!(", made file, made folders {folders}"),
    }
}

fn read_words(line: &str) -> Made {
    let words = line.trim_start_matches(BEGIN).split('.').next().unwrap_or_default();
    words.split(", ").fold(Made::default(), |made, word| match word.strip_prefix("made ") {
        Some("file") => Made { file: true, ..made },
        Some(rest) => {
            let folders = rest.strip_prefix("folders ").and_then(|count| count.parse().ok()).unwrap_or(0);
            Made { folders, ..made }
        }
        None => made,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MADE: Made = Made { file: false, folders: 0 };

    #[test]
    fn lines_are_put_between_marks() {
        let text = put("a = 1\n[t]\nb = 2\n", 6..6, "[host]\n", MADE, "shoal containerd uninstall");
        let mark = "# shoal: begin. `shoal containerd uninstall` takes out what stands up to the end.";
        assert_eq!(text, format!("a = 1\n{mark}\n[host]\n# shoal: end\n[t]\nb = 2\n"));
    }

    #[test]
    fn a_line_that_is_replaced_comes_back() {
        for base in ["x\nold\r\ny\n", "x\nold\n", "x\nold", "old"] {
            let start = base.find("old").unwrap();
            let end = base[start..].find('\n').map_or(base.len(), |end| start + end + 1);
            let text = put(base, start..end, "new\n", MADE, "undo");
            assert!(text.lines().any(|line| line == "new") && !text.lines().any(|line| line == "old"), "{text}");
            assert_eq!(strip(&text).unwrap().base, base);
        }
    }

    #[test]
    fn what_was_made_is_remembered() {
        for made in [MADE, Made { file: true, folders: 0 }, Made { file: true, folders: 3 }] {
            let text = put("", 0..0, "a = 1\n", made, "shoal crio uninstall");
            assert_eq!(strip(&text), Ok(Stripped { base: String::new(), made: Some(made) }));
        }
        assert_eq!(strip("a = 1\n").unwrap().made, None);
    }

    #[test]
    fn marks_that_do_not_belong_together_are_refused() {
        for (text, line) in [
            ("a\n# shoal: end\n", 2),
            ("# shoal: begin.\na\n", 1),
            ("# shoal: begin.\n# shoal: begin.\n# shoal: end\n", 2),
        ] {
            assert_eq!(strip(text), Err(Damaged { line }), "{text:?}");
        }
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let text = put("a = 1\n", 6..6, "[host]\n", MADE, "undo").replace("a = 1", "a = 2") + "[more]\n";
        assert_eq!(strip(&text).unwrap().base, "a = 2\n[more]\n");
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof!["", "[a-z ]{0,6}", "# [a-z]{0,6}", "\\[[a-z]\\]"]
    }

    proptest! {
        #[test]
        fn stripping_gives_back_what_was_there(
            lines in prop::collection::vec((line(), prop::bool::ANY), 0..8),
            last in line(),
            own in prop::collection::vec("[a-z]{1,6}", 0..4),
            from in 0_usize..9,
            count in 0_usize..4,
        ) {
            let ended: Vec<String> =
                lines.iter().map(|(line, dos)| format!("{line}{}", if *dos { "\r\n" } else { "\n" })).collect();
            let base = ended.concat() + &last;
            let starts: Vec<usize> = base.split_inclusive('\n').scan(0, |at, line| {
                let start = *at;
                *at += line.len();
                Some(start)
            }).chain([base.len()]).collect();
            let first = from.min(starts.len() - 1);
            let range = starts[first]..starts[(first + count).min(starts.len() - 1)];
            let own: String = own.iter().map(|line| format!("{line}\n")).collect();
            let text = put(&base, range, &own, Made { file: true, folders: 1 }, "undo");
            prop_assert_eq!(strip(&text).unwrap().base, base);
        }
    }
}
