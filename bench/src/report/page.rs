//! The page: its tables stand between two marks, what is around them is written by hand.

use std::{
    fmt::Write as _,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bytesize::ByteSize;

use super::{Args, Machine, Measured};

const BEGIN: &str = "<!-- made by `shoal-bench report` -->";
const END: &str = "<!-- end of what `shoal-bench report` made -->";

/// A page that can be written.
#[derive(Debug)]
pub(super) struct Page {
    path: PathBuf,
    before: String,
    behind: String,
}

impl Page {
    /// Looks for the marks; a page that is not there yet has nothing around them.
    ///
    /// # Errors
    /// When there are no marks.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = path.to_owned();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => format!("{BEGIN}\n{END}\n"),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let Some((before, behind)) = parts else {
            let path = path.display();
            bail!(
                "{path} has no lines `{BEGIN}` and `{END}`: put them where the tables are to go, or name another --page"
            );
        };
        Ok(Self { before: before.to_owned(), behind: behind.to_owned(), path })
    }

    /// Puts these tables between the marks.
    pub(super) fn write(&self, tables: &str) -> anyhow::Result<()> {
        let Self { path, before, behind } = self;
        fs::write(path, format!("{before}{BEGIN}\n\n{tables}\n{END}{behind}"))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// What stands between the marks.
pub(super) fn tables(args: &Args, machine: &Machine, measured: &[Measured]) -> String {
    let Machine { processor, cores, memory, system, commit } = machine;
    let size = ByteSize(args.size.0).display().iec();
    let origin = measured.first().map_or("", |measured| &measured.origin);
    let folder = args.page.file_stem().unwrap_or_default().to_string_lossy();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "`shoal-bench report`, commit {commit}: {size}, the origin is {origin}, medians of {}.\n{processor}, {cores} cores, {memory} \
         of memory, {system}.\n",
        args.repeat
    );
    let _ = writeln!(text, "![the last node's time over the bound]({folder}/fanout.svg)\n");
    text += "| nodes | link | origin | | last node | median | bound | fluid | last / bound | all from the origin, at best | first byte ";
    text += "| origin's log | wire | twice | lost | cpu s/GiB | memory | idle |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for measured in measured {
        for mode in &measured.modes {
            let Measured { nodes, rate, origin_rate, bound, .. } = measured;
            let _ = write!(text, "| {nodes} | {rate} | {origin_rate} | {} ", mode.mode.who());
            let _ = write!(text, "| {:.1} s | {:.1} s | {:.1} s ", mode.last, mode.median, bound.whole_pieces);
            let _ =
                write!(text, "| {:.1} s | **{:.3}** | {:.1} s ", bound.fluid, mode.ratio, from_the_origin(measured));
            let _ = write!(text, "| {:.0} ms | {:.3} | {:.3} ", mode.first_byte * 1e3, mode.origin_log, mode.wire);
            let _ = write!(text, "| {:.2} % | {} ", mode.duplicates * 100.0, mode.lost_packets);
            let memory = ByteSize(mode.peak_resident).display().iec().to_string();
            let memory = if mode.peak_resident == 0 { String::new() } else { memory };
            let mark = if mode.is_marked() { " !" } else { "" };
            let _ = writeln!(text, "| {:.1} | {memory} | {:.0} %{mark} |", mode.cpu_a_gibibyte, mode.idle * 100.0);
        }
    }
    text += "\n`!`: less than a tenth of the processors' time was idle, so that they were measured rather than the links.\n";
    if measured.iter().any(|measured| measured.nodes == usize::from(super::DRAWN)) {
        let _ = writeln!(text, "\n![what each node has received, and the origin sent]({folder}/nodes.svg)");
    }
    text
}

/// What each node's own pull would take if nothing of the origin's link were lost.
fn from_the_origin(measured: &Measured) -> f64 {
    let bits = |rate: &str| rate.parse::<crate::lab::Rate>().map_or(f64::INFINITY, |rate| rate.bits() as f64);
    let layer = measured.bytes as f64 * 8.0;
    (layer * measured.nodes as f64 / bits(&measured.origin_rate)).max(layer / bits(&measured.rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        fs::write(&path, format!("# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n")).unwrap();
        for tables in ["new", "newer"] {
            Page::open(&path).unwrap().write(tables).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# Title\n\n{BEGIN}\n\nnewer\n{END}\n\nmore\n"));
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        fs::write(&path, "by hand\n").unwrap();
        let error = Page::open(&path).unwrap_err().to_string();
        assert!(error.contains("--page") && error.contains(END), "{error}");
        Page::open(&folder.path().join("none.md")).unwrap();
    }

    #[test]
    fn the_origin_can_only_give_what_its_link_carries() {
        let measured = |nodes, origin_rate: &str| Measured {
            nodes,
            bytes: 25_000_000,
            rate: "200mbit".to_owned(),
            origin_rate: origin_rate.to_owned(),
            origin: String::new(),
            bound: super::super::measured::Bound { whole_pieces: 1.0, fluid: 1.0 },
            modes: Vec::new(),
        };
        assert_eq!(from_the_origin(&measured(8, "200mbit")), 8.0);
        assert_eq!(from_the_origin(&measured(8, "800mbit")), 2.0);
        assert_eq!(from_the_origin(&measured(1, "800mbit")), 1.0);
    }
}
