//! Which blobs are here and how much of the capacity they have.
//!
//! Invariant: `reserved` is the sum of the lengths of all blobs in the ledger. A blob is in it from before its file is made
//! until after its file has gone.

use std::{collections::HashMap, sync::Arc};

use shoal_blob::Digest;

use crate::{Blob, evict::Candidate};

#[derive(Default)]
pub(crate) struct Ledger {
    blobs: HashMap<Digest, Arc<Blob>>,
    reserved: u64,
}

/// One blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes, which is also what it has of the capacity.
    pub length: u64,
    /// Whether it is whole and proven.
    pub complete: bool,
    /// How many of its pieces may be read.
    pub held_pieces: u32,
    /// How many lie in the file and must be checked first.
    pub unchecked_pieces: u32,
    /// How many it has.
    pub pieces: u32,
    /// How many bytes the held and the unchecked pieces have.
    pub bytes: u64,
    /// When it was last used, in microseconds since 1970.
    pub last_use: u64,
    /// Whether it is kept from being evicted.
    pub pinned: bool,
    /// Whether somebody reads or downloads it.
    pub in_use: bool,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most that all blobs together may have, in bytes.
    pub capacity: u64,
    /// What they have: the sum of their lengths.
    pub reserved: u64,
    /// What of that is in their files.
    pub stored: u64,
    /// What the file system has free; 0 when it does not say.
    pub disk_free: u64,
    /// How many blobs there are.
    pub blobs: u64,
    /// How many of them are complete.
    pub complete: u64,
    /// How many manifests there are.
    pub manifests: u64,
    /// How many bytes the manifests have.
    pub manifest_bytes: u64,
}

impl Ledger {
    pub(crate) fn get(&self, digest: &Digest) -> Option<&Arc<Blob>> {
        self.blobs.get(digest)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Blob>> {
        self.blobs.values().cloned().collect()
    }

    pub(crate) const fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(crate) fn enter(&mut self, blob: Arc<Blob>) {
        self.reserved += blob.layout().length();
        let before = self.blobs.insert(*blob.digest(), blob);
        debug_assert!(before.is_none(), "a blob is entered once");
    }

    pub(crate) fn strike(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.remove(digest) {
            self.reserved -= blob.layout().length();
        }
    }
}

impl Holding {
    pub(crate) const fn candidate(&self) -> Candidate {
        let Self { digest, length, last_use, pinned, in_use: held, .. } = *self;
        Candidate { digest, length, last_use, pinned, held }
    }
}
