//! Where this node's readers are, and which pieces may be picked because of it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use shoal_blob::PieceSet;

use super::ReaderId;
use crate::Time;

/// The readers of one blob on this node, by the piece each needs next.
///
/// Where each would come to a halt is remembered: a slow reader may have half of the blob before it, which must not be
/// looked through for each decision.
#[derive(Debug, Default)]
pub(super) struct Readers {
    places: BTreeMap<ReaderId, Place>,
    /// That of nobody, at the beginning.
    start: Place,
}

/// Invariant: all pieces from `at` to `halt` are here.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: u32,
    since: Time,
    halt: u32,
}

impl Place {
    fn first_missing(&mut self, have: &PieceSet) -> Option<u32> {
        self.halt = have.first_missing(self.halt).unwrap_or(have.size());
        (self.halt < have.size()).then_some(self.halt)
    }
}

impl Readers {
    pub(super) fn place(&mut self, now: Time, reader: ReaderId, piece: u32) {
        let place = self.places.entry(reader).or_default();
        let halt = if (place.at..place.halt).contains(&piece) { place.halt } else { piece };
        *place = Place { at: piece, since: now, halt };
    }

    pub(super) fn remove(&mut self, reader: ReaderId) {
        self.places.remove(&reader);
    }

    /// Pieces are here no longer.
    pub(super) fn lost(&mut self) {
        for place in self.places.values_mut().chain([&mut self.start]) {
            place.halt = place.at;
        }
    }

    /// The first piece of the blob that is missing.
    pub(super) fn first_missing(&mut self, have: &PieceSet) -> Option<u32> {
        self.start.first_missing(have)
    }

    /// The pieces that readers have needed for so long and `have` lacks, the lowest first.
    pub(super) fn starved(&self, now: Time, patience: Duration, have: &PieceSet) -> Vec<u32> {
        let waiting = self.places.values().filter(|place| place.since + patience <= now).map(|place| place.at);
        let mut pieces: Vec<u32> = waiting.filter(|&piece| !have.contains(piece)).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces
    }

    /// The windows in which pieces may be picked: `width` pieces from the first that each reader lacks; without readers,
    /// from the first that is missing at all. Ascending, and without overlap.
    pub(super) fn windows(&mut self, have: &PieceSet, width: u32) -> Vec<Range<u32>> {
        let mut starts: Vec<u32> = self.places.values_mut().filter_map(|place| place.first_missing(have)).collect();
        if starts.is_empty() {
            starts.extend(self.first_missing(have));
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
        let now = Time::after(Duration::from_secs(1));
        assert_eq!(readers.windows(&have, 10), std::slice::from_ref(&(0..10)));
        readers.place(now, ReaderId(1), 50);
        readers.place(now, ReaderId(2), 55);
        readers.place(now, ReaderId(3), 95);
        for piece in 50..53 {
            have.insert(piece);
        }
        assert_eq!(readers.windows(&have, 10), [53..65, 95..100]);
        let second = Duration::from_secs(1);
        assert_eq!(readers.starved(now, Duration::ZERO, &have), [55, 95]);
        assert_eq!(readers.starved(now, second, &have), []);
        assert_eq!(readers.starved(now + second, second, &have), [55, 95]);
        readers.place(now, ReaderId(1), 52);
        have.remove(52);
        readers.lost();
        assert_eq!(readers.windows(&have, 10), [52..65, 95..100]);
        readers.place(now, ReaderId(1), 20);
        assert_eq!(readers.windows(&have, 10), [20..30, 55..65, 95..100]);
        for reader in 1..4 {
            readers.remove(ReaderId(reader));
        }
        assert_eq!(readers.windows(&have, 10), std::slice::from_ref(&(0..10)));
    }
}
