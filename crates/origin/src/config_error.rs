//! Why a configuration of registries cannot be used.

use std::path::PathBuf;

/// Why a configuration of registries cannot be used: a start-up error; on a reload, what was there stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that is no registry's.
    #[error("`registry` {name:?}: {why}; expected docker.io, a host, or host:port, as in NAME or NAME=URL")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two entries for one registry.
    #[error("`registry` {0:?} is configured twice; keep one of the two")]
    Twice(String),
    /// A proxy that cannot be used.
    #[error("`{place}`: {url:?} {why}; expected http://HOST[:PORT] or https://HOST[:PORT]")]
    Proxy {
        /// The setting or the environment variable.
        place: String,
        /// The URL as it was given, without anything before an `@`.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A URL that cannot be used.
    #[error(
        "`url` of registry {registry:?}: {url:?} {why}; expected https://HOST[:PORT], or http:// where plain http is meant"
    )]
    Url {
        /// The registry.
        registry: String,
        /// The URL as it was given, without anything before an `@`.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are credentials and no word on who may read what they open.
    #[error(
        "registry {registry:?} has credentials in {} but no `access`; set access = \"caller\" (each caller proves itself at \
         the origin) or access = \"node\" (whoever reaches this node's mirror may read)", path.display()
    )]
    AccessMissing {
        /// The registry.
        registry: String,
        /// Where its credentials are.
        path: PathBuf,
    },
    /// An `access` that is neither of the two.
    #[error("`access` {0:?} is unknown; expected \"caller\" or \"node\"")]
    AccessUnknown(String),
    /// A credentials file that cannot be read.
    #[error("`credentials` of registry {registry:?}: cannot use {}: {why}; expected a docker \
         config.json, or a folder with one or with a .dockerconfigjson", path.display())]
    Credentials {
        /// The registry.
        registry: String,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it; never its contents.
        why: String,
    },
    /// A file with a user's name or password that cannot be read, or one without the other.
    #[error(
        "`{setting}` of registry {registry:?}: {why}; expected `user_file` and `password_file`, each a text of one line"
    )]
    Pair {
        /// The registry.
        registry: String,
        /// The setting.
        setting: &'static str,
        /// What is wrong; never what stands in the file.
        why: String,
    },
    /// A client certificate or its key that cannot be used.
    #[error(
        "`{setting}` of registry {registry:?}: {why}; expected `client_cert` with PEM certificates, the client's own \
         first, and its key beside them or in `client_key`"
    )]
    ClientCert {
        /// The registry.
        registry: String,
        /// The setting.
        setting: &'static str,
        /// What is wrong; never what stands in the file.
        why: String,
    },
    /// A CA file that cannot be read.
    #[error("`ca_file` of registry {registry:?}: cannot use {}: {why}; expected PEM certificates", path.display())]
    CaFile {
        /// The registry.
        registry: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client could not be set up.
    #[error("registry {registry:?}: the HTTP client could not be set up: {why}")]
    Client {
        /// The registry.
        registry: String,
        /// What went wrong.
        why: String,
    },
}

/// The text for an error message: short, and without what stands before an `@`, which may be a password.
pub(crate) fn shown(text: &str) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    text.chars().take(160).collect()
}
