//! What a library gives of a blob: bytes, or a part of a file that has them.

use std::{fmt, fs::File, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::Source;

/// The next bytes of a blob, and where they came from: the store, unless [`Chunk::from_source`] says otherwise.
///
/// Made of [`Bytes`] in memory, where they stay until the client's socket has taken them whole: 256 KiB or less. Or of what is
/// [`Lent`] of a file, from which the system sends it; it takes no memory here. A few MiB or less, so that the library sees
/// to it in time that they need not be waited for.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub(crate) content: Content,
    /// `None` for what the mirror itself puts between the parts of a blob.
    pub(crate) source: Option<Source>,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Bytes),
    Lent(Lent),
}

/// A part of an open file that may be sent.
#[derive(Clone)]
pub struct Lent {
    file: Arc<dyn LentFile>,
    range: Range<u64>,
}

/// An open file that a library lends to the mirror. Dropped when the connection needs it no more.
pub trait LentFile: Send + Sync + 'static {
    /// The file. Reads of what was lent of it should not have to wait for the disk: the thread that sends has others to serve.
    fn file(&self) -> &File;

    /// Whether these bytes may still be sent; asked each time before some of them are. Must not block. When not, the body
    /// ends short.
    fn may_send(&self, range: Range<u64>) -> bool;
}

impl Lent {
    /// The bytes at `range` of a file.
    #[must_use]
    pub fn new(file: Arc<dyn LentFile>, range: Range<u64>) -> Self {
        Self { file, range }
    }

    pub(crate) fn file(&self) -> &dyn LentFile {
        &*self.file
    }

    /// What has not been sent.
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    pub(crate) const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Notes that its first bytes have been sent.
    pub(crate) const fn advance(&mut self, sent: u64) {
        self.range.start += sent;
    }
}

impl Chunk {
    /// The same bytes, had from there.
    #[must_use]
    pub fn from_source(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    /// What the mirror itself says between the parts of a blob.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self { content: Content::Bytes(bytes), source: None }
    }

    pub(crate) const fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Lent(lent) => lent.len(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps `length` bytes at most.
    pub(crate) fn truncate(&mut self, length: u64) {
        match &mut self.content {
            Content::Bytes(bytes) => bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX)),
            Content::Lent(lent) => lent.range.end = lent.range.end.min(lent.range.start.saturating_add(length)),
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Bytes(bytes), source: Some(Source::Store) }
    }
}

impl From<Lent> for Chunk {
    fn from(lent: Lent) -> Self {
        Self { content: Content::Lent(lent), source: Some(Source::Store) }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("range", &self.range).finish_non_exhaustive()
    }
}
