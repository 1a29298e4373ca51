//! The `Range` header, against a blob's length.
//!
//! The header is parsed here rather than by a crate because the three ways in which it can be odd have to be told apart:
//! another unit (ignored, as it must be), a broken `bytes` range, and one that lies beyond the blob. RFC 9110 lets a
//! server ignore a broken range or answer 416; the mirror answers 416 to both of the latter, since a client that asked
//! for a part and gets the whole throws bytes away, and a blob here can have a terabyte of them.

use std::ops::Range;

use http::{HeaderMap, header};

use crate::Failure;

/// More parts than this are answered with the whole blob.
const MOST_PARTS: usize = 1024;

/// Which part of a blob is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it, as a plain 200.
    Whole,
    /// These parts, at least one, none of them empty, in the order asked for.
    Parts(Vec<Range<u64>>),
}

/// Reads the `Range` header, if any.
pub(crate) fn wanted(headers: &HeaderMap, length: u64) -> Result<Wanted, Failure> {
    let mut values = headers.get_all(header::RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Wanted::Whole),
        (Some(value), None) => parse(value.as_bytes(), length),
        (Some(_), Some(_)) => Err(invalid("there are several Range headers", length)),
    }
}

fn invalid(reason: &str, length: u64) -> Failure {
    Failure::RangeInvalid { reason: reason.to_owned(), length }
}

fn parse(value: &[u8], length: u64) -> Result<Wanted, Failure> {
    let broken = || invalid("the Range header is malformed, bytes=<first>-<last> is expected", length);
    let text = std::str::from_utf8(value).map_err(|_| broken())?;
    let (unit, set) = text.split_once('=').ok_or_else(broken)?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ok(Wanted::Whole);
    }
    let mut some = false;
    let mut parts = Vec::new();
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        some = true;
        let part = match spec.split_once('-').ok_or_else(broken)? {
            ("", suffix) => length - number(suffix).ok_or_else(broken)?.min(length)..length,
            (first, "") => number(first).ok_or_else(broken)?..length,
            (first, last) => {
                let (first, last) = number(first).zip(number(last)).ok_or_else(broken)?;
                if last < first {
                    return Err(broken());
                }
                first..last.saturating_add(1).min(length)
            }
        };
        if part.start < part.end {
            parts.push(part);
        }
    }
    if !some {
        return Err(broken());
    }
    // An empty blob has no part that could be sent, but all of it can.
    if length == 0 {
        return Ok(Wanted::Whole);
    }
    if parts.is_empty() {
        return Err(invalid("the range lies beyond the blob", length));
    }
    // Parts that overlap so much that they exceed the blob are no saving; a flood of them is an attack.
    let sum = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.end - part.start));
    if parts.len() > MOST_PARTS || (parts.len() > 1 && sum > length) {
        return Ok(Wanted::Whole);
    }
    Ok(Wanted::Parts(parts))
}

/// A decimal number; one that does not fit is the largest that does.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str, length: u64) -> Option<Range<u64>> {
        match parse(text.as_bytes(), length) {
            Ok(Wanted::Parts(parts)) if parts.len() == 1 => parts.into_iter().next(),
            _ => None,
        }
    }

    #[test]
    fn takes_what_clients_send() {
        assert_eq!(one("bytes=0-", 10), Some(0..10));
        assert_eq!(one("bytes=4-", 10), Some(4..10));
        assert_eq!(one("bytes=-3", 10), Some(7..10));
        assert_eq!(one("bytes=-30", 10), Some(0..10));
        assert_eq!(one("bytes=2-4", 10), Some(2..5));
        assert_eq!(one("Bytes= 2-400 ,", 10), Some(2..10));
        assert_eq!(one("bytes=2-99999999999999999999999", 10), Some(2..10));
        assert_eq!(one("bytes=0-0,50-60", 10), Some(0..1));
        assert_eq!(parse(b"bytes=0-1, 8-", 10), Ok(Wanted::Parts(vec![0..2, 8..10])));
        assert_eq!(parse(b"bytes=0-,0-", 10), Ok(Wanted::Whole));
        assert_eq!(parse(b"pages=1-2", 10), Ok(Wanted::Whole));
        assert_eq!(parse(b"bytes=0-", 0), Ok(Wanted::Whole));
    }

    #[test]
    fn refuses_what_is_broken_or_beyond() {
        for text in [
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1",
            "bytes=+1-2",
            "bytes=--1",
            "", //
            "bytes=10-",
            "bytes=10-12",
            "bytes=-0",
            "bytes=99999999999999999999999-",
            "bytes 0-1",
            "bytes=1-2-3",
        ] {
            let failure = parse(text.as_bytes(), 10).unwrap_err();
            assert_eq!(failure.answer().0, 416, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_blob(text in "(bytes=)?[0-9,= -]{0,40}", length in 0u64..100) {
            if let Ok(Wanted::Parts(parts)) = parse(text.as_bytes(), length) {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }

        #[test]
        fn closed_ranges_are_slices(first in 0u64..200, more in 0u64..200, length in 1u64..200) {
            let got = one(&format!("bytes={first}-{}", first + more), length);
            prop_assert_eq!(got, (first < length).then(|| first..(first + more + 1).min(length)));
        }
    }
}
