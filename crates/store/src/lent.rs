//! The data file of a blob, lent to a reader that has the system send from it.
//!
//! Bytes that go from the page cache to a socket without a stop in this process cost a half of what copying them costs. The
//! system then reads the file by itself, so whoever borrows it asks before each part whether that part may still be read.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use crate::{InUse, StoreError};

/// How far apart bytes are looked at to see whether a range is in memory: systems read ahead in runs of this length.
const PROBE_EVERY: u64 = 128 << 10;
/// The smallest page that systems have.
const PAGE: u64 = 4096;

/// An open data file; its blob stays in the store for as long as this lives.
#[derive(Debug)]
pub struct Lent {
    held: InUse,
    file: File,
}

impl InUse {
    /// Lends the blob's data file, on a descriptor of its own. `None` where the disk has no descriptors to give.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Gone`].
    pub fn lend(&self) -> Result<Option<Lent>, StoreError> {
        let file = self.with_data("lend", |file| file.descriptor())?;
        Ok(file.map(|file| Lent { held: self.clone(), file }))
    }
}

impl Lent {
    /// The file. A part of it may be read only while [`Lent::may_read`] says so.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether all pieces that the range touches are readable now. One that is withdrawn later was right as far as anybody
    /// knew when this was asked, and is written again only with bytes that are.
    #[must_use]
    pub fn may_read(&self, range: Range<u64>) -> bool {
        self.held.is_readable(range)
    }

    /// Whether the range is in memory, as far as can be told without waiting for the disk.
    #[must_use]
    pub fn is_in_memory(&self, range: Range<u64>) -> bool {
        let Some(last) = range.end.checked_sub(1) else { return true };
        let mut steps = (range.start..range.end).step_by(PROBE_EVERY as usize);
        steps.all(|at| is_byte_in_memory(&self.file, at)) && is_byte_in_memory(&self.file, last)
    }

    /// Brings the range into memory, and has the system begin with as much behind it. Blocks as long as the disk needs.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` when the file ends before.
    pub fn bring_into_memory(&self, range: Range<u64>) -> io::Result<()> {
        read_ahead(&self.file, range.start, 2 * (range.end - range.start));
        (range.start / PAGE * PAGE..range.end)
            .step_by(PAGE as usize)
            .try_for_each(|page| self.file.read_exact_at(&mut [0], page.max(range.start)))
    }
}

#[cfg(target_os = "linux")]
fn is_byte_in_memory(file: &File, at: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    preadv2(file, &mut [io::IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) == Ok(1)
}

/// Nobody can tell, so the disk is always waited for.
#[cfg(not(target_os = "linux"))]
const fn is_byte_in_memory(_: &File, _: u64) -> bool {
    false
}

/// A hint; whether it is taken does not matter.
#[cfg(target_os = "linux")]
fn read_ahead(file: &File, from: u64, length: u64) {
    let _ = rustix::fs::fadvise(file, from, length.try_into().ok(), rustix::fs::Advice::WillNeed);
}

#[cfg(not(target_os = "linux"))]
const fn read_ahead(_: &File, _: u64, _: u64) {}
