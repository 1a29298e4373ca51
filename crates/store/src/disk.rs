//! What the store asks of a file system: few enough calls that a test can stand in for a disk that fails.

use std::{fmt, fs::File, io, ops::Range, path::Path};

/// A file system. The store keeps data and sidecars on it; the index has files of its own.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a file that exists, to read and write.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is no such file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes an empty file, or empties the one that is there. Only the owner may read it.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name in the same folder, in place of what had that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// How many bytes more this process may write to the file system that holds `path`.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file, read and written by position from many threads at once.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes, holes included.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it off, or makes it longer by a hole.
    ///
    /// # Errors
    /// What the system says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Fills the whole slice from `offset` on.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes the whole slice at `offset`. After an error any part of it may have been written.
    ///
    /// # Errors
    /// What the system says.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns once everything written, and the length, would survive a loss of power. Blocks as long as the disk needs.
    ///
    /// # Errors
    /// What the system says. What was written since the last success may be lost then, even if a later call succeeds.
    fn sync(&self) -> io::Result<()>;

    /// Has what is read next come from the disk itself, not from what the system has of it in memory; what has yet to be written
    /// there stays. For bytes that are to be checked: after a sync that failed memory may have what the disk never will, and no
    /// later sync tells.
    ///
    /// # Errors
    /// What the system says.
    fn forget_memory(&self) -> io::Result<()>;

    /// The first run at or after `offset` that is not a hole. A run may be reported longer than what was written, never
    /// shorter.
    ///
    /// # Errors
    /// What the system says.
    fn data_from(&self, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Another descriptor of the file, for the system to send from. `None`, unless said otherwise: then its bytes are had by
    /// reading them alone.
    ///
    /// # Errors
    /// What the system says.
    fn descriptor(&self) -> io::Result<Option<File>> {
        Ok(None)
    }
}
