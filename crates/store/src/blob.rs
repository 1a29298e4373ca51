//! One blob of the store: its pieces, written and read by position.

use std::{
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use shoal_blob::{Digest, Layout, MAX_PIECE_BYTES, PieceIndex, PieceSet, VerifiedPiece};

use crate::{
    DiskFile, Holding, InUse, StoreError,
    data_file::DataFile,
    holdings::{Holdings, Turn},
    in_use::Holders,
    place::{On, Place},
    record::Record,
    sidecar::Sidecar,
};

/// How many bytes are written before they are worth a sync of their own.
const SYNC_EVERY: u64 = 32 << 20;

/// A blob that has its place in the store: whole, in part, or still empty.
///
/// All methods may be called from many threads at once. Hold an [`InUse`] while a blob is read or downloaded: without one it
/// may be evicted between two calls, which then answer [`StoreError::Gone`], and its file is opened anew for each call.
pub struct Blob {
    digest: Digest,
    layout: Layout,
    pub(crate) place: Arc<Place>,
    holders: Holders,
    last_use: AtomicU64,
    /// The last use that the index knows of.
    pub(crate) recorded_use: AtomicU64,
    pinned: AtomicBool,
    pub(crate) data: DataFile,
    pub(crate) holdings: Mutex<Holdings>,
    /// Told whenever a write has ended.
    written: Condvar,
    /// Held while a piece is written. File systems let one in at a time to write to a file, and have the others spin.
    pen: Mutex<()>,
    /// Bytes written since a sync was last due.
    unsynced: AtomicU64,
    /// `None` once the blob has left the store. Held for short operations only.
    pub(crate) papers: Mutex<Option<Papers>>,
    /// Whoever syncs the sidecar and then writes the record, or changes whether the blob is complete: one at a time. Taken
    /// before the papers, which are taken before the holdings.
    pub(crate) recording: Mutex<()>,
}

/// The sidecar, read when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Papers {
    pub(crate) sidecar: Option<Sidecar>,
}

/// Without bitmaps.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("digest", &self.digest).field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Blob {
    pub(crate) fn new(place: Arc<Place>, digest: Digest, layout: Layout, record: &Record, papers: Papers) -> Self {
        let data = DataFile::new(place.disk.clone(), place.folder.data(&digest));
        Self {
            digest,
            layout,
            place,
            holders: Holders::default(),
            last_use: AtomicU64::new(record.last_use),
            recorded_use: AtomicU64::new(record.last_use),
            pinned: AtomicBool::new(record.pinned),
            data,
            holdings: Mutex::new(Holdings::new(record)),
            written: Condvar::new(),
            pen: Mutex::new(()),
            unsynced: AtomicU64::new(0),
            papers: Mutex::new(Some(papers)),
            recording: Mutex::new(()),
        }
    }

    /// The blob's name.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How it is cut.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The pieces that may be read.
    #[must_use]
    pub fn pieces(&self) -> PieceSet {
        self.holdings.lock().readable().clone()
    }

    /// Whether a piece may be read.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.holdings.lock().readable().has(piece)
    }

    /// The pieces that lie in the file and must be checked before they may be read: see [`Blob::recheck`].
    #[must_use]
    pub fn unchecked(&self) -> PieceSet {
        self.holdings.lock().unchecked().clone()
    }

    /// Whether every piece is here, synced, and its chain proven.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.holdings.lock().complete()
    }

    /// Writes a piece at its place. One that is readable already is not written again. Short, unless the system holds writers
    /// back; twice a second at most it also syncs the sidecar.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk is full or fails: the piece is not there then, all others are as before.
    /// [`StoreError::Foreign`], [`StoreError::Gone`], [`StoreError::Closed`].
    pub fn put(&self, piece: &VerifiedPiece) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        let index = self.fitting(piece)?;
        {
            let mut holdings = self.holdings.lock();
            loop {
                match holdings.begin_write(index) {
                    Turn::AlreadyHere => return Ok(()),
                    Turn::Wait => self.written.wait(&mut holdings),
                    Turn::Write => break,
                }
            }
        }
        let offset = self.layout.offset(index);
        let outcome = self.with_data("write a piece to", |file| {
            let _pen = self.pen.lock();
            file.write_all_at(piece.bytes(), offset)
        });
        let due = self.holdings.lock().end_write(index, outcome.is_ok());
        self.written.notify_all();
        outcome?;
        self.unsynced.fetch_add(piece.bytes().len() as u64, Ordering::Relaxed);
        if due {
            self.record_if_free();
        }
        Ok(())
    }

    /// Whether so much has been written that [`Blob::sync_ahead`] should be called now; says so once for each 32 MiB.
    #[must_use]
    pub fn is_sync_due(&self) -> bool {
        let due = |bytes: u64| (bytes >= SYNC_EVERY).then_some(0);
        self.unsynced.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }

    fn fitting(&self, piece: &VerifiedPiece) -> Result<PieceIndex, StoreError> {
        let (number, bytes) = (piece.index().get(), piece.bytes().len());
        let index = self.layout.piece(number).filter(|&index| {
            self.layout.piece_len(index) as usize == bytes && piece.link().from.algorithm() == self.digest.algorithm()
        });
        index.ok_or(StoreError::Foreign { digest: self.digest, number, bytes })
    }

    /// Fills the whole slice with the blob's bytes from `start` on. Reads from the page cache where the pieces are fresh.
    ///
    /// # Errors
    /// [`StoreError::Range`] beyond the blob's end, [`StoreError::Missing`] when one of the pieces is not readable, or was
    /// withdrawn meanwhile, [`StoreError::Io`], [`StoreError::Gone`].
    pub fn read(&self, start: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let end = start.saturating_add(out.len() as u64);
        if end > self.layout.length() {
            return Err(self.out_of_range(start..end, self.layout.length()));
        }
        loop {
            let before = self.readable_at(start..end)?;
            self.with_data("read", |file| file.read_exact_at(out, start))?;
            // A piece that was withdrawn while it was read may have been overwritten.
            if before == self.holdings.lock().withdrawals() {
                return Ok(());
            }
        }
    }

    /// The same, into a buffer of its own.
    ///
    /// # Errors
    /// Those of [`Blob::read`]; [`StoreError::Range`] also for more than 16 MiB.
    pub fn read_bytes(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let length = range.end.saturating_sub(range.start);
        if length > u64::from(MAX_PIECE_BYTES) || range.end < range.start {
            return Err(self.out_of_range(range, u64::from(MAX_PIECE_BYTES)));
        }
        let mut out = vec![0; length as usize];
        self.read(range.start, &mut out)?;
        Ok(out.into())
    }

    fn out_of_range(&self, range: Range<u64>, most: u64) -> StoreError {
        let Range { start, end } = range;
        StoreError::Range { digest: self.digest, start, end, length: self.layout.length(), most }
    }

    /// Whether every piece that the range touches is readable.
    pub(crate) fn is_readable(&self, range: Range<u64>) -> bool {
        range.end <= self.layout.length() && self.readable_at(range).is_ok()
    }

    fn readable_at(&self, range: Range<u64>) -> Result<u64, StoreError> {
        let holdings = self.holdings.lock();
        let mut piece = self.layout.piece_at(range.start).filter(|_| !range.is_empty());
        while let Some(index) = piece {
            if !holdings.readable().has(index) {
                return Err(StoreError::Missing { digest: self.digest, piece: index });
            }
            let next = self.layout.byte_range(index).end;
            piece = self.layout.piece_at(next).filter(|_| next < range.end);
        }
        Ok(holdings.withdrawals())
    }

    /// Withdraws pieces: they are no longer here, and the blob no longer complete. On a complete blob it blocks for a sync.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a complete blob's sidecar cannot be told; the pieces are withdrawn all the same, for as long as
    /// the store is open. [`StoreError::Closed`].
    pub fn forget(&self, pieces: &PieceSet) -> Result<(), StoreError> {
        self.withdraw(|holdings| holdings.forget(pieces))
    }

    /// Makes readable pieces unchecked: they stay in the file and may be read again after [`Blob::recheck`]. For a node that
    /// was blamed, and for pieces that were verified under a list that has changed. On a complete blob it blocks for a sync.
    ///
    /// # Errors
    /// Those of [`Blob::forget`].
    pub fn doubt(&self, pieces: &PieceSet) -> Result<(), StoreError> {
        self.withdraw(|holdings| holdings.doubt(pieces))
    }

    fn withdraw(&self, take: impl FnOnce(&mut Holdings) -> bool) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        let was_complete = take(&mut self.holdings.lock());
        self.note_doubt(was_complete)
    }

    /// Keeps the blob from being evicted until the guard is dropped.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it is leaving or has left.
    pub fn hold(self: &Arc<Self>) -> Result<InUse, StoreError> {
        InUse::new(self.clone()).ok_or_else(|| self.gone())
    }

    /// Notes that the blob was used now: the least recently used is evicted first. Holding it does so too, at both ends.
    pub fn touch(&self) {
        self.last_use.store(self.place.clock.now(), Ordering::Relaxed);
    }

    /// Keeps the blob from being evicted, or no longer, until told otherwise; also after the store has been opened again.
    ///
    /// # Errors
    /// [`StoreError::Index`] when that could not be written down, [`StoreError::Gone`], [`StoreError::Closed`].
    pub fn pin(&self, pinned: bool) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        self.pinned.store(pinned, Ordering::Relaxed);
        self.write_record()
    }

    /// What a listing says of the blob.
    #[must_use]
    pub fn holding(&self) -> Holding {
        let holdings = self.holdings.lock();
        Holding {
            digest: self.digest,
            length: self.layout.length(),
            complete: holdings.complete(),
            held_pieces: holdings.readable().held(),
            unchecked_pieces: holdings.unchecked().held(),
            pieces: self.layout.count(),
            bytes: holdings.bytes(&self.layout),
            last_use: self.last_use(),
            pinned: self.pinned(),
            in_use: self.holders.any(),
        }
    }

    pub(crate) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    pub(crate) fn pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    pub(crate) const fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Nobody holds the blob any more: its file need not stay open.
    pub(crate) fn rest(&self) {
        self.data.close();
    }

    pub(crate) fn gone(&self) -> StoreError {
        StoreError::Gone { digest: self.digest }
    }

    pub(crate) fn with_data<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&dyn DiskFile) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let outcome = self.data.with(self.holders.any(), work).ok_or_else(|| self.gone())?;
        outcome.on(operation, self.data.path())
    }
}
