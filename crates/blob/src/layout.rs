//! How a blob is cut: a pure function of its length, so that all nodes agree without a word.

use std::ops::Range;

/// The smallest piece, in bytes.
pub const MIN_PIECE_BYTES: u32 = 1 << 20;
/// The largest piece, in bytes.
pub const MAX_PIECE_BYTES: u32 = 16 << 20;
/// At least this many pieces are made where the smallest piece allows it.
const PIECES_WANTED: u64 = 2048;
/// The longest blob, in bytes (16 TiB): a million pieces, whose bitmap is 128 KiB.
const MAX_LENGTH: u64 = 1 << 44;

/// The number of a piece, counted from 0. One that came from [`Layout::piece`] is within its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(pub(crate) u32);

impl PieceIndex {
    /// The number itself; it is also the boundary where the piece begins.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a blob of one length is cut into pieces: all of one size, a power of two from 1 to 16 MiB, the last one shorter.
///
/// An empty blob has one piece of no bytes: its chain has one link, and that link is the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    length: u64,
    piece_bytes: u32,
    count: u32,
}

/// Why a length has no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a blob of {0} bytes is longer than the 16 TiB that Shoal cuts into pieces")]
pub struct LayoutError(pub u64);

impl Layout {
    /// Cuts a blob of `length` bytes: pieces of `length / 2048` rounded down to a power of two, within 1 to 16 MiB.
    ///
    /// # Errors
    /// When the length is over 16 TiB.
    pub fn new(length: u64) -> Result<Self, LayoutError> {
        let wanted = (length / PIECES_WANTED).max(1);
        let power = 1u64 << wanted.ilog2();
        let piece = power.clamp(u64::from(MIN_PIECE_BYTES), u64::from(MAX_PIECE_BYTES));
        Self::with_piece_bytes(length, u32::try_from(piece).unwrap_or(MAX_PIECE_BYTES))
    }

    /// Cuts a blob into pieces of a size of the caller's: for tests and models, where a real cut would be too coarse.
    ///
    /// # Errors
    /// When the length is over 16 TiB or makes more than 2^24 pieces.
    ///
    /// # Panics
    /// When `piece_bytes` is not a positive multiple of 128, the larger block of the two algorithms.
    pub fn with_piece_bytes(length: u64, piece_bytes: u32) -> Result<Self, LayoutError> {
        assert!(piece_bytes > 0 && piece_bytes.is_multiple_of(128), "a piece is whole blocks");
        let count = length.div_ceil(u64::from(piece_bytes)).max(1);
        match u32::try_from(count) {
            Ok(count) if length <= MAX_LENGTH && count <= 1 << 24 => Ok(Self { length, piece_bytes, count }),
            _ => Err(LayoutError(length)),
        }
    }

    /// The blob's length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The size of every piece but the last, in bytes.
    #[must_use]
    pub const fn piece_bytes(&self) -> u32 {
        self.piece_bytes
    }

    /// How many pieces there are; at least 1.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The piece of that number, if there is one: the only way from a number off the wire to a [`PieceIndex`].
    #[must_use]
    pub const fn piece(&self, number: u32) -> Option<PieceIndex> {
        if number < self.count { Some(PieceIndex(number)) } else { None }
    }

    /// The last piece.
    #[must_use]
    pub const fn last(&self) -> PieceIndex {
        PieceIndex(self.count - 1)
    }

    /// All pieces, in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.count).map(PieceIndex)
    }

    /// The piece that holds the byte at `offset`, if the blob is that long.
    #[must_use]
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        let number = u32::try_from(offset / u64::from(self.piece_bytes)).ok()?;
        (offset < self.length).then_some(PieceIndex(number))
    }

    /// Where a piece begins, in bytes from the blob's start.
    #[must_use]
    pub fn offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_bytes)
    }

    /// How long a piece is, in bytes.
    #[must_use]
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let rest = self.length.saturating_sub(self.offset(piece));
        u32::try_from(rest).map_or(self.piece_bytes, |rest| rest.min(self.piece_bytes))
    }

    /// The bytes of the blob that a piece is.
    #[must_use]
    pub fn byte_range(&self, piece: PieceIndex) -> Range<u64> {
        let start = self.offset(piece);
        start..start + u64::from(self.piece_len(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_as_the_design_says() {
        let piece = |length: u64| Layout::new(length).unwrap().piece_bytes();
        assert_eq!(piece(0), MIN_PIECE_BYTES);
        assert_eq!(piece(1 << 30), MIN_PIECE_BYTES);
        assert_eq!(piece(10_000_000_000), 4 << 20);
        assert_eq!(piece(1_000_000_000_000), MAX_PIECE_BYTES);
        assert!(Layout::new(u64::MAX).is_err());
    }

    #[test]
    fn an_empty_blob_has_one_empty_piece() {
        let layout = Layout::new(0).unwrap();
        assert_eq!((layout.count(), layout.piece_len(layout.last())), (1, 0));
        assert_eq!(layout.piece_at(0), None);
    }

    proptest! {
        #[test]
        fn pieces_tile_the_blob(length in 0u64..1 << 36, probe in any::<u64>()) {
            let layout = Layout::new(length).unwrap();
            prop_assert!(layout.count() >= 2048 || layout.piece_bytes() == MIN_PIECE_BYTES);
            let last = layout.byte_range(layout.last());
            prop_assert_eq!(last.end, length);
            prop_assert_eq!(layout.piece(layout.count()), None);
            let offset = probe % length.max(1);
            if let Some(piece) = layout.piece_at(offset) {
                prop_assert!(layout.byte_range(piece).contains(&offset));
            } else {
                prop_assert_eq!(length, 0);
            }
        }
    }
}
