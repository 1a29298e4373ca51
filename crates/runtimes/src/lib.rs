//! The container runtimes of a node, told to ask Shoal first, and told so no longer.
//!
//! What stands in other people's files stays byte for byte: Shoal adds lines of its own between two marks, and takes
//! exactly those out again. What was read decides what is to be done, a [`Plan`]; only [`Plan::apply`] writes.
//!
//! * [`Containerd`]: hosts.toml files, `config_path` in containerd's own configuration, and whether containerd of a
//!   [`Version`] would go by them;
//! * [`Crio`]: the drop-in for registries.conf that CRI-O, podman, skopeo and buildah read;
//! * [`Mirror`], [`Registry`]: what is put before what;
//! * [`Plan`]: what would change, shown as a diff or done; [`Finding`], [`Report`]: what is in the way, and the line to
//!   change.

mod block;
mod containerd;
mod crio;
mod document;
mod error;
mod files;
mod finding;
mod mirror;
mod plan;
mod registry;
mod version;

pub use containerd::Containerd;
pub use crio::Crio;
pub use error::Error;
pub use finding::{Finding, Place, Report, Weight};
pub use mirror::Mirror;
pub use plan::Plan;
pub use registry::Registry;
pub use version::Version;
