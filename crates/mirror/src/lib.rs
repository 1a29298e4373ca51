//! The registry that a node's own clients see: containerd, CRI-O, podman, Docker, skopeo.
//!
//! The mirror speaks the pull side of the OCI distribution-spec over HTTP/1.1 and knows nothing of peers, origins or
//! disks. What it serves it asks of a [`Library`], which its host implements. Its own work is the protocol: names and
//! ranges that do not fit are refused with the right code, bodies are streamed in order and only as fast as the client
//! reads, and a body that cannot be finished ends short and clean, which is the one ending that clients resume.
//!
//! * [`Mirror`], [`MirrorConfig`]: the server and its limits;
//! * [`Library`]: what it asks, with [`Ask`], [`Manifest`], [`BlobInfo`], [`ByteStream`], [`Chunk`], [`Relay`],
//!   [`Relayed`];
//! * [`Audit`], [`Answered`]: who is told what became of each request for content, with [`Item`], [`Source`], [`BySource`],
//!   [`Verdict`];
//! * [`Failure`]: every way in which a request can fail, and the one table of statuses and codes;
//! * [`MirrorCounts`]: what a metrics page wants to know.

mod answer;
mod audit;
mod body;
mod chunk;
mod conditions;
mod config;
mod connection;
mod counts;
mod delivery;
mod entry;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod library;
mod loans;
mod mirror;
mod parts;
mod payload;
mod ranges;
mod relay;
mod service;
mod source;
mod target;
mod transmit;
mod wire;

pub use audit::{Answered, Audit, Item, Verdict};
pub use chunk::{Chunk, Lent, LentFile};
pub use config::MirrorConfig;
pub use counts::{MirrorCounts, RequestCount, Route};
pub use failure::Failure;
pub use library::{Ask, BlobInfo, ByteStream, Caller, Library, Manifest, ReadEnded, Relay, Relayed};
pub use mirror::Mirror;
pub use source::{BySource, Source};
