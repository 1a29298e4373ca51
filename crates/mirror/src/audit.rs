//! What is told about each manifest and each blob that was answered, for whoever has to account for it.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use shoal_blob::{Digest, Repository};

use crate::BySource;

/// Told of answers. [`Audit::answered`] is called on the threads that serve: it must not block.
pub trait Audit: Send + Sync + 'static {
    /// A request for a manifest or a blob has been answered, and its body has ended.
    fn answered(&self, answered: Answered);
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When it came.
    pub at: SystemTime,
    /// How long it took, to the end of its body.
    pub took: Duration,
    /// The remote end of the connection.
    pub caller: SocketAddr,
    /// `GET` or `HEAD`.
    pub method: Method,
    /// What was asked for.
    pub what: Item,
    /// The registry, and the repository in it.
    pub repository: Repository,
    /// The tag or digest that was asked for.
    pub reference: String,
    /// What that was; `None` where a tag led to nothing.
    pub digest: Option<Digest>,
    /// The `Range` header, where a part was asked for; its first 256 characters.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: StatusCode,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
    /// Where the content among them came from. The lines between several ranges came from nowhere.
    pub from: BySource,
    /// How it ended.
    pub verdict: Verdict,
}

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was asked for was sent; to a `HEAD`, what is known of it.
    Served,
    /// The client was told that it has it already.
    NotModified,
    /// The mirror could not go on, and ended the body short.
    Short,
    /// The client left, or took no bytes, before the end. Clients that read parts by opening the rest of a blob do so all the
    /// time.
    Left,
    /// It was not given, for the reason that this code of the distribution-spec names.
    Refused(&'static str),
}
