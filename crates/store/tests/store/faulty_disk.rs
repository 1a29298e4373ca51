//! A disk that fills up, fails, and forgets what was not synced.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
};

use shoal_faulty_disk::{Change, Unsynced};
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
    /// What may yet be lost of each file that was changed.
    unsynced: Mutex<HashMap<PathBuf, Unsynced>>,
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
            unsynced: Mutex::default(),
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
        self.lose_power_but(|| false);
    }

    /// A loss of power that leaves, of what was not synced, the changes of which `keep` says so, whatever their order: it is
    /// asked once for each 512 bytes of each. The store must have been dropped.
    pub(crate) fn lose_power_but(&self, mut keep: impl FnMut() -> bool) {
        let mut files: Vec<_> = self.0.unsynced.lock().unwrap().drain().collect();
        // In an order that is the same each time, so that a case that fails can be run again.
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, unsynced) in files {
            write_anew(&path, &unsynced.after_a_loss(&mut keep));
        }
    }

    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { faults: self.0.clone(), path: path.to_owned(), file })
    }
}

/// Writes a file's content, with holes where it is nothing but zeros.
fn write_anew(path: &Path, content: &[u8]) {
    const BLOCK: usize = 4096;
    let file = LocalDisk.open(path).unwrap();
    file.set_length(0).unwrap();
    file.set_length(content.len() as u64).unwrap();
    for (block, number) in content.chunks(BLOCK).zip(0u64..) {
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(block, number * BLOCK as u64).unwrap();
        }
    }
}

impl Faults {
    /// Notes a change that is about to be made to a file.
    fn note(&self, path: &Path, file: &dyn DiskFile, change: Change) -> io::Result<()> {
        let mut all = self.unsynced.lock().unwrap();
        if !all.contains_key(path) {
            let mut content = vec![0; file.length()? as usize];
            file.read_exact_at(&mut content, 0)?;
            all.insert(path.to_owned(), Unsynced::of(content));
        }
        if let Some(unsynced) = all.get_mut(path) {
            unsynced.note(change);
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, LocalDisk.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if let Ok(there) = LocalDisk.open(path) {
            self.0.note(path, &*there, Change::Length(0))?;
        }
        Ok(self.wrap(path, LocalDisk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)?;
        let mut unsynced = self.0.unsynced.lock().unwrap();
        unsynced.remove(to);
        if let Some(moved) = unsynced.remove(from) {
            unsynced.insert(to.to_owned(), moved);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.unsynced.lock().unwrap().remove(path);
        LocalDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(path)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.0.free.load(SeqCst))
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.faults.note(&self.path, &*self.file, Change::Length(length))?;
        self.file.set_length(length)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let left = self.faults.writes_left.load(SeqCst);
        let written = if left == 0 { &bytes[..bytes.len() / 2] } else { bytes };
        self.faults.note(&self.path, &*self.file, Change::Write(offset, written.to_vec()))?;
        self.file.write_all_at(written, offset)?;
        if left == 0 {
            return Err(io::Error::from_raw_os_error(self.faults.error.load(SeqCst) as i32));
        }
        self.faults.writes_left.store(left.max(0) - 1, SeqCst);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut all = self.faults.unsynced.lock().unwrap();
        let fails = self.faults.syncs_fail.load(SeqCst);
        if let Some(unsynced) = all.get_mut(&self.path) {
            unsynced.sync(fails);
        }
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    fn forget_memory(&self) -> io::Result<()> {
        let mut all = self.faults.unsynced.lock().unwrap();
        if let Some(unsynced) = all.get_mut(&self.path)
            && let Some(content) = unsynced.forget_dropped()
        {
            write_anew(&self.path, &content);
        }
        Ok(())
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.file.data_from(offset)
    }
}
