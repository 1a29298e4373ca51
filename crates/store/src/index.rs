//! The index on disk: four tables of bytes. Nothing outside this file knows which database keeps them.
//!
//! The index is a convenience: what it says about blobs can be found again from their files. So one that cannot be read is
//! set aside, and the database's panics are errors like any other.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::io::Errno;

/// How many broken indexes are kept for whoever wants to know what happened.
const BROKEN_KEPT: u64 = 3;
/// How long a lock is waited for that a forked process is about to let go.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(3);
/// How often the database writes to disk what it was given, in milliseconds.
const FLUSH_EVERY_MS: u64 = 500;

/// The index could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "could not {operation} the index {path:?}: {reason}; when the store is opened again it is rebuilt from the data"
)]
pub struct IndexError {
    /// What was tried.
    pub operation: &'static str,
    /// Where the index is.
    pub path: PathBuf,
    /// What the database said.
    pub reason: String,
    fault: Fault,
}

/// What kind of trouble it is, and so what to do when the index does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// What is on disk is damaged: set it aside.
    Broken,
    /// The system refuses for now: the index may be sound, and the operator has to act.
    Refused,
    /// The database's own lock is still taken. Nobody else can have the store, so it is a process that was forked from this one
    /// and has not yet let go of its copy: wait.
    Busy,
}

/// What the index keeps, each under keys of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Blobs,
    Manifests,
    Tags,
    Stops,
}

#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    /// There until this is dropped.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    db: sled::Db,
    tables: [sled::Tree; 4],
}

/// The database writes when it is closed, and panics where that fails.
impl Drop for Index {
    fn drop(&mut self) {
        let open = self.open.take();
        let close = || {
            drop(open);
            Ok(())
        };
        if let Err(error) = guarded("close", &self.path, close) {
            tracing::error!(%error, "the index was not closed in order");
        }
    }
}

impl Index {
    /// Opens the index, or makes one. One that does not open, or that cannot be read to its end, is set aside as
    /// `<path>.broken-<n>` and an empty one made.
    pub(crate) fn open_or_set_aside(path: &Path, cache: u64) -> Result<Self, IndexError> {
        let asked = Instant::now();
        let broken = loop {
            match Self::open(path, cache) {
                Err(error) if error.fault == Fault::Busy && asked.elapsed() < WAIT_FOR_LOCK => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) if error.fault == Fault::Broken => break error,
                other => return other,
            }
        };
        let failed = |error: io::Error| IndexError {
            operation: "set aside",
            path: path.to_owned(),
            reason: format!("{error}, after: {}", broken.reason),
            fault: Fault::Refused,
        };
        let aside = set_aside(path).map_err(failed)?;
        tracing::error!(index = ?path, ?aside, error = %broken, "the index was broken and is rebuilt from the data");
        Self::open(path, cache)
    }

    fn open(path: &Path, cache: u64) -> Result<Self, IndexError> {
        let index = guarded("open", path, || {
            // The database refuses a cache of less than 256 bytes.
            let config = sled::Config::new().path(path).cache_capacity(cache.max(64 << 10));
            let db = config.flush_every_ms(Some(FLUSH_EVERY_MS)).open()?;
            let [blobs, manifests, tags, stops] =
                ["blobs", "manifests", "tags", "stops"].map(|name| db.open_tree(name));
            let open = Open { db, tables: [blobs?, manifests?, tags?, stops?] };
            Ok(Self { path: path.to_owned(), open: Some(open) })
        })?;
        for table in [Table::Blobs, Table::Manifests, Table::Tags, Table::Stops] {
            index.scan(table, |_, _| ())?;
        }
        Ok(index)
    }

    fn open_one(&self) -> &Open {
        self.open.as_ref().expect("it is taken only when the index is dropped")
    }

    fn table(&self, table: Table) -> &sled::Tree {
        &self.open_one().tables[table as usize]
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded("read", &self.path, || Ok(self.table(table).get(key)?.map(|value| value.to_vec())))
    }

    pub(crate) fn put(&self, table: Table, key: &[u8], value: Vec<u8>) -> Result<(), IndexError> {
        guarded("write", &self.path, || self.table(table).insert(key, value).map(drop))
    }

    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<(), IndexError> {
        guarded("write", &self.path, || self.table(table).remove(key).map(drop))
    }

    /// Shows every key with its value, in the order of the keys.
    pub(crate) fn scan(&self, table: Table, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), IndexError> {
        guarded("read", &self.path, || {
            for entry in self.table(table) {
                let (key, value) = entry?;
                each(&key, &value);
            }
            Ok(())
        })
    }

    /// Returns once all that was put is on disk.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        guarded("flush", &self.path, || self.open_one().db.flush().map(drop))
    }
}

/// The database panics on some kinds of damage; a daemon must not.
fn guarded<T>(
    operation: &'static str,
    path: &Path,
    call: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, IndexError> {
    let failed = |reason: String, fault| IndexError { operation, path: path.to_owned(), reason, fault };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(outcome) => outcome.map_err(|error| failed(error.to_string(), fault_of(&error))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(failed(format!("the database panicked: {}", text.unwrap_or("without a word")), Fault::Broken))
        }
    }
}

fn fault_of(error: &sled::Error) -> Fault {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let sled::Error::Io(error) = error else { return Fault::Broken };
    let too_many_files = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    match error.kind() {
        StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem | OutOfMemory => Fault::Refused,
        _ if too_many_files.contains(&error.raw_os_error()) => Fault::Refused,
        _ if error.to_string().starts_with("could not acquire lock") => Fault::Busy,
        _ => Fault::Broken,
    }
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let stem = format!("{}.broken-", path.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_string_lossy().strip_prefix(&stem).and_then(|n| n.parse::<u64>().ok()));
    }
    let next = numbers.iter().max().map_or(1, |last| last.saturating_add(1));
    for old in numbers.into_iter().filter(|number| number.saturating_add(BROKEN_KEPT) <= next) {
        let old = folder.join(format!("{stem}{old}"));
        fs::remove_dir_all(&old).or_else(|_| fs::remove_file(&old))?;
    }
    let aside = folder.join(format!("{stem}{next}"));
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::open_or_set_aside(&path, 0).unwrap();
        index.put(Table::Tags, b"a", b"1".to_vec()).unwrap();
        index.put(Table::Blobs, b"a", b"2".to_vec()).unwrap();
        index.remove(Table::Blobs, b"a").unwrap();
        index.flush().unwrap();
        drop(index);
        let index = Index::open_or_set_aside(&path, 0).unwrap();
        assert_eq!(index.get(Table::Tags, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(index.get(Table::Blobs, b"a").unwrap(), None);
    }

    #[test]
    fn a_full_disk_is_not_a_broken_index() {
        let of = |errno| fault_of(&sled::Error::Io(io::Error::from_raw_os_error(errno)));
        assert_eq!([28, 13, 24].map(of), [Fault::Refused; 3]);
        assert_eq!(of(5), Fault::Broken);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::open_or_set_aside(&path, 0).unwrap();
        assert_eq!(Index::open(&path, 0).unwrap_err().fault, Fault::Busy);
        drop(index);
    }

    #[test]
    fn a_panic_is_an_error() {
        let error = guarded::<()>("read", Path::new("x"), || panic!("impossible {}", 7)).unwrap_err();
        assert!(error.reason.contains("impossible 7"), "{error}");
    }

    #[test]
    fn keeps_three_broken_ones_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        for _ in 0..6 {
            fs::write(&path, "no database").unwrap();
            drop(Index::open_or_set_aside(&path, 0).unwrap());
            fs::remove_dir_all(&path).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["index.broken-4", "index.broken-5", "index.broken-6"]);
    }
}
