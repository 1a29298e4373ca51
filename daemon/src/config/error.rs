//! What is wrong with the settings, said so that it can be put right.

use std::{io, path::PathBuf};

use shoal_origin::ConfigError;
use shoal_proto::ClusterKeyError;

/// Settings that cannot be used. At the start the daemon ends with it; on SIGHUP what was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file of settings cannot be read.
    #[error("cannot read the settings in {}: {source}; `--config` expects a TOML file that this user may read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of settings is not TOML, has an unknown key, or a value that its setting does not take.
    #[error("the settings in {} cannot be used\n{source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where, what, and what would be accepted.
        source: Box<toml::de::Error>,
    },
    /// A value that can be read, but is outside what the setting takes.
    #[error("`{setting}` = {value}: expected {expected}")]
    Value {
        /// The setting as the file names it.
        setting: &'static str,
        /// The value as it is in force.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A registry, its URL or what is said about it.
    #[error(transparent)]
    Registry(#[from] ConfigError),
    /// Something is said about a registry that is not configured.
    #[error("`{setting}` names the registry {registry:?}, which is not configured; add it with `registry`")]
    UnknownRegistry {
        /// The setting as the file names it.
        setting: &'static str,
        /// The registry.
        registry: String,
    },
    /// The file with the cluster key cannot be read.
    #[error(
        "`cluster_key_file` = {}: cannot read it: {source}; make one with \
         `(umask 077; shoal key new > FILE)` and give every node a copy", path.display()
    )]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file with the cluster key is open to everybody on this machine.
    #[error(
        "`cluster_key_file` = {}: its mode is {mode:04o}, so that every user of this machine may read or change it; \
         expected 0600 or 0640: `chmod o= FILE`", path.display()
    )]
    KeyFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file with the cluster key has something else in it.
    #[error("`cluster_key_file` = {}: {source}", path.display())]
    KeyFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong; never the text.
        source: ClusterKeyError,
    },
    /// Peers were named but there is no key to prove membership with.
    #[error(
        "`bootstrap` = {endpoint} and no `cluster_key_file`: a cluster is never open; give every node the same key file \
         (`shoal key new` prints a key), or take `bootstrap` out to run alone"
    )]
    BootstrapWithoutKey {
        /// The first peer that was named.
        endpoint: String,
    },
}
