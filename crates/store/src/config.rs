//! What a store is told when it is opened.

use std::path::PathBuf;

/// Where a store is and how much it may take.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The folder that belongs to the store alone; made with mode 0700 where it is missing.
    pub dir: PathBuf,
    /// The most bytes that all blobs together may have, counted at their full lengths from admission on. Manifests (64 MiB
    /// at most), sidecars (about 0.01 % of the data) and the index come on top.
    pub capacity: u64,
    /// Bytes of the file system that are left free, whatever the capacity says.
    pub min_free: u64,
    /// How much memory the index may use as its cache, in bytes.
    pub index_cache: u64,
}

impl StoreConfig {
    /// A store in `dir` of `capacity` bytes that leaves no space free and has an index cache of 16 MiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, capacity: u64) -> Self {
        Self { dir: dir.into(), capacity, min_free: 0, index_cache: 16 << 20 }
    }
}
