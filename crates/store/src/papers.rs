//! What is written down about a blob: claims, the proven chain, and the index's record.
//!
//! The order that makes a blob complete: its data is synced, then the proven chain is appended and synced, then the index
//! says so. After a loss of power each of them is true if it is there.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use shoal_blob::{PieceSet, ProvenChain};

use crate::{Blob, StoreError, blob::Papers, index::Table, place::On, sidecar::Sidecar};

/// A sidecar may have this many bytes for its claims, and [`CLAIM_BYTES_PER_PIECE`] for each piece.
const CLAIM_BYTES: u64 = 1 << 20;
/// Several signed segments of one midstate each.
const CLAIM_BYTES_PER_PIECE: u64 = 2 << 10;

impl Blob {
    /// Appends something that is needed to check pieces again: a signed segment of the chain. Opaque here. Short; it is synced
    /// before a piece that was put later is indexed.
    ///
    /// # Errors
    /// [`StoreError::TooManyClaims`] beyond 1 MiB and 2 KiB a piece; [`StoreError::Io`], after which it is not there;
    /// [`StoreError::Gone`], [`StoreError::Closed`].
    pub fn append_claim(&self, claim: &[u8]) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        self.with_sidecar("append a claim to", |sidecar| {
            let bytes = sidecar.length_with([claim]);
            self.within_claims(bytes)?;
            sidecar.append_claim(claim).on("append a claim to", sidecar.path())
        })
    }

    /// Puts claims in place of all that were there, at once: when one that covers the others has come, or a list has fallen.
    /// Blocks for a sync.
    ///
    /// # Errors
    /// Those of [`Blob::append_claim`]; the old claims stay then.
    pub fn replace_claims(&self, claims: &[Bytes]) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        let _turn = self.recording.lock();
        self.within_claims(claims.iter().map(|claim| claim.len() as u64 + 21).sum())?;
        self.with_sidecar("replace", |sidecar| sidecar.replace_claims(claims).on("replace", sidecar.path()))
    }

    fn within_claims(&self, bytes: u64) -> Result<(), StoreError> {
        let chains = 2 * (u64::from(self.layout().count()) + 1) * self.digest().algorithm().width() as u64;
        let most = CLAIM_BYTES + CLAIM_BYTES_PER_PIECE * u64::from(self.layout().count()) + chains;
        if bytes > most { Err(StoreError::TooManyClaims { digest: *self.digest(), bytes, most }) } else { Ok(()) }
    }

    /// All claims, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Gone`].
    pub fn claims(&self) -> Result<Vec<Bytes>, StoreError> {
        self.with_sidecar("read", |sidecar| sidecar.claims().on("read", sidecar.path()))
    }

    /// The blob's proven chain, if it was ever complete. Read from the sidecar each time: 32 bytes a piece for SHA-256. It
    /// stays when pieces are forgotten or doubted, for it is true of the digest whatever the disk has. A complete blob whose
    /// chain turns out to be damaged is unchecked from then on, and `None` is returned.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Gone`].
    pub fn proven(&self) -> Result<Option<ProvenChain>, StoreError> {
        let chain = self.with_sidecar("read", |sidecar| sidecar.proven().on("read", sidecar.path()))?;
        if chain.is_none() && self.is_complete() {
            // The sidecar was damaged: nothing here says any more what the bytes should be.
            tracing::error!(digest = %self.digest(), "the proven chain is damaged; the blob must be checked again");
            self.doubt(&PieceSet::full(self.layout().count()))?;
        }
        Ok(chain)
    }

    /// Makes the blob complete: from now on it survives any stop. Blocks until its data has been synced.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] while a piece is missing or unchecked, [`StoreError::OtherChain`], [`StoreError::Gone`],
    /// [`StoreError::Closed`]. [`StoreError::Io`] when the data could not be synced (then every piece is unchecked: the
    /// system may have lost what it had not written) or the sidecar not be written (then nothing has changed).
    pub fn complete(&self, chain: &ProvenChain) -> Result<(), StoreError> {
        if chain.digest() != self.digest() || chain.layout() != self.layout() {
            return Err(StoreError::OtherChain { digest: *self.digest(), given: Box::new(*chain.digest()) });
        }
        let _open = self.place.enter()?;
        let _turn = self.recording.lock();
        if self.is_complete() {
            return Ok(());
        }
        if !self.holdings.lock().readable().is_full() {
            return Err(self.incomplete());
        }
        self.sync_data()?;
        self.with_sidecar("append the proven chain to", |sidecar| {
            sidecar.append_proven(chain).on("append the proven chain to", sidecar.path())
        })?;
        if let Err(error) = self.sync_sidecar() {
            // It may be on disk or not; a withdrawal that follows must not find it there.
            let _ = self.retract();
            return Err(error);
        }
        // A piece may have been withdrawn while all that was written.
        if !self.holdings.lock().try_complete() {
            self.retract()?;
            return Err(self.incomplete());
        }
        // The sidecar has said it durably; an index that fails is found out when it is flushed.
        if let Err(error) = self.write_record_in_turn() {
            tracing::warn!(digest = %self.digest(), %error, "a complete blob could not be indexed yet");
        }
        Ok(())
    }

    fn incomplete(&self) -> StoreError {
        let count = self.layout().count();
        StoreError::Incomplete { digest: *self.digest(), missing: count - self.pieces().held(), count }
    }

    /// Says everywhere that the blob is no longer complete, if anything says it is.
    pub(crate) fn note_doubt(&self, was_complete: bool) -> Result<(), StoreError> {
        let _turn = self.recording.lock();
        let claimed = matches!(&*self.papers.lock(), Some(Papers { sidecar: Some(sidecar) }) if sidecar.complete());
        if self.is_complete() || !(was_complete || claimed) {
            return Ok(());
        }
        self.retract()?;
        self.write_record_in_turn()
    }

    fn retract(&self) -> Result<(), StoreError> {
        self.with_sidecar("append a doubt to", |sidecar| {
            if sidecar.complete() { sidecar.append_doubt().on("append a doubt to", sidecar.path()) } else { Ok(()) }
        })?;
        self.sync_sidecar()
    }

    /// Syncs the pieces that are here, unless somebody is about to: so that little is left to sync when the last one has come,
    /// for which readers wait. Blocks as long as the disk needs.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails: the pieces are unchecked then. [`StoreError::Gone`], [`StoreError::Closed`].
    pub fn sync_ahead(&self) -> Result<(), StoreError> {
        let _open = self.place.enter()?;
        // Whoever completes the blob waits for this turn to end, and so for the sync.
        let Some(_turn) = self.recording.try_lock() else { return Ok(()) };
        self.sync_data()
    }

    /// Syncs the data, if something was written since the last time. After a failure nothing in the file is trusted.
    pub(crate) fn sync_data(&self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.holdings.lock().unsynced) {
            return Ok(());
        }
        self.with_data("sync", |file| file.sync()).inspect_err(|_| {
            let mut holdings = self.holdings.lock();
            holdings.unsynced = true;
            holdings.doubt(&PieceSet::full(self.layout().count()));
        })
    }

    /// Tells the index, unless somebody is about to.
    pub(crate) fn record_if_free(&self) {
        let Some(_turn) = self.recording.try_lock() else { return };
        if let Err(error) = self.write_record_in_turn() {
            tracing::warn!(digest = %self.digest(), %error, "pieces could not be indexed; they are found when checked again");
        }
    }

    /// Tells the index of what it does not know yet.
    pub(crate) fn write_record_if_changed(&self) -> Result<(), StoreError> {
        let changed = self.holdings.lock().changed() || self.recorded_use.load(Ordering::Relaxed) != self.last_use();
        if changed { self.write_record() } else { Ok(()) }
    }

    pub(crate) fn write_record(&self) -> Result<(), StoreError> {
        let _turn = self.recording.lock();
        self.write_record_in_turn()
    }

    /// What is snapshot first and synced then is never ahead of the claims it needs.
    fn write_record_in_turn(&self) -> Result<(), StoreError> {
        let mut record = self.holdings.lock().record(self.layout());
        (record.last_use, record.pinned) = (self.last_use(), self.pinned());
        let synced = self.sync_sidecar();
        let papers = self.papers.lock();
        if papers.is_none() {
            return Err(self.gone());
        }
        let written = synced
            .and_then(|()| Ok(self.place.index.put(Table::Blobs, self.digest().as_bytes(), record.to_bytes())?));
        match &written {
            Ok(()) => self.recorded_use.store(record.last_use, Ordering::Relaxed),
            Err(_) => self.holdings.lock().set_changed(),
        }
        written
    }

    /// Syncs the sidecar without keeping anybody from appending to it, unless it has to be written anew.
    fn sync_sidecar(&self) -> Result<(), StoreError> {
        let path = self.place.folder.sidecar(self.digest());
        let due = match &mut *self.papers.lock() {
            Some(Papers { sidecar: Some(sidecar) }) => {
                sidecar.renew_if_suspect().on("write anew", &path)?;
                sidecar.take_unsynced()
            }
            _ => false,
        };
        if !due {
            return Ok(());
        }
        self.place.disk.open(&path).and_then(|file| file.sync()).on("sync", &path).inspect_err(|_| {
            if let Some(Papers { sidecar: Some(sidecar) }) = &mut *self.papers.lock() {
                sidecar.set_suspect();
            }
        })
    }

    fn with_sidecar<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Sidecar) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut papers = self.papers.lock();
        let papers = papers.as_mut().ok_or_else(|| self.gone())?;
        let sidecar = match papers.sidecar.take() {
            Some(sidecar) => sidecar,
            None => {
                let path = self.place.folder.sidecar(self.digest());
                open_or_renew(self, &path).on(operation, &path)?
            }
        };
        work(papers.sidecar.insert(sidecar))
    }

    /// Takes the blob out of the index and off the disk, whoever uses it. The sidecar goes first, durably: data without one is
    /// removed when the store is opened, and no proof of a loss of power may come back beside data that is new.
    pub(crate) fn vanish(&self) {
        let _turn = self.recording.lock();
        self.data.vanish();
        *self.papers.lock() = None;
        self.holdings.lock().forget(&PieceSet::full(self.layout().count()));
        let unindexed = self.place.index.remove(Table::Blobs, self.digest().as_bytes());
        let sidecar = self.place.folder.sidecar(self.digest());
        let shelf = self.place.folder.shelf(self.digest());
        let removed = self.place.disk.remove(&sidecar).on("remove", &sidecar);
        let removed = removed.and(self.place.disk.sync_folder(&shelf).on("sync", &shelf));
        let removed = removed.and(self.place.disk.remove(self.data.path()).on("remove", self.data.path()));
        if let Err(error) = unindexed.map_err(StoreError::from).and(removed) {
            tracing::error!(digest = %self.digest(), %error, "a blob could not be removed whole; the next start tries again");
        }
    }
}

/// A sidecar that was damaged beyond its head is made anew from what the index knew: its claims are lost, not the blob.
fn open_or_renew(blob: &Blob, path: &std::path::Path) -> std::io::Result<Sidecar> {
    let (disk, path) = (&blob.place.disk, path.to_owned());
    match Sidecar::load(disk.clone(), path.clone(), *blob.digest()) {
        Ok(Some(sidecar)) if sidecar.layout() == *blob.layout() => Ok(sidecar),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Sidecar::create_again(disk.clone(), path, *blob.digest(), *blob.layout()),
    }
}
