//! What all blobs of a store share: the disk, the folder, the index, and whether the store is still open.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use shoal_blob::Digest;

use crate::{
    Disk, StoreError,
    clock::UseClock,
    folder::{Folder, FolderLock},
    index::{Index, Table},
    record::Record,
};

pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: Folder,
    pub(crate) index: Index,
    pub(crate) clock: UseClock,
    /// Read by whoever changes something, for as long as that takes; written once, by [`crate::Store::close`].
    door: RwLock<Door>,
    /// Declared after the index: the folder stays locked until the index has been closed.
    _lock: FolderLock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Nothing changes any more.
    Closed,
    /// And all of it is on disk.
    MarkedClean,
}

impl Place {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: Folder, index: Index, lock: FolderLock) -> Self {
        Self { disk, folder, index, clock: UseClock::default(), door: RwLock::new(Door::Open), _lock: lock }
    }

    /// Comes in to change something; the store is not closed before the guard goes.
    pub(crate) fn enter(&self) -> Result<RwLockReadGuard<'_, Door>, StoreError> {
        let door = self.door.read();
        match *door {
            Door::Open => Ok(door),
            Door::Closed | Door::MarkedClean => Err(StoreError::Closed { dir: self.folder.dir().to_owned() }),
        }
    }

    /// Tells the index about a blob whose sidecar says enough to do without. Returns whether the index knows; where it does not,
    /// it may still say of the blob what was true before.
    pub(crate) fn index_blob(&self, digest: &Digest, record: &Record) -> bool {
        let outcome = self.index.put(Table::Blobs, digest.as_bytes(), record.to_bytes());
        if let Err(error) = &outcome {
            tracing::warn!(%digest, %error, "a blob could not be indexed yet");
        }
        outcome.is_ok()
    }

    /// Waits until everybody is out.
    pub(crate) fn door(&self) -> RwLockWriteGuard<'_, Door> {
        self.door.write()
    }
}

/// Not the database, which would show all that it has.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("dir", &self.folder.dir()).field("door", &self.door).finish_non_exhaustive()
    }
}

/// Says on what an operation of the system failed.
pub(crate) trait On<T> {
    fn on(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, StoreError>;
}

impl<T> On<T> for io::Result<T> {
    fn on(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { operation, path: PathBuf::from(path.as_ref()), source })
    }
}
