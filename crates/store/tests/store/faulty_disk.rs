//! A disk that fills up, fails, and forgets what was not synced.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
};

use shoal_store::{Disk, DiskFile, LocalDisk};

/// The real disk, with faults. A handle to the same faults when cloned.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct Faults {
    /// Writes until one fails; negative for none.
    writes_left: AtomicI64,
    error: AtomicI64,
    syncs_fail: AtomicBool,
    free: AtomicU64,
    /// How to undo what has not been synced, oldest first.
    undo: Mutex<Vec<Undo>>,
}

#[derive(Debug)]
struct Undo {
    path: PathBuf,
    offset: u64,
    before: Vec<u8>,
    length: u64,
}

#[derive(Debug)]
struct FaultyFile {
    faults: Arc<Faults>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EIO: i32 = 5;

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Faults {
            writes_left: AtomicI64::new(-1),
            error: AtomicI64::new(0),
            syncs_fail: AtomicBool::new(false),
            free: AtomicU64::new(u64::MAX),
            undo: Mutex::default(),
        }))
    }

    /// Lets `writes` succeed and every later one fail, after it has written half of its bytes.
    pub(crate) fn fail_after(&self, writes: i64, error: i32) {
        self.0.error.store(i64::from(error), SeqCst);
        self.0.writes_left.store(writes, SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.0.writes_left.store(-1, SeqCst);
        self.0.syncs_fail.store(false, SeqCst);
    }

    pub(crate) fn fail_syncs(&self) {
        self.0.syncs_fail.store(true, SeqCst);
    }

    pub(crate) fn set_free(&self, bytes: u64) {
        self.0.free.store(bytes, SeqCst);
    }

    /// A loss of power: whatever was not synced is as it was before. The store must have been dropped.
    pub(crate) fn lose_power(&self) {
        for undo in self.0.undo.lock().unwrap().drain(..).rev() {
            let file = LocalDisk.open(&undo.path).unwrap();
            file.write_all_at(&undo.before, undo.offset).unwrap();
            file.set_length(undo.length).unwrap();
        }
    }

    fn forget_undo(&self, path: &Path) {
        self.0.undo.lock().unwrap().retain(|undo| undo.path != path);
    }

    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { faults: self.0.clone(), path: path.to_owned(), file })
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, LocalDisk.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.forget_undo(path);
        Ok(self.wrap(path, LocalDisk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.forget_undo(to);
        for undo in self.0.undo.lock().unwrap().iter_mut().filter(|undo| undo.path == from) {
            undo.path = to.to_owned();
        }
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.forget_undo(path);
        LocalDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(path)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.0.free.load(SeqCst))
    }
}

impl FaultyFile {
    fn remember(&self, range: Range<u64>) -> io::Result<()> {
        let length = self.file.length()?;
        let mut before = vec![0; range.end.min(length).saturating_sub(range.start) as usize];
        if !before.is_empty() {
            self.file.read_exact_at(&mut before, range.start)?;
        }
        let undo = Undo { path: self.path.clone(), offset: range.start, before, length };
        self.faults.undo.lock().unwrap().push(undo);
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let now = self.file.length()?;
        self.remember(length.min(now)..now)?;
        self.file.set_length(length)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let left = self.faults.writes_left.load(SeqCst);
        self.remember(offset..offset + bytes.len() as u64)?;
        if left == 0 {
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(self.faults.error.load(SeqCst) as i32));
        }
        self.faults.writes_left.store(left.max(0) - 1, SeqCst);
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.faults.syncs_fail.load(SeqCst) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.file.sync()?;
        self.faults.undo.lock().unwrap().retain(|undo| undo.path != self.path);
        Ok(())
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.file.data_from(offset)
    }
}
