//! One answer about content on its way: what it is, and how much of it has gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use crate::{BySource, MirrorCounts, Source, audit::Verdict, entry::Entry};

/// An answer that will have been given when nothing is left that could send of it: the body, and what it lent.
///
/// Dropped, it tells the audit.
pub(crate) struct Delivery {
    /// What is sent, for the log.
    about: String,
    length: u64,
    counts: Arc<MirrorCounts>,
    /// Bytes handed to the connection.
    bytes: AtomicU64,
    /// Those of them that are content, by source.
    from: [AtomicU64; Source::ALL.len()],
    short: AtomicBool,
    entry: Option<Entry>,
}

impl Delivery {
    /// A body of `length` bytes.
    pub(crate) fn new(about: String, length: u64, counts: Arc<MirrorCounts>, entry: Option<Entry>) -> Self {
        Self {
            about,
            length,
            counts,
            bytes: AtomicU64::new(0),
            from: Default::default(),
            short: AtomicBool::new(false),
            entry,
        }
    }

    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    /// Notes bytes that the connection has taken. Those without a source are the mirror's own, between the parts of a blob.
    pub(crate) fn sent(&self, source: Option<Source>, bytes: u64) {
        self.counts.bytes_to_clients.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        if let Some(source) = source {
            self.from[source as usize].fetch_add(bytes, Relaxed);
        }
    }

    /// Notes that the mirror ends it short.
    pub(crate) fn ends_short(&self, reason: &str) {
        self.short.store(true, Relaxed);
        self.counts.short_bodies.fetch_add(1, Relaxed);
        let sent = self.bytes.load(Relaxed);
        tracing::warn!(what = self.about, sent, length = self.length, reason, "a body ends short");
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let bytes = self.bytes.load(Relaxed);
        let verdict = match (self.short.load(Relaxed), bytes == self.length) {
            (true, _) => Verdict::Short,
            (false, true) => Verdict::Served,
            (false, false) => Verdict::Left,
        };
        let from = BySource::of(|source| self.from[source as usize].load(Relaxed));
        entry.tell(bytes, from, verdict);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("about", &self.about).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
