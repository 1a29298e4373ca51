//! `Content-Range: bytes <first>-<last>/<total>`, as an origin writes it.

use std::ops::Range;

use http::{HeaderMap, header};

/// Which bytes an answer has, of how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) bytes: Range<u64>,
    /// `None` where the origin writes `*`.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header; `None` when it is missing, or means no bytes, or more than the total.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let fits = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
        fits.then(|| Some(Self { bytes: first..last.checked_add(1)?, total }))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_ranges() {
        let of = |bytes, total| Some(ContentRange { bytes, total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), of(0..1, Some(1)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), of(5..10, None));
        for wrong in
            ["", "bytes */5", "bytes 5-4/9", "bytes 0-9/9", "items 0-1/2", "bytes +1-2/5", "bytes -1/5", "0-1/2"]
        {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ContentRange::parse(&format!("bytes 0-{}/*", u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_reads_what_is_written(first in 0u64..1 << 60, len in 1u64..1 << 60, noise in ".*") {
            let total = first + len + 3;
            let text = format!("bytes {first}-{}/{total}", first + len - 1);
            prop_assert_eq!(ContentRange::parse(&text), Some(ContentRange { bytes: first..first + len, total: Some(total) }));
            let _ = ContentRange::parse(&noise);
        }
    }
}
