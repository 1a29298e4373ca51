//! What the index says about a blob.

use serde::{Deserialize, Serialize};
use shoal_blob::{Algorithm, Digest, Layout, PieceSet};

/// The first byte of a record; one with another is not read, and the blob is found again from its files.
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    length: u64,
    piece_bytes: u32,
    pub(crate) complete: bool,
    /// Pieces that may be read, if the store was closed cleanly.
    pub(crate) readable: PieceSet,
    /// Pieces that must be checked first.
    pub(crate) unchecked: PieceSet,
    /// Microseconds since 1970.
    pub(crate) last_use: u64,
    pub(crate) pinned: bool,
}

impl Record {
    pub(crate) const fn new(layout: &Layout, complete: bool, readable: PieceSet, unchecked: PieceSet) -> Self {
        let (length, piece_bytes) = (layout.length(), layout.piece_bytes());
        Self { length, piece_bytes, complete, readable, unchecked, last_use: 0, pinned: false }
    }

    pub(crate) fn layout(&self) -> Option<Layout> {
        layout_of(self.length, self.piece_bytes)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("numbers and lists of numbers can always be written")
    }

    /// `None` when the bytes are no record, or contradict themselves.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, bytes) = bytes.split_first()? else { return None };
        let record: Self = postcard::from_bytes(bytes).ok()?;
        let count = record.layout()?.count();
        let fits = record.readable.size() == count && record.unchecked.size() == count;
        (fits && (!record.complete || record.readable.is_full())).then_some(record)
    }
}

/// The layout that two numbers from disk describe, if they describe one.
pub(crate) fn layout_of(length: u64, piece_bytes: u32) -> Option<Layout> {
    (piece_bytes > 0 && piece_bytes.is_multiple_of(128))
        .then(|| Layout::with_piece_bytes(length, piece_bytes).ok())
        .flatten()
}

/// The digest whose raw bytes are a key of the index: the length tells the algorithm.
pub(crate) fn digest_of(key: &[u8]) -> Option<Digest> {
    [Algorithm::Sha256, Algorithm::Sha512].into_iter().find_map(|algorithm| Digest::from_bytes(algorithm, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let layout = Layout::with_piece_bytes(1000, 128).unwrap();
        let mut some = PieceSet::none_of(&layout);
        some.insert(3);
        let record = Record::new(&layout, false, some, PieceSet::none_of(&layout));
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Some(record.clone()));
        assert_eq!(Record::from_bytes(&[]), None);
        assert_eq!(Record::from_bytes(&bytes[1..]), None);
        assert_eq!(Record::from_bytes(&bytes[..bytes.len() - 2]), None);
        assert_eq!(Record::from_bytes(&Record { complete: true, ..record.clone() }.to_bytes()), None);
        assert_eq!(Record::from_bytes(&Record { piece_bytes: 100, ..record.clone() }.to_bytes()), None);
        assert_eq!(Record::from_bytes(&Record { length: 2000, ..record }.to_bytes()), None);
    }
}
