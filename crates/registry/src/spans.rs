//! Which bytes have been seen before.

use std::{collections::BTreeMap, ops::Range};

/// A set of bytes by their offsets.
///
/// Invariant: the spans, from start to end, are not empty and neither overlap nor touch.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<u64, u64>);

impl Spans {
    /// Adds a range, and returns how many of its bytes were there already.
    pub(crate) fn add(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut whole, mut before) = (range.clone(), 0);
        // The last that begins at or before the range's end, as long as it reaches the range.
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            before += end.min(range.end).saturating_sub(start.max(range.start));
            whole = whole.start.min(start)..whole.end.max(end);
            self.0.remove(&start);
        }
        self.0.insert(whole.start, whole.end);
        before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_what_was_there(ranges in prop::collection::vec((0u64..60, 0u64..20), 1..30)) {
            let (mut spans, mut seen) = (Spans::default(), vec![false; 80]);
            for (start, length) in ranges {
                let range = start..start + length;
                let bytes = &mut seen[range.start as usize..range.end as usize];
                let before = bytes.iter().filter(|seen| **seen).count() as u64;
                bytes.fill(true);
                prop_assert_eq!(spans.add(range), before);
            }
            let mut last = None;
            for (start, end) in spans.0 {
                prop_assert!(start < end && last.is_none_or(|last| last < start), "{} to {}", start, end);
                last = Some(end);
            }
        }
    }
}
