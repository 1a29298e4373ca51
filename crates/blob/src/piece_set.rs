//! Which pieces somebody has: a bitmap that knows its size and its count.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Layout, PieceIndex};

/// A set of pieces of one blob, as a bitmap: `count / 8` bytes.
///
/// Invariant: no bit at or beyond `size` is set, and `held` is the number of set bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct PieceSet {
    words: Vec<u64>,
    size: u32,
    held: u32,
}

/// The form on the wire: how many pieces, and the bitmap, or nothing for none and all.
#[derive(Serialize, Deserialize)]
enum Wire {
    None(u32),
    All(u32),
    Some(u32, Vec<u64>),
}

impl PieceSet {
    /// No piece of a blob that has `size` of them.
    #[must_use]
    pub fn empty(size: u32) -> Self {
        Self { words: vec![0; size.div_ceil(64) as usize], size, held: 0 }
    }

    /// Every piece of a blob that has `size` of them.
    #[must_use]
    pub fn full(size: u32) -> Self {
        let mut set = Self { words: vec![u64::MAX; size.div_ceil(64) as usize], size, held: size };
        if let (Some(last), over @ 1..) = (set.words.last_mut(), size % 64) {
            *last = (1 << over) - 1;
        }
        set
    }

    /// No piece of the blob that is cut so.
    #[must_use]
    pub fn none_of(layout: &Layout) -> Self {
        Self::empty(layout.count())
    }

    /// How many pieces the blob has.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// How many of them are in the set.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.held == self.size
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether a piece is in the set; `false` for a number beyond the blob.
    #[must_use]
    pub fn contains(&self, piece: u32) -> bool {
        piece < self.size && self.words[piece as usize / 64] >> (piece % 64) & 1 == 1
    }

    /// The same for a piece that is known to be of the blob.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.contains(piece.get())
    }

    /// Puts a piece in; returns whether it was not there yet. A number beyond the blob changes nothing.
    pub fn insert(&mut self, piece: u32) -> bool {
        let new = piece < self.size && !self.contains(piece);
        if new {
            self.words[piece as usize / 64] |= 1 << (piece % 64);
            self.held += 1;
        }
        new
    }

    /// Takes a piece out; returns whether it was there.
    pub fn remove(&mut self, piece: u32) -> bool {
        let was = self.contains(piece);
        if was {
            self.words[piece as usize / 64] &= !(1 << (piece % 64));
            self.held -= 1;
        }
        was
    }

    /// Puts in all that `other` has. Pieces beyond this blob are left out.
    pub fn union_with(&mut self, other: &Self) {
        if other.size == self.size {
            for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
                *mine |= theirs;
            }
            self.held = self.words.iter().map(|word| word.count_ones()).sum();
        } else {
            for piece in other.iter() {
                self.insert(piece);
            }
        }
    }

    /// Whether `other` has any piece that this set has not.
    #[must_use]
    pub fn lacks_any_of(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(mine, theirs)| theirs & !mine != 0)
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| bits(at as u32 * 64, word))
    }

    /// The first piece at or after `from` that is not in the set.
    #[must_use]
    pub fn first_missing(&self, from: u32) -> Option<u32> {
        self.next(from, |word| !word)
    }

    /// The first piece at or after `from` that is in the set.
    #[must_use]
    pub fn first_held(&self, from: u32) -> Option<u32> {
        self.next(from, |word| word)
    }

    fn next(&self, from: u32, view: impl Fn(u64) -> u64) -> Option<u32> {
        let mut at = from as usize / 64;
        let mut word = view(*self.words.get(at)?) & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = view(*self.words.get(at)?);
        }
        let piece = at as u32 * 64 + word.trailing_zeros();
        (piece < self.size).then_some(piece)
    }

    /// The first piece from `from` on and before `end` that is in the set. It looks no further, so that a window costs what it
    /// is wide, however long the blob is.
    #[must_use]
    pub fn first_held_before(&self, from: u32, end: u32) -> Option<u32> {
        let end = end.min(self.size);
        let mut at = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        while (at as u32) * 64 < end {
            let word = self.words[at] & mask;
            if word != 0 {
                return Some(at as u32 * 64 + word.trailing_zeros()).filter(|&piece| piece < end);
            }
            at += 1;
            mask = u64::MAX;
        }
        None
    }

    /// The pieces that are in this set and not in `other`, a set of the same blob, from `from` on, in order.
    pub fn beyond<'a>(&'a self, other: &'a Self, from: u32) -> impl Iterator<Item = u32> + 'a {
        let start = from as usize / 64;
        let words = self.words.iter().zip(&other.words).enumerate().skip(start);
        words.flat_map(move |(at, (mine, theirs))| {
            let mask = if at == start { u64::MAX << (from % 64) } else { u64::MAX };
            bits(at as u32 * 64, mine & !theirs & mask)
        })
    }

    /// The runs of pieces that are not in the set, in order.
    pub fn missing_runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.first_missing(from)?;
            let end = self.first_held(start).unwrap_or(self.size);
            from = end;
            Some(start..end)
        })
    }
}

/// The numbers of the set bits, from `base` on.
fn bits(base: u32, word: u64) -> impl Iterator<Item = u32> {
    std::iter::successors((word != 0).then_some(word), |rest| {
        let rest = rest & (rest - 1);
        (rest != 0).then_some(rest)
    })
    .map(move |rest| base + rest.trailing_zeros())
}

impl From<PieceSet> for Wire {
    fn from(set: PieceSet) -> Self {
        if set.is_empty() {
            Self::None(set.size)
        } else if set.is_full() {
            Self::All(set.size)
        } else {
            Self::Some(set.size, set.words)
        }
    }
}

impl TryFrom<Wire> for PieceSet {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        const MOST: u32 = 1 << 24;
        match wire {
            Wire::None(size) | Wire::All(size) | Wire::Some(size, _) if size > MOST => {
                Err("a piece set of more than 2^24 pieces")
            }
            Wire::None(size) => Ok(Self::empty(size)),
            Wire::All(size) => Ok(Self::full(size)),
            Wire::Some(size, words) => {
                let over = size % 64;
                let tail_clear = over == 0 || words.last().is_none_or(|last| last >> over == 0);
                if words.len() != size.div_ceil(64) as usize || !tail_clear {
                    return Err("a piece set whose bitmap does not fit its size");
                }
                let held = words.iter().map(|word| word.count_ones()).sum();
                Ok(Self { words, size, held })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::btree_set, prelude::*};
    use std::collections::BTreeSet;

    fn of(size: u32, pieces: &BTreeSet<u32>) -> PieceSet {
        let mut set = PieceSet::empty(size);
        for &piece in pieces {
            set.insert(piece);
        }
        set
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(size in 1u32..300, pieces in btree_set(0u32..300, 0..200), drop in 0u32..300) {
            let mut model: BTreeSet<u32> = pieces.iter().copied().filter(|&p| p < size).collect();
            let mut set = of(size, &pieces);
            prop_assert_eq!(set.remove(drop), model.remove(&drop));
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!(set.held() as usize, model.len());
            prop_assert_eq!(set.first_missing(drop), (drop..size).find(|p| !model.contains(p)));
            prop_assert_eq!(set.first_held(drop), (drop..size).find(|p| model.contains(p)));
            for end in [0, drop, drop + 1, drop + 70, size, 400] {
                let first = (drop..end.min(size)).find(|p| model.contains(p));
                prop_assert_eq!(set.first_held_before(drop, end), first);
            }
            let missing: Vec<u32> = set.missing_runs().flatten().collect();
            prop_assert_eq!(missing, (0..size).filter(|p| !model.contains(p)).collect::<Vec<_>>());
        }

        #[test]
        fn two_sets_are_two_sets(
            size in 1u32..300,
            a in btree_set(0u32..300, 0..200),
            b in btree_set(0u32..300, 0..200),
            from in 0u32..300,
        ) {
            let (mut left, right) = (of(size, &a), of(size, &b));
            prop_assert_eq!(left.lacks_any_of(&right), right.iter().any(|p| !left.contains(p)));
            let beyond: Vec<u32> = right.beyond(&left, from).collect();
            prop_assert_eq!(beyond, right.iter().filter(|&p| p >= from && !left.contains(p)).collect::<Vec<_>>());
            left.union_with(&right);
            prop_assert_eq!(left, of(size, &a.union(&b).copied().collect()));
        }
    }

    #[test]
    fn a_bitmap_that_claims_more_than_its_size_is_refused() {
        assert!(PieceSet::try_from(Wire::Some(3, vec![0b1000])).is_err());
        assert!(PieceSet::try_from(Wire::Some(3, vec![1, 0])).is_err());
        assert!(PieceSet::try_from(Wire::All(u32::MAX)).is_err());
        assert_eq!(PieceSet::try_from(Wire::Some(3, vec![0b111])).unwrap(), PieceSet::full(3));
    }
}
