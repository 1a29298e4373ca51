//! A node's configuration in a folder of its own.
// Each test uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use shoal_runtimes::{Containerd, Crio, Mirror, Registry, Version};
use tempfile::TempDir;

/// The folder, in texts: wherever it is, they are the same.
const ROOT: &str = "/ROOT";

/// Files by their names, with `ROOT` for the folder.
pub(crate) type Tree = BTreeMap<String, String>;

/// Everything in a folder: mode, and the bytes of files or the target of links.
pub(crate) type Snapshot = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// A node.
pub(crate) struct House {
    dir: TempDir,
}

impl House {
    /// With these files.
    pub(crate) fn new(files: &Tree) -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            this.add(name, text, 0o644);
        }
        this
    }

    /// One more file.
    pub(crate) fn add(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace(ROOT, self.dir.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// One more folder.
    pub(crate) fn add_folder(&self, name: &str, mode: u32) {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// A file's real path.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its containerd.
    pub(crate) fn containerd(&self, version: Option<Version>) -> Containerd {
        Containerd { config_path: self.path("certs.d"), config: self.path("config.toml"), version }
    }

    /// Its CRI-O.
    pub(crate) fn crio(&self) -> Crio {
        Crio { registries_conf: self.path("registries.conf"), drop_ins: self.path("registries.conf.d") }
    }

    /// The files.
    pub(crate) fn tree(&self) -> Tree {
        let name = |path: &Path| path.to_str().unwrap().to_owned();
        let files = self.snapshot().into_iter().filter(|(path, _)| self.dir.path().join(path).is_file());
        files.map(|(path, (_, bytes))| (name(&path), self.shown(&String::from_utf8(bytes).unwrap()))).collect()
    }

    /// Everything.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        walk(self.dir.path(), self.dir.path(), &mut snapshot);
        snapshot
    }

    /// A text with `ROOT` for the folder.
    pub(crate) fn shown(&self, text: &str) -> String {
        text.replace(self.dir.path().to_str().unwrap(), ROOT)
    }
}

fn walk(root: &Path, folder: &Path, snapshot: &mut Snapshot) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let bytes = if metadata.is_file() {
            fs::read(&path).unwrap()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            walk(root, &path, snapshot);
            Vec::new()
        };
        snapshot.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode(), bytes));
    }
}

/// Registries by their names.
pub(crate) fn registries(names: &[&str]) -> Vec<Registry> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Where Shoal listens unless told otherwise.
pub(crate) fn mirror() -> Mirror {
    "http://127.0.0.1:5050".parse().unwrap()
}
