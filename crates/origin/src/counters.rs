//! What was asked of origins and what came back, counted for whoever publishes it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A HEAD for a blob: how long is it?
    BlobHead,
    /// A GET for a range of a blob.
    BlobGet,
    /// A HEAD for a manifest.
    ManifestHead,
    /// A GET for a manifest.
    ManifestGet,
    /// A token from an authorization service.
    Token,
    /// `GET /v2/`: how does this registry want to be asked?
    Ping,
    /// A list that is passed through: tags or referrers.
    Relay,
    /// A HEAD with a caller's own authorization.
    Proof,
}

/// Counters of one [`Origins`](crate::Origins): they only grow, and outlive a reload.
#[derive(Debug, Default)]
pub struct Counters {
    bytes: AtomicU64,
    blob_bytes: AtomicU64,
    retries: AtomicU64,
    requests: [AtomicU64; RequestKind::ALL.len()],
}

impl RequestKind {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::BlobHead,
        Self::BlobGet,
        Self::ManifestHead,
        Self::ManifestGet,
        Self::Token,
        Self::Ping,
        Self::Relay,
        Self::Proof,
    ];

    /// The name as a metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlobHead => "blob_head",
            Self::BlobGet => "blob_get",
            Self::ManifestHead => "manifest_head",
            Self::ManifestGet => "manifest_get",
            Self::Token => "token",
            Self::Ping => "ping",
            Self::Relay => "relay",
            Self::Proof => "proof",
        }
    }
}

impl Counters {
    /// Body bytes received from origins, of any kind.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Body bytes received for blobs alone, those that a retry asked for twice included.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.blob_bytes.load(Ordering::Relaxed)
    }

    /// Requests that were sent again because one before them failed.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Requests sent, by kind. Redirects that were followed are not counted apart.
    #[must_use]
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.requests[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self, kind: RequestKind) {
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, kind: RequestKind, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if kind == RequestKind::BlobGet {
            self.blob_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
