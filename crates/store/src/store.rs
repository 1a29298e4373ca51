//! The store as a whole: opening, admission, removal, closing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use shoal_blob::{Digest, Layout, PieceSet};

use crate::{
    Blob, Departure, Disk, Full, Holding, InUse, LocalDisk, Manifest, ManifestError, RememberedTag, StoreConfig,
    StoreError, Usage,
    blob::Papers,
    evict::{Hook, choose},
    folder::Folder,
    index::{Index, Table},
    ledger::Ledger,
    manifest::Manifests,
    place::{Door, On, Place},
    record::Record,
    resume::resume,
    sidecar::Sidecar,
    tag::Tags,
};

/// Where the index has the stamp of the last stop that was in order; the clean mark has the same.
const LAST_STOP: &[u8] = b"last";

/// The blobs, manifests and tags of one daemon. A clone is another handle to the same store.
///
/// The folder stays locked until all handles and all blobs have been dropped. A store that is dropped without
/// [`Store::close`] has stopped uncleanly: nothing is lost, but partial blobs must be checked again.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: Arc<Place>,
    capacity: AtomicU64,
    min_free: AtomicU64,
    /// Whoever changes which blobs are here: one at a time. The ledger itself is locked only for a look or a stroke.
    admission: Mutex<()>,
    ledger: Mutex<Ledger>,
    hook: RwLock<Option<Hook>>,
    manifests: Manifests,
    tags: Tags,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.inner.place.folder.dir()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a folder, or makes one. Blocks: it lists the files and, after an unclean stop, reads all sidecars. If
    /// what is here has more than the capacity, or leaves too little free, the least recently used goes.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it; [`StoreError::Io`], [`StoreError::Index`]. An index that does not
    /// open is set aside and rebuilt: that is not an error.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(LocalDisk), config)
    }

    /// The same on a disk of the caller's.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, config: &StoreConfig) -> Result<Self, StoreError> {
        let (folder, lock) = Folder::lock(&config.dir)?;
        let mark = folder.take_clean_mark().on("take the clean mark of", &config.dir)?;
        let index = Index::open_or_set_aside(&folder.index(), config.index_cache)?;
        // An index of another moment, from a backup or of a disk that lost its end, is believed no more than after a crash.
        let clean = mark.is_some() && index.get(Table::Stops, LAST_STOP)? == mark;
        let place = Arc::new(Place::new(disk, folder, index, lock));
        let ledger = Mutex::new(resume(&place, clean)?);
        let manifests = Manifests::open(place.clone())?;
        let tags = Tags::open(place.clone())?;
        let (capacity, min_free) = (config.capacity.into(), config.min_free.into());
        let (admission, hook) = (Mutex::new(()), RwLock::new(None));
        let store =
            Self { inner: Arc::new(Inner { place, capacity, min_free, admission, ledger, hook, manifests, tags }) };
        let usage = store.usage();
        tracing::info!(dir = ?config.dir, clean, blobs = usage.blobs, complete = usage.complete, "opened the store");
        if let Err(error) = store.relieve() {
            tracing::warn!(%error, "the store has more than it should, and it cannot go");
        }
        Ok(store)
    }

    /// Has `hook` called with each blob that is about to leave, before its file goes: so that others can be told first. It must
    /// be quick and must not change anything in the store. One hook; a second one takes the place of the first.
    pub fn on_departure(&self, hook: impl Fn(&Digest, Departure) + Send + Sync + 'static) {
        *self.inner.hook.write() = Some(Arc::new(hook));
    }

    /// A blob that is here, in whatever state.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Arc<Blob>> {
        self.inner.ledger.lock().get(digest).cloned()
    }

    /// The same, kept from being evicted.
    #[must_use]
    pub fn hold(&self, digest: &Digest) -> Option<InUse> {
        self.blob(digest).and_then(InUse::new)
    }

    /// Gives a blob its place, or finds it, and holds it. A new one has its whole length of the capacity from now on; if there
    /// is no room, least recently used blobs go first. Blocks for a few syncs, and for as long as removing files takes.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not enough can go (then nothing has gone), [`StoreError::OtherLayout`], [`StoreError::Io`],
    /// [`StoreError::Closed`]. Nothing is reserved then.
    pub fn admit(&self, digest: &Digest, layout: Layout) -> Result<InUse, StoreError> {
        let _open = self.inner.place.enter()?;
        if let Some(held) = self.hold(digest) {
            return of_layout(held, layout);
        }
        let _turn = self.inner.admission.lock();
        if let Some(held) = self.hold(digest) {
            return of_layout(held, layout);
        }
        self.make_room(layout.length())?;
        let blob = Arc::new(self.make(*digest, layout)?);
        let held = InUse::new(blob.clone()).ok_or_else(|| blob.gone())?;
        self.inner.ledger.lock().enter(blob);
        Ok(held)
    }

    /// Makes the files of a blob. On an error none of them is left.
    fn make(&self, digest: Digest, layout: Layout) -> Result<Blob, StoreError> {
        let place = &self.inner.place;
        let (data, sidecar) = (place.folder.data(&digest), place.folder.sidecar(&digest));
        let made = || -> Result<Blob, StoreError> {
            let shelf = place.folder.make_shelf(&digest).on("make the folder of", &data)?;
            let papers = Sidecar::create(place.disk.clone(), sidecar.clone(), digest, layout).on("make", &sidecar)?;
            place.disk.create(&data).and_then(|file| file.set_length(layout.length())).on("make", &data)?;
            place.disk.sync_folder(&shelf).on("sync", &shelf)?;
            let none = PieceSet::none_of(&layout);
            let mut record = Record::new(&layout, false, none.clone(), none);
            record.last_use = place.clock.now();
            let indexed = place.index_blob(&digest, &record);
            let blob = Blob::new(place.clone(), digest, layout, &record, Papers { sidecar: Some(papers) });
            if !indexed {
                blob.holdings.lock().set_changed();
            }
            Ok(blob)
        };
        made().inspect_err(|_| {
            for path in [&sidecar, &data] {
                // Not there, or found and removed at the next start.
                let _ = place.disk.remove(path);
            }
        })
    }

    /// Evicts until there is room for `needed` bytes more. The caller has the turn.
    fn make_room(&self, needed: u64) -> Result<(), StoreError> {
        loop {
            let all = self.list();
            let room = self.room(needed, &all)?;
            let gone = choose(all.iter().map(Holding::candidate).collect(), room).map_err(Box::new)?;
            if gone.is_empty() {
                return Ok(());
            }
            for digest in gone {
                // One that is held since it was chosen stays; the next round chooses another.
                if let Some(blob) = self.blob(&digest).filter(|blob| blob.holders().leave_if_free()) {
                    self.depart(&blob, Departure::Evicted);
                }
            }
        }
    }

    fn room(&self, needed: u64, all: &[Holding]) -> Result<Full, StoreError> {
        let Inner { place, capacity, min_free, ledger, .. } = &*self.inner;
        let disk_free =
            place.disk.free_bytes(place.folder.dir()).on("ask for the free space of", place.folder.dir())?;
        let unwritten = all.iter().map(|one| one.length - one.bytes).sum();
        let reserved = ledger.lock().reserved();
        let (capacity, min_free) = (capacity.load(Ordering::Relaxed), min_free.load(Ordering::Relaxed));
        Ok(Full { needed, capacity, reserved, disk_free, unwritten, min_free, held: 0, pinned: 0 })
    }

    /// Takes a blob, which nobody can hold any more, off the disk. The caller has the turn.
    fn depart(&self, blob: &Blob, why: Departure) {
        let hook = self.inner.hook.read().clone();
        if let Some(hook) = hook {
            hook(blob.digest(), why);
        }
        tracing::info!(digest = %blob.digest(), bytes = blob.layout().length(), ?why, "a blob leaves the store");
        blob.vanish();
        self.inner.ledger.lock().strike(blob.digest());
    }

    /// Changes the capacity and the space that must stay free; what is beyond them goes with the next [`Store::relieve`] or
    /// admission.
    pub fn set_limits(&self, capacity: u64, min_free: u64) {
        self.inner.capacity.store(capacity, Ordering::Relaxed);
        self.inner.min_free.store(min_free, Ordering::Relaxed);
    }

    /// Evicts until the capacity and the space that must stay free are kept again: for a disk that others fill. Blocks for as
    /// long as removing files takes.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not enough can go (then nothing has gone), [`StoreError::Io`], [`StoreError::Closed`].
    pub fn relieve(&self) -> Result<(), StoreError> {
        let _open = self.inner.place.enter()?;
        let _turn = self.inner.admission.lock();
        self.make_room(0)
    }

    /// Removes a blob that nobody holds. Returns whether it was here. Blocks for as long as removing the file takes.
    ///
    /// # Errors
    /// [`StoreError::Held`], [`StoreError::Closed`].
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _open = self.inner.place.enter()?;
        let _turn = self.inner.admission.lock();
        let Some(blob) = self.blob(digest) else { return Ok(false) };
        if !blob.holders().leave_if_free() {
            return Err(StoreError::Held { digest: *digest });
        }
        self.depart(&blob, Departure::Removed);
        Ok(true)
    }

    /// Removes a blob whoever holds it, with its claims: its chain proved wrong and nothing of it is worth keeping. Returns
    /// whether it was here. Calls on it answer [`StoreError::Gone`] from then on. Blocks until those under way have ended.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn discard(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _open = self.inner.place.enter()?;
        let _turn = self.inner.admission.lock();
        let Some(blob) = self.blob(digest) else { return Ok(false) };
        blob.holders().leave();
        self.depart(&blob, Departure::Discarded);
        Ok(true)
    }

    /// All blobs, in the order of their digests.
    #[must_use]
    pub fn list(&self) -> Vec<Holding> {
        let all = self.inner.ledger.lock().all();
        let mut list: Vec<_> = all.iter().map(|blob| blob.holding()).collect();
        list.sort_unstable_by_key(|one| one.digest);
        list
    }

    /// How full the store is. Short, but proportional to the number of blobs.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let Inner { place, capacity, ledger, manifests, .. } = &*self.inner;
        let (reserved, all) = {
            let ledger = ledger.lock();
            (ledger.reserved(), ledger.all())
        };
        let (manifests, manifest_bytes) = manifests.usage();
        let mut usage = Usage {
            capacity: capacity.load(Ordering::Relaxed),
            reserved,
            manifests,
            manifest_bytes,
            ..Usage::default()
        };
        usage.disk_free = place.disk.free_bytes(place.folder.dir()).unwrap_or(0);
        for blob in all {
            let holding = blob.holding();
            usage.stored += holding.bytes;
            usage.blobs += 1;
            usage.complete += u64::from(holding.complete);
        }
        usage
    }

    /// Keeps a manifest, after checking it against its digest. At most 64 MiB are kept; the least recently used goes.
    ///
    /// # Errors
    /// [`ManifestError`]: too long, not what the digest names, or not written.
    pub fn put_manifest(&self, digest: &Digest, content_type: &str, bytes: &[u8]) -> Result<(), ManifestError> {
        self.inner.manifests.put(digest, content_type, bytes)
    }

    /// A manifest, checked against its digest once more.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        self.inner.manifests.get(digest)
    }

    /// Remembers what the registry has just said a tag means. At most 8,192 are remembered; the oldest go. `repository` is the
    /// whole name, with its registry; a name of over 1 KiB is not remembered.
    ///
    /// # Errors
    /// [`StoreError::Index`], [`StoreError::Closed`].
    pub fn remember_tag(&self, repository: &str, tag: &str, digest: &Digest) -> Result<(), StoreError> {
        self.inner.tags.remember(repository, tag, digest)
    }

    /// What a tag meant when the registry was last asked.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn tag(&self, repository: &str, tag: &str) -> Result<Option<RememberedTag>, StoreError> {
        self.inner.tags.recall(repository, tag)
    }

    /// Writes the index down as it is now. It does not sync data: only a complete blob or a clean stop promises that. Blocks.
    ///
    /// # Errors
    /// The first [`StoreError::Io`] or [`StoreError::Index`]; what could be written was.
    pub fn flush(&self) -> Result<(), StoreError> {
        let _open = self.inner.place.enter()?;
        self.write_all_records(|_| Ok(()))
    }

    /// Ends the store in order: syncs all data, writes the index, and marks the stop as clean. Blocks until calls under way
    /// have ended and all data is on disk; later calls that would change something answer [`StoreError::Closed`], reading goes
    /// on. After a success a second call does nothing.
    ///
    /// # Errors
    /// The first [`StoreError::Io`] or [`StoreError::Index`]: the stop counts as unclean, unless a second call succeeds.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut door = self.inner.place.door();
        if *door == Door::MarkedClean {
            return Ok(());
        }
        *door = Door::Closed;
        let Place { folder, index, clock, .. } = &*self.inner.place;
        self.write_all_records(Blob::sync_data)?;
        // Last, so that an index that has the stamp has all that was put before.
        let stamp = clock.now().to_le_bytes();
        index.put(Table::Stops, LAST_STOP, stamp.to_vec())?;
        index.flush()?;
        folder.mark_clean(&stamp).on("mark as clean", folder.dir())?;
        *door = Door::MarkedClean;
        Ok(())
    }

    fn write_all_records(&self, first: impl Fn(&Blob) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let all = self.inner.ledger.lock().all();
        let mut outcome = Ok(());
        for blob in all {
            let written = match first(&blob).and(blob.write_record_if_changed()) {
                Err(StoreError::Gone { .. }) => Ok(()),
                written => written,
            };
            outcome = outcome.and(written);
        }
        outcome.and(self.inner.place.index.flush().map_err(StoreError::from))
    }
}

fn of_layout(held: InUse, layout: Layout) -> Result<InUse, StoreError> {
    let here = *held.layout();
    if here == layout {
        return Ok(held);
    }
    Err(StoreError::OtherLayout {
        digest: *held.digest(),
        here: here.length(),
        here_pieces: here.piece_bytes(),
        asked: layout.length(),
        asked_pieces: layout.piece_bytes(),
    })
}
