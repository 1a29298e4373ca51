//! The file system of this machine.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fs::{Advice, SeekFrom, fadvise, seek, statvfs},
    io::Errno,
};

use crate::{Disk, DiskFile};

/// The file system of this machine, through the system's own calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_memory(&self) -> io::Result<()> {
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        match seek(self, SeekFrom::Data(offset)) {
            Ok(start) => Ok(Some(start..seek(self, SeekFrom::Hole(start))?)),
            Err(Errno::NXIO) => Ok(None),
            // A file system that cannot tell holes: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                let length = self.length()?;
                Ok((offset < length).then_some(offset..length))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn descriptor(&self) -> io::Result<Option<File>> {
        self.try_clone().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_data_from_holes() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalDisk.create(&dir.path().join("x")).unwrap();
        file.set_length(8 << 20).unwrap();
        assert_eq!(file.data_from(0).unwrap(), None);
        file.write_all_at(&vec![1; 1 << 20], 4 << 20).unwrap();
        let run = file.data_from(0).unwrap().unwrap();
        assert!(run.start <= 4 << 20 && run.end >= 5 << 20, "{run:?}");
        assert_eq!(file.data_from(8 << 20).unwrap(), None);
    }
}
