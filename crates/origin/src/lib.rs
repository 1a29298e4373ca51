//! The upstream registry: names, credentials, tokens, manifests, ranges, retries.
//!
//! [`Origins`] is all registries that a daemon may ask, replaceable at run time. Through it:
//!
//! * [`head_blob`](Origins::head_blob): how long a blob is and to whom it is served, by one HEAD;
//! * [`open`](Origins::open): one range as a [`BlobStream`] that resumes where a connection broke;
//! * [`Runs`]: pieces in few requests over few connections, within a bound of bytes in flight;
//! * [`manifest`](Origins::manifest), [`manifest_head`](Origins::manifest_head), [`relay`](Origins::relay): what a mirror passes on;
//! * [`challenge`](Origins::challenge), [`prove`](Origins::prove): callers who show their own authorization;
//! * [`Counters`]: what was asked and received.
//!
//! # Which client does what
//!
//! `oci-client` gives what it serves well: references (where Docker Hub keeps a name) and the media types. The requests go
//! through `reqwest`, because a mirror needs what `oci-client`'s functions do not let through:
//!
//! * a manifest's own `Content-Type`, and a limit on its size: `pull_manifest_raw` gives neither;
//! * a blob's length and who may read it: `blob_exists` gives a yes or no;
//! * the `Content-Range` of a range: `pull_blob_stream_partial` keeps it to itself, so a wrong offset would pass, and it sends an
//!   expired token until its own clock says so;
//! * statuses, `Retry-After`, challenges: its errors have them as text, if at all;
//! * the choice of the address that is connected to, also for the exchange of a token, without which any name that a client or
//!   a registry thinks of would be a way into the private network;
//! * a client certificate, a proxy for one registry alone, and identity tokens.
//!
//! Nothing here prints a credential: secrets are wiped on drop, `Debug` hides them, and errors hold no URL, since an object store's
//! URL is signed.

mod address;
mod authority;
mod blob;
mod body;
mod breadth;
mod caller;
mod challenge;
mod config;
mod config_error;
mod content_range;
mod counters;
mod credentials;
mod docker_config;
mod endpoint;
mod error;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod helper;
mod manifest;
mod origins;
mod proxy;
mod registry;
mod relay;
mod retry;
mod run;
mod run_settings;
mod runs;
mod secret;
mod stream;
mod tls;
mod token;
mod watched;

pub use blob::BlobHead;
pub use caller::Verdict;
pub use config::{Access, Policy, RegistryConfig};
pub use config_error::ConfigError;
pub use counters::{Counters, RequestKind};
pub use error::{ErrorKind, OriginError, Refusal, RefusedAddress, Trouble};
pub use manifest::{MOST_MANIFEST_BYTES, Manifest, ManifestHead};
pub use origins::Origins;
pub use proxy::{Proxies, Proxy};
pub use registry::Visibility;
pub use relay::{Listing, Relayed};
pub use retry::Patience;
pub use run::RunEvent;
pub use run_settings::RunSettings;
pub use runs::Runs;
pub use stream::BlobStream;

/// How this client names itself to origins.
const USER_AGENT: &str = concat!("shoal/", env!("CARGO_PKG_VERSION"));
