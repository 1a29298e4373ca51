//! What the registry was asked for and what it sent, at one moment.

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;
use shoal_blob::Digest;

/// A snapshot of everything that the registry counts since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// By blob; one that was never asked for may be missing. [`Self::blob`] fills in zeros.
    pub blobs: BTreeMap<Digest, BlobCounts>,
    /// Manifest GETs that were answered with the manifest.
    pub manifest_gets: u64,
    /// Manifest HEADs that were answered with 200.
    pub manifest_heads: u64,
    /// Requests at the token endpoint, with whatever outcome.
    pub token_requests: u64,
    /// Tokens that were handed out.
    pub tokens_issued: u64,
    /// Requests of any kind that were answered with 401.
    pub unauthorized: u64,
    /// Requests of any kind that were answered with another status of 400 and more.
    pub errors: u64,
    /// Requests of any kind that are being left without an answer, or were.
    pub hung: u64,
    /// Requests of any kind that showed an `Authorization`, whatever came of it.
    pub with_authorization: u64,
    /// Connections that are open.
    pub connections_now: u64,
    /// The most that were open at once.
    pub connections_peak: u64,
    /// Connections that were accepted.
    pub connections: u64,
}

/// What was asked and sent of one blob, over all repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlobCounts {
    /// Bytes of bodies that were handed to a connection. Where a client goes away in mid-body this is more than it read:
    /// by at most what the server buffers (256 KiB) and what the two kernels' socket buffers hold.
    pub bytes_sent: u64,
    /// How many of these are bytes that had been sent before.
    pub bytes_repeated: u64,
    /// GETs that were answered with 200 or 206.
    pub gets: u64,
    /// HEADs that were answered with 200.
    pub heads: u64,
    /// GETs and HEADs that were answered with an error or not at all, authorization challenges among them.
    pub refused: u64,
    /// GETs and HEADs that were sent to another host.
    pub redirected: u64,
    /// GETs that were answered with 206.
    pub range_gets: u64,
    /// The byte ranges of those, in order of arrival: the first 4,096.
    pub ranges: Vec<Range<u64>>,
    /// Bodies that are being sent or held back.
    pub bodies_now: u64,
    /// The most bodies at once.
    pub bodies_peak: u64,
    /// Bodies that ended before their last byte, by a fault or because the client went away.
    pub bodies_cut: u64,
}

impl Counts {
    /// The figures of one blob; zeros where it was never asked for.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> BlobCounts {
        self.blobs.get(digest).cloned().unwrap_or_default()
    }

    /// Bytes of bodies over all blobs.
    #[must_use]
    pub fn blob_bytes_sent(&self) -> u64 {
        self.blobs.values().map(|blob| blob.bytes_sent).sum()
    }
}
