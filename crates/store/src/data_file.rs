//! The file that holds a blob's bytes: open while the blob is in use, opened for one call otherwise, so that a store of many
//! blobs does not have as many files open.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::{Disk, DiskFile};

pub(crate) struct DataFile {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    state: RwLock<State>,
}

enum State {
    Closed,
    Open(Box<dyn DiskFile>),
    /// The blob has left the store; another may have the same path by now.
    Gone,
}

impl DataFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { path, disk, state: RwLock::new(State::Closed) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the file, which does not go meanwhile. `keep` leaves it open behind. `None` when it is gone.
    pub(crate) fn with<T>(
        &self,
        keep: bool,
        work: impl FnOnce(&dyn DiskFile) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let mut state = self.state.read();
        if keep && matches!(*state, State::Closed) {
            drop(state);
            let mut opening = self.state.write();
            if matches!(*opening, State::Closed) {
                match self.disk.open(&self.path) {
                    Ok(file) => *opening = State::Open(file),
                    Err(error) => return Some(Err(error)),
                }
            }
            state = RwLockWriteGuard::downgrade(opening);
        }
        match &*state {
            State::Open(file) => Some(work(&**file)),
            State::Closed => Some(self.disk.open(&self.path).and_then(|file| work(&*file))),
            State::Gone => None,
        }
    }

    /// Closes the file unless somebody is at it.
    pub(crate) fn close(&self) {
        if let Some(mut state) = self.state.try_write()
            && matches!(*state, State::Open(_))
        {
            *state = State::Closed;
        }
    }

    /// Waits until nobody is at the file, closes it, and never opens it again.
    pub(crate) fn vanish(&self) {
        *self.state.write() = State::Gone;
    }
}
