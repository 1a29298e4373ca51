//! An origin registry to measure and to test against: the pull side of the OCI distribution-spec over HTTP/1.1.
//!
//! It counts what it sends, so that "the origin sent the layer once" is something a test can check, and it misbehaves on
//! request. Layers of any size cost neither memory nor disk: their bytes are computed from a seed when they are asked for.
//!
//! * [`Artifact`], [`Blob`]: what it holds: a synthetic model, or any bytes under any digest;
//! * [`Registry`], [`RegistryBuilder`]: the server, which stops when it is dropped;
//! * [`Counts`], [`BlobCounts`]: what it was asked for and what it sent;
//! * [`Faults`], [`Refusal`]: how it misbehaves, changeable while it serves;
//! * [`AccessLine`]: what a registry of somebody else's says that it sent.
//!
//! ```
//! use shoal_registry::{Artifact, Faults, Registry};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Artifact::synthetic("models/synthetic", "v1", 1 << 20, 42);
//! let layer = model.layer().digest();
//! let registry = Registry::builder().artifact(model).faults(Faults::none().rate(10_000_000)).listen("127.0.0.1:0").await?;
//! registry.hold_at(&layer, 100_000);
//! // ... a client pulls from `registry.url()` ...
//! registry.until(|counts| counts.blob(&layer).bytes_sent == 100_000).await;
//! registry.release(&layer);
//! # Ok(())
//! # }
//! ```

mod access;
mod access_log;
mod answer;
mod artifact;
mod asked;
mod blob;
mod body;
mod byte_range;
mod catalog;
mod counts;
mod faults;
mod ledger;
mod model;
mod noise;
mod pacer;
mod referrer;
mod refusal;
mod registry;
mod service;
mod severed;
mod spans;
mod token;
mod wire;

pub use access_log::{AccessLine, UnknownLine};
pub use artifact::Artifact;
pub use blob::Blob;
pub use catalog::CatalogError;
pub use counts::{BlobCounts, Counts};
pub use faults::Faults;
pub use noise::Noise;
pub use refusal::{Refusal, Target};
pub use registry::{ListenError, Registry, RegistryBuilder};
