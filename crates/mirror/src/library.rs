//! What the mirror asks of the daemon behind it.

use std::{net::SocketAddr, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, StatusCode};
use shoal_blob::{Digest, Reference, Repository};

use crate::{Chunk, Failure, Source};

/// The bytes of a range, in order. Dropping it ends the read.
///
/// It is polled only when the client has room for more, one chunk ahead at most. Empty chunks are allowed and skipped. A
/// stream that gives an error, or ends before its range is full, ends the body short.
pub type ByteStream = BoxStream<'static, Result<Chunk, ReadEnded>>;

/// Where manifests and blobs come from. The mirror calls it; the daemon implements it.
///
/// Every method may be cancelled at any await (the client went away, or time ran out): then its future is dropped. The
/// mirror waits for an answer no longer than [`MirrorConfig::answer_within`](crate::MirrorConfig::answer_within).
/// Whether the caller may read what it asks for is decided here, in each of the methods.
#[async_trait]
pub trait Library: Send + Sync + 'static {
    /// Finds a manifest. With `head` its bytes are not needed; without it they must be there.
    ///
    /// # Errors
    /// Any [`Failure`]; [`Failure::ManifestUnknown`] where the origin has none.
    async fn manifest(&self, ask: &Ask, reference: &Reference, head: bool) -> Result<Manifest, Failure>;

    /// Finds out whether a blob exists, and its length.
    ///
    /// # Errors
    /// Any [`Failure`]; [`Failure::BlobUnknown`] where the origin has none.
    async fn blob(&self, ask: &Ask, digest: &Digest) -> Result<BlobInfo, Failure>;

    /// Opens a read of `range`, which is not empty and lies within the length that [`Library::blob`] gave. A client
    /// that opens a range to the blob's end does not always want the rest: it may read a little and leave.
    ///
    /// # Errors
    /// Any [`Failure`]. Failures after this are the stream's.
    async fn read(&self, ask: &Ask, digest: &Digest, range: Range<u64>) -> Result<ByteStream, Failure>;

    /// Asks the origin for a listing and returns its answer as it is. `query` is the client's, percent-encoded as it
    /// came and without `ns`; empty where there was none.
    ///
    /// # Errors
    /// Any [`Failure`] where the origin gave no answer.
    async fn relay(&self, ask: &Ask, what: &Relay, query: &str) -> Result<Relayed, Failure>;
}

/// Where something is asked for, and by whom.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The registry and the repository in it.
    pub repository: Repository,
    /// Who asks.
    pub caller: Caller,
}

/// A client of the mirror.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The remote end of its connection.
    pub address: SocketAddr,
    /// The `Authorization` header it sent, marked sensitive so that `Debug` does not show it.
    pub authorization: Option<HeaderValue>,
}

/// A manifest, or with a `HEAD` what is known of it.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The origin's own `Content-Type`, byte for byte.
    pub content_type: HeaderValue,
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub length: u64,
    /// The bytes as the origin sent them; may be `None` when only the head was asked for.
    pub bytes: Option<Bytes>,
    /// Where it was had from.
    pub source: Source,
    /// A word to the client, sent as a `Warning` header: that a tag's answer is remembered rather than fresh.
    pub warning: Option<String>,
}

/// What is known of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its length in bytes.
    pub length: u64,
}

/// A listing that only the origin can give.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Relay {
    /// The tags of the repository.
    Tags,
    /// The manifests that refer to this one.
    Referrers(Digest),
}

/// The origin's answer to a [`Relay`].
#[derive(Clone, Debug)]
pub struct Relayed {
    /// Its status. The mirror passes it on, except for those that would make a client retry here or follow elsewhere.
    pub status: StatusCode,
    /// Its headers. The mirror passes on `Content-Type`, `Link`, `OCI-Filters-Applied` and `Warning` alone.
    pub headers: HeaderMap,
    /// Its body, which the library bounds.
    pub body: Bytes,
}

/// A read that could not go on. Before the body's first byte it becomes the answer; after it the body ends short.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadEnded(
    /// Why.
    pub Failure,
);

impl From<Failure> for ReadEnded {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}
