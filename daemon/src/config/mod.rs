//! The settings of `shoal daemon`: written as flags, in the environment and in a file, read as one.
//!
//! * [`Layer`]: one place where settings are written; all three places share this type, so they cannot drift apart;
//! * [`Source`]: the places of this process, read at the start and again on SIGHUP;
//! * [`Settings`]: what they come to, checked;
//! * [`table`]: the page of documentation about them, made from [`Layer`].

mod error;
mod layer;
mod rate;
mod settings;
mod source;
pub mod table;
mod text;
mod value;

pub use error::SettingsError;
pub use layer::{Layer, RegistryTable};
pub use rate::Rate;
pub use settings::Settings;
pub use source::Source;
pub use value::{
    AccessOf, Advertised, CaOf, Count, Directives, Endpoint, Expected, Listen, LogFormat, ProxyUrl, Size, Span, Zone,
};

/// The settings that SIGHUP changes; the others wait for a restart. `cluster_key_file`, `credentials` and `ca_file` stand
/// for the contents of those files as well, and so do the files of `registries`; `audit_log` is opened anew.
const LIVE: [&str; 19] = [
    "cluster_key_file",
    "registry",
    "registries",
    "allow_any_registry",
    "credentials",
    "access",
    "ca_file",
    "proxy",
    "no_proxy",
    "in_flight",
    "origin_in_flight",
    "origin_connections",
    "log",
    "capacity",
    "min_free",
    "limit_up",
    "limit_down",
    "limit_origin",
    "audit_log",
];

fn is_live(setting: &str) -> bool {
    LIVE.contains(&setting)
}
