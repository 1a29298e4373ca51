//! The `Range` header, as far as registries need it: one range of bytes.

use std::ops::Range;

/// Which part of a blob is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: no range was asked for, or none that is understood, which the HTTP specification lets a server ignore.
    Whole,
    /// These bytes.
    Range(Range<u64>),
    /// Bytes that it has not got.
    Unsatisfiable,
}

impl Part {
    /// Reads the header's value for a blob of that length. Several ranges in one request count as not understood.
    pub(crate) fn asked(header: Option<&str>, length: u64) -> Self {
        let Some((first, last)) = header
            .and_then(|value| value.trim().strip_prefix("bytes="))
            .and_then(|range| range.trim().split_once('-'))
            .filter(|(first, last)| digits(first) && digits(last))
        else {
            return Self::Whole;
        };
        let range = match (first, last) {
            ("", "") => return Self::Whole,
            ("", suffix) => length.saturating_sub(number(suffix))..length,
            (first, "") => number(first)..length,
            (first, last) if number(first) > number(last) => return Self::Whole,
            (first, last) => number(first)..number(last).saturating_add(1).min(length),
        };
        if range.is_empty() { Self::Unsatisfiable } else { Self::Range(range) }
    }
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number too large for 64 bits lies beyond every blob.
fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_form() {
        for (header, part) in [
            ("bytes=0-9", Part::Range(0..10)),
            ("bytes=5-", Part::Range(5..100)),
            ("bytes=-7", Part::Range(93..100)),
            ("bytes=-700", Part::Range(0..100)),
            ("bytes=99-99", Part::Range(99..100)),
            ("bytes=90-18446744073709551615", Part::Range(90..100)),
            ("bytes=90-99999999999999999999999", Part::Range(90..100)),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=100-200", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=9-5", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::asked(Some(header), 100), part, "{header:?}");
        }
        assert_eq!(Part::asked(None, 100), Part::Whole);
        assert_eq!(Part::asked(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }
}
