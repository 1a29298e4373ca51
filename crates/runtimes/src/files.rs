//! Files read whole and written whole.
//!
//! A file that is written is there either as it was or as it should be, whatever happens meanwhile: a new one is written
//! beside it, synced, and renamed over it. It keeps its mode and its owner. A link is followed, not replaced.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Gid, Uid, fchown};
use tempfile::Builder;

use crate::Error;

/// The mode of a file that is made: runtimes may run as somebody else.
const FILE_MODE: u32 = 0o644;
/// The mode of a folder that is made.
const FOLDER_MODE: u32 = 0o755;
/// More than any configuration has.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = Error::io("read", path);
    match fs::metadata(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > MOST_BYTES => {
            return Err(Error::unfit(path, 0, "this has more than 16 MiB, which no configuration has"));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// The names in a folder, sorted; empty where there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        // Nothing that is written here has a name that is not text.
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

/// How many folders, from this one upwards, are missing.
pub(crate) fn missing_folders(folder: &Path) -> usize {
    folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).count()
}

/// Makes a folder in one that exists.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    match fs::create_dir(folder) {
        Ok(()) => {
            // Whatever the umask says.
            let mode = Permissions::from_mode(FOLDER_MODE);
            fs::set_permissions(folder, mode).map_err(Error::io("set the mode of", folder))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(Error::io("make the folder", folder)(error)),
    }
}

/// Takes a folder away if nothing is in it; says whether it is gone.
pub(crate) fn remove_folder(folder: &Path) -> Result<bool, Error> {
    match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(Error::io("remove the folder", folder)(error)),
    }
}

/// Writes a file whole, in a folder that exists.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let path = &followed(path)?;
    let failed = || Error::io("write", path);
    let folder = folder_of(path);
    let before = match fs::metadata(path) {
        Ok(before) => Some(before),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(failed()(error)),
    };
    let mut new = Builder::new().prefix(".shoal-").tempfile_in(folder).map_err(failed())?;
    let mode = before.as_ref().map_or(FILE_MODE, |before| before.mode() & 0o7777);
    new.write_all(text.as_bytes()).map_err(failed())?;
    if let Some(before) = &before {
        let own = new.as_file().metadata().map_err(failed())?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            let owner = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
            fchown(new.as_file(), Some(owner.0), Some(owner.1)).map_err(|error| failed()(error.into()))?;
        }
    }
    // After the owner, a change of which takes bits away.
    new.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed())?;
    new.as_file().sync_all().map_err(failed())?;
    new.persist(path).map_err(|error| failed()(error.error))?;
    sync_folder(folder)
}

/// Takes a file away.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::io("remove", path))?;
    sync_folder(folder_of(path))
}

/// The file that a link leads to in the end.
fn followed(path: &Path) -> Result<PathBuf, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path).map_err(Error::io("follow the link", path)),
        _ => Ok(path.to_owned()),
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync the folder", folder))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_keeps_its_mode_and_a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(list(dir.path()).unwrap(), ["file", "link"], "nothing else is left");
    }

    #[test]
    fn a_file_keeps_its_owner() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::chown(&file, Some(1234), Some(4321)).unwrap();
        write(&file, "new").unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
    }

    #[test]
    fn only_empty_folders_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b"));
        assert_eq!(missing_folders(&inner), 2);
        make_folder(&outer).unwrap();
        make_folder(&inner).unwrap();
        assert_eq!(missing_folders(&inner), 0);
        assert!(!remove_folder(&outer).unwrap());
        assert!(remove_folder(&inner).unwrap() && remove_folder(&outer).unwrap());
        assert_eq!(read(&inner).unwrap(), None);
    }
}
