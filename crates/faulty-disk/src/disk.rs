//! The file system, mounted.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rustix::mount::{UnmountFlags, unmount};

use crate::{
    Faults,
    tree::{Kind, ROOT, Tree},
};

/// How long something may stay open that is being closed.
const PATIENCE: Duration = Duration::from_secs(10);
const BLOCK: u32 = 4096;
/// Nothing that was looked up is remembered by the kernel: a loss of power would not reach it.
const FORGET: Duration = Duration::ZERO;

/// A disk in memory, mounted on a folder or not. Unmounted when dropped.
pub struct FaultyDisk {
    folder: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

#[derive(Debug)]
struct Shared {
    tree: Mutex<Tree>,
    faults: Faults,
}

impl FaultyDisk {
    /// Why nothing can be mounted on this machine, if that is so.
    #[must_use]
    pub fn missing() -> Option<&'static str> {
        if !Path::new("/dev/fuse").exists() {
            Some("there is no /dev/fuse")
        } else if !rustix::process::geteuid().is_root() {
            Some("mounting needs root")
        } else {
            None
        }
    }

    /// An empty disk on a folder that is there.
    ///
    /// # Errors
    /// When the system does not mount it.
    pub fn mount(folder: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared { tree: Mutex::new(Tree::new()), faults: Faults::default() });
        let mut disk = Self { folder: folder.to_owned(), shared, session: None };
        disk.mount_again()?;
        Ok(disk)
    }

    fn mount_again(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("faulty-disk".to_owned()), MountOption::DefaultPermissions];
        self.session = Some(fuser::spawn_mount(Mounted(self.shared.clone()), &self.folder, &config)?);
        Ok(())
    }

    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Where it is mounted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A loss of power: what is left of all that was not synced is what `keep` says, which is asked once for each change of a
    /// name and each 512 bytes that were written. All is well with the disk then. Nothing may be open in it.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted.
    pub fn lose_power(&mut self, mut keep: impl FnMut() -> bool) -> io::Result<()> {
        self.unmount()?;
        self.shared.tree.lock().lose_power(&mut keep);
        self.shared.faults.heal();
        self.mount_again()
    }
}

impl FaultyDisk {
    /// Unmounts it; what threads that are just ending have open is waited for.
    fn unmount(&mut self) -> io::Result<()> {
        let asked = Instant::now();
        while let Err(error) = unmount(&self.folder, UnmountFlags::empty()) {
            if error != rustix::io::Errno::BUSY || asked.elapsed() > PATIENCE {
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("could not unmount {}: {error}; something in it is still open", self.folder.display()),
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.session.take().map_or(Ok(()), BackgroundSession::join)
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // Without it a test that fails could not remove its folder.
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

struct Mounted(Arc<Shared>);

fn errno(number: i32) -> Errno {
    Errno::from_i32(number)
}

impl Mounted {
    fn attributes(&self, number: u64) -> Result<FileAttr, i32> {
        let tree = self.0.tree.lock();
        let node = tree.node(number)?;
        let (kind, size) = match &node.kind {
            Kind::Folder(_) => (FileType::Directory, 0),
            Kind::File { content, .. } => (FileType::RegularFile, content.len() as u64),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: node.mode,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    /// Something that changes the tree.
    fn change<T>(&self, change: impl FnOnce(&mut Tree) -> Result<T, i32>) -> Result<T, i32> {
        self.0.faults.change()?;
        change(&mut self.0.tree.lock())
    }

    fn made(&self, number: Result<u64, i32>, reply: ReplyEntry) {
        match number.and_then(|number| self.attributes(number)) {
            Ok(attributes) => reply.entry(&FORGET, &attributes, Generation(0)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn sync(&self, number: u64, reply: ReplyEmpty) {
        let outcome = self.0.faults.change();
        let mut tree = self.0.tree.lock();
        if outcome.is_err() {
            tree.fail_sync(number);
        }
        done(outcome.and_then(|()| tree.sync(number)), reply);
    }
}

fn done(outcome: Result<(), i32>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.faults.look().and_then(|()| self.0.tree.lock().lookup(parent.0, name));
        self.made(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(attributes) => reply.attr(&FORGET, &attributes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let capacity = self.0.faults.capacity();
        let changed = self.change(|tree| {
            if let Some(mode) = mode {
                tree.set_mode(ino.0, (mode & 0o7777) as u16)?;
            }
            size.map_or(Ok(()), |size| tree.set_length(ino.0, size, capacity))
        });
        match changed.and_then(|()| self.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&FORGET, &attributes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = (mode & !umask & 0o7777) as u16;
        let made = self.change(|tree| tree.make_folder(parent.0, name, mode));
        self.made(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.change(|tree| tree.remove(parent.0, name, false)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.change(|tree| tree.remove(parent.0, name, true)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        done(self.change(|tree| tree.rename((parent.0, name), (newparent.0, newname))), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.faults.look() {
            // Each read comes here, none from the kernel's memory.
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let mode = (mode & !umask & 0o7777) as u16;
        let made = self.change(|tree| tree.make_file(parent.0, name, mode));
        match made.and_then(|number| self.attributes(number)) {
            Ok(attributes) => {
                reply.created(&FORGET, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.faults.read().and_then(|()| self.0.tree.lock().read(ino.0, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let capacity = self.0.faults.capacity();
        match self.change(|tree| tree.write(ino.0, offset, data, capacity)) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if let Err(error) = self.0.faults.look() {
            return reply.error(errno(error));
        }
        let tree = self.0.tree.lock();
        let Ok(Kind::Folder(names)) = tree.node(ino.0).map(|node| &node.kind) else {
            return reply.error(Errno::ENOTDIR);
        };
        let own = [(ino.0, OsStr::new(".")), (ROOT, OsStr::new(".."))];
        let entries = own.into_iter().chain(names.now().iter().map(|(name, &number)| (number, &**name)));
        for ((number, name), place) in entries.zip(1u64..).skip(offset as usize) {
            let kind = match tree.node(number).map(|node| &node.kind) {
                Ok(Kind::File { .. }) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let capacity = self.0.faults.capacity();
        let free = capacity.saturating_sub(self.0.tree.lock().used()) / u64::from(BLOCK);
        reply.statfs(capacity / u64::from(BLOCK), free, free, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn behaves_as_a_file_system_does_and_then_no_longer() {
        if FaultyDisk::missing().is_some() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let mut disk = FaultyDisk::mount(folder).unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/c"), vec![7; 300_000]).unwrap();
        fs::rename(folder.join("a/b/c"), folder.join("a/d")).unwrap();
        assert_eq!(fs::read(folder.join("a/d")).unwrap(), vec![7; 300_000]);
        let names: Vec<_> = fs::read_dir(folder.join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b", "d"]);
        disk.faults().set_capacity(300_100);
        let full = fs::write(folder.join("e"), vec![7; 200]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.faults().fail(1000, 1);
        assert_eq!(fs::read(folder.join("a/d")).unwrap_err().raw_os_error(), Some(crate::faults::EIO));
        disk.faults().heal();
        for name in ["", "a"] {
            fs::File::open(folder.join(name)).unwrap().sync_all().unwrap();
        }
        disk.lose_power(|| false).unwrap();
        assert_eq!(fs::read(folder.join("a/d")).unwrap(), b"", "its name was synced and its bytes were not");
    }
}
