//! Where the bytes of each blob came from, since the process started.

use std::{collections::VecDeque, sync::Arc};

use shoal_blob::Digest;

use super::shelf::Sources;

/// How many blobs are remembered.
const MOST: usize = 1000;

/// The blobs that were pulled here, the most recent last.
#[derive(Default)]
pub(super) struct Tally(VecDeque<Entry>);

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) sources: Arc<Sources>,
}

impl Tally {
    /// The counters of a blob, from zero if it is new.
    pub(super) fn of(&mut self, digest: Digest, length: u64) -> Arc<Sources> {
        let known = self.0.iter().position(|entry| entry.digest == digest).and_then(|at| self.0.remove(at));
        let entry = known.unwrap_or_else(|| Entry { digest, length, sources: Arc::default() });
        let sources = entry.sources.clone();
        self.0.push_back(entry);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
        sources
    }

    /// All of them, the most recent first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }
}
