//! Where everything lies in the store's folder. Names come from digests alone, never from what somebody sent.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use shoal_blob::{Algorithm, Digest};

use crate::StoreError;

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
}

/// The folder's lock, kept for as long as this is. It is let go by a call of its own: a process that was forked meanwhile has a
/// copy of the file, and closing ours alone would leave it locked.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // It ends with the last copy of the file in any case.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Which files of a blob were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) data: bool,
    pub(crate) sidecar: bool,
}

impl Folder {
    /// Makes the folder where it is missing, closes it to others, and locks it.
    pub(crate) fn lock(dir: &Path) -> Result<(Self, FolderLock), StoreError> {
        let failed = |operation, path: &Path, source| StoreError::Io { operation, path: path.to_owned(), source };
        let this = Self { dir: dir.to_owned() };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed("make the folder", dir, e))?;
        let closed = fs::set_permissions(dir, Permissions::from_mode(0o700));
        closed.map_err(|e| failed("close to other users", dir, e))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(|e| failed("open", &path, e))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Locked { dir: dir.to_owned() }),
            Err(error) => return Err(failed("lock", &path, error.into())),
        }
        let blobs = dir.join("blobs");
        let shelves = [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| this.blobs_of(algorithm));
        for path in &shelves {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("make", path, e))?;
        }
        // A loss of power must not take the folders from around blobs that were synced, whoever made them and when.
        for path in shelves.iter().map(PathBuf::as_path).chain([&*blobs, dir]).chain(dir.parent()) {
            sync_folder(path).map_err(|e| failed("sync", path, e))?;
        }
        Ok((this, FolderLock(lock)))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn blobs_of(&self, algorithm: Algorithm) -> PathBuf {
        self.dir.join("blobs").join(algorithm.name())
    }

    /// The folder of a blob's files.
    pub(crate) fn shelf(&self, digest: &Digest) -> PathBuf {
        self.blobs_of(digest.algorithm()).join(&digest.hex()[..2])
    }

    pub(crate) fn data(&self, digest: &Digest) -> PathBuf {
        self.shelf(digest).join(digest.hex())
    }

    pub(crate) fn sidecar(&self, digest: &Digest) -> PathBuf {
        self.shelf(digest).join(format!("{}.chain", digest.hex()))
    }

    /// Makes the folder of a blob's files, durably.
    pub(crate) fn make_shelf(&self, digest: &Digest) -> io::Result<PathBuf> {
        let shelf = self.shelf(digest);
        match DirBuilder::new().mode(0o700).create(&shelf) {
            // One that stayed would be taken for durable the next time.
            Ok(()) => sync_folder(&self.blobs_of(digest.algorithm())).inspect_err(|_| drop(fs::remove_dir(&shelf)))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(shelf)
    }

    /// All blobs of which there is a file. Files that belong to no blob are removed.
    pub(crate) fn find(&self) -> io::Result<BTreeMap<Digest, Found>> {
        let mut all = BTreeMap::<Digest, Found>::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for shelf in fs::read_dir(self.blobs_of(algorithm))? {
                let shelf = shelf?;
                if !shelf.file_type()?.is_dir() {
                    fs::remove_file(shelf.path())?;
                    continue;
                }
                for entry in fs::read_dir(shelf.path())? {
                    let entry = entry?;
                    let name = entry.file_name();
                    let (hex, sidecar) = split(&name);
                    let digest = format!("{}:{hex}", algorithm.name()).parse::<Digest>();
                    match digest.ok().filter(|_| hex.get(..2).is_some_and(|two| *two == *shelf.file_name())) {
                        Some(digest) => {
                            let found = all.entry(digest).or_default();
                            *(if sidecar { &mut found.sidecar } else { &mut found.data }) = true;
                        }
                        None if entry.file_type()?.is_dir() => {}
                        None => fs::remove_file(entry.path())?,
                    }
                }
            }
        }
        Ok(all)
    }

    /// The stamp of the last stop, if the store was closed in order. Until [`Folder::mark_clean`] it counts as not.
    pub(crate) fn take_clean_mark(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.dir.join("clean");
        match fs::read(&path) {
            Ok(stamp) => {
                fs::remove_file(path)?;
                sync_folder(&self.dir).map(|()| Some(stamp))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that everything was synced and nothing follows, with the stamp that the index has of this stop.
    pub(crate) fn mark_clean(&self, stamp: &[u8]) -> io::Result<()> {
        let mut mark = File::create(self.dir.join("clean"))?;
        mark.write_all(stamp)?;
        mark.sync_all()?;
        sync_folder(&self.dir)
    }
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

fn split(name: &OsStr) -> (&str, bool) {
    let name = name.to_str().unwrap_or_default();
    name.strip_suffix(".chain").map_or((name, false), |hex| (hex, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_blobs_and_clears_the_rest_away() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _lock) = Folder::lock(&dir.path().join("store")).unwrap();
        let digest = Digest::Sha256([0xab; 32]);
        let shelf = folder.make_shelf(&digest).unwrap();
        fs::write(folder.data(&digest), "x").unwrap();
        fs::write(folder.sidecar(&digest), "x").unwrap();
        let stray = [shelf.join("stray"), shelf.join("ab.chain.new"), shelf.join("cd".repeat(32))];
        for path in &stray {
            fs::write(path, "x").unwrap();
        }
        let found = folder.find().unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(digest, Found { data: true, sidecar: true })]);
        assert!(stray.iter().all(|path| !path.exists()));
        assert_eq!(fs::metadata(folder.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_second_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::lock(dir.path()).unwrap();
        assert!(matches!(Folder::lock(dir.path()), Err(StoreError::Locked { .. })));
        drop(first);
        Folder::lock(dir.path()).unwrap();
    }
}
