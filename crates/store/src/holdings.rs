//! Which pieces of a blob are here, in memory.
//!
//! Invariant: a piece is never both readable and unchecked; a complete blob is readable whole; no piece that is readable is
//! being written.

use std::time::{Duration, Instant};

use shoal_blob::{Layout, PieceIndex, PieceSet};

use crate::record::Record;

/// The index learns of new pieces at most this often: it is only a hint after an unclean stop.
const INDEX_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Holdings {
    readable: PieceSet,
    unchecked: PieceSet,
    complete: bool,
    /// Pieces that are being written just now; as many as there are callers.
    writing: Vec<u32>,
    /// Something was written to the data file since it was last synced.
    pub(crate) unsynced: bool,
    /// Something changed since the last record.
    changed: bool,
    recorded: Instant,
    /// Counts withdrawals: bytes read across one may have been overwritten meanwhile.
    withdrawals: u64,
}

/// What a caller who wants to write a piece does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Write,
    Wait,
    AlreadyHere,
}

impl Holdings {
    pub(crate) fn new(record: &Record) -> Self {
        Self {
            readable: record.readable.clone(),
            unchecked: record.unchecked.clone(),
            complete: record.complete,
            writing: Vec::new(),
            unsynced: !record.complete,
            changed: false,
            recorded: Instant::now(),
            withdrawals: 0,
        }
    }

    pub(crate) const fn readable(&self) -> &PieceSet {
        &self.readable
    }

    pub(crate) const fn unchecked(&self) -> &PieceSet {
        &self.unchecked
    }

    pub(crate) const fn complete(&self) -> bool {
        self.complete
    }

    pub(crate) const fn withdrawals(&self) -> u64 {
        self.withdrawals
    }

    pub(crate) fn begin_write(&mut self, piece: PieceIndex) -> Turn {
        if self.readable.has(piece) {
            Turn::AlreadyHere
        } else if self.writing.contains(&piece.get()) {
            Turn::Wait
        } else {
            self.writing.push(piece.get());
            Turn::Write
        }
    }

    /// Ends what [`Holdings::begin_write`] began. Returns whether the index should hear of it now.
    pub(crate) fn end_write(&mut self, piece: PieceIndex, written: bool) -> bool {
        self.writing.retain(|&other| other != piece.get());
        self.unsynced = true;
        if written {
            self.unchecked.remove(piece.get());
            self.readable.insert(piece.get());
            self.changed = true;
        }
        self.changed && self.recorded.elapsed() >= INDEX_EVERY
    }

    /// Takes pieces out; returns whether the blob was complete.
    pub(crate) fn forget(&mut self, pieces: &PieceSet) -> bool {
        for piece in pieces.iter() {
            let was = self.readable.remove(piece) | self.unchecked.remove(piece);
            self.changed |= was;
        }
        self.withdrew()
    }

    /// Makes readable pieces unchecked; returns whether the blob was complete.
    pub(crate) fn doubt(&mut self, pieces: &PieceSet) -> bool {
        for piece in pieces.iter() {
            if self.readable.remove(piece) {
                self.unchecked.insert(piece);
                self.changed = true;
            }
        }
        self.withdrew()
    }

    fn withdrew(&mut self) -> bool {
        self.withdrawals += 1;
        let was = self.complete;
        self.complete &= self.readable.is_full();
        was && !self.complete
    }

    /// Says what checking a piece found; of no effect when it was written anew or forgotten meanwhile.
    pub(crate) fn checked(&mut self, piece: PieceIndex, right: bool) -> bool {
        let settled = !self.writing.contains(&piece.get()) && self.unchecked.remove(piece.get());
        if settled && right {
            self.readable.insert(piece.get());
        }
        self.changed |= settled;
        settled && right
    }

    /// Returns whether every piece is readable, and the blob so complete.
    pub(crate) fn try_complete(&mut self) -> bool {
        self.complete = self.readable.is_full();
        self.changed = true;
        self.complete
    }

    /// What the index is to say, and that it has been told.
    pub(crate) fn record(&mut self, layout: &Layout) -> Record {
        self.changed = false;
        self.recorded = Instant::now();
        Record::new(layout, self.complete, self.readable.clone(), self.unchecked.clone())
    }

    pub(crate) fn set_changed(&mut self) {
        self.changed = true;
    }

    /// Whether the index has yet to be told of something.
    pub(crate) const fn changed(&self) -> bool {
        self.changed
    }

    /// How many bytes of the file hold pieces, checked or not.
    pub(crate) fn bytes(&self, layout: &Layout) -> u64 {
        let held = u64::from(self.readable.held()) + u64::from(self.unchecked.held());
        let last = layout.last();
        let has_last = self.readable.has(last) || self.unchecked.has(last);
        let short = u64::from(layout.piece_bytes() - layout.piece_len(last));
        (held * u64::from(layout.piece_bytes())).saturating_sub(if has_last { short } else { 0 })
    }
}
