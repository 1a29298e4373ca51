//! Where this node's readers are, and which pieces may be picked because of it.

use std::{collections::BTreeMap, ops::Range};

use shoal_blob::PieceSet;

use super::ReaderId;

/// The readers of one blob on this node, by the piece each needs next.
#[derive(Debug, Default)]
pub(super) struct Readers(BTreeMap<ReaderId, u32>);

impl Readers {
    pub(super) fn place(&mut self, reader: ReaderId, piece: u32) {
        self.0.insert(reader, piece);
    }

    pub(super) fn remove(&mut self, reader: ReaderId) {
        self.0.remove(&reader);
    }

    /// The pieces that starved readers need next and `have` lacks, the lowest first.
    pub(super) fn starved(&self, have: &PieceSet) -> Vec<u32> {
        let mut pieces: Vec<u32> = self.0.values().copied().filter(|&piece| !have.contains(piece)).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces
    }

    /// The windows in which pieces may be picked: `width` pieces from the first that each reader lacks; without readers,
    /// from the first that is missing at all. Ascending, and without overlap.
    pub(super) fn windows(&self, have: &PieceSet, width: u32) -> Vec<Range<u32>> {
        let mut starts: Vec<u32> = self.0.values().filter_map(|&at| have.first_missing(at)).collect();
        if starts.is_empty() {
            starts.extend(have.first_missing(0));
        }
        starts.sort_unstable();
        let mut windows: Vec<Range<u32>> = Vec::with_capacity(starts.len());
        for start in starts {
            let end = start.saturating_add(width).min(have.size());
            match windows.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => windows.push(start..end),
            }
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_readers() {
        let mut have = PieceSet::empty(100);
        let mut readers = Readers::default();
        assert_eq!(readers.windows(&have, 10), std::slice::from_ref(&(0..10)));
        readers.place(ReaderId(1), 50);
        readers.place(ReaderId(2), 55);
        readers.place(ReaderId(3), 95);
        for piece in 50..53 {
            have.insert(piece);
        }
        assert_eq!(readers.windows(&have, 10), [53..65, 95..100]);
        assert_eq!(readers.starved(&have), [55, 95]);
        for reader in 1..4 {
            readers.remove(ReaderId(reader));
        }
        assert_eq!(readers.windows(&have, 10), std::slice::from_ref(&(0..10)));
    }
}
