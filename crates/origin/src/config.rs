//! Which registries there are, and what is said about each.

use std::{fmt, path::PathBuf, str::FromStr};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use shoal_blob::Repository;
use shoal_pace::Rate;

use crate::retry::Patience;

/// Docker Hub's names, all of them.
pub(crate) const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
const DOCKER_HUB_URL: &str = "https://registry-1.docker.io";

/// One registry that may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The name that clients use: `docker.io`, or `host` or `host:port`.
    pub name: String,
    /// Where it is reached: scheme, host and port, no path. `https://<name>` when it is not given; plain http only when
    /// written here.
    #[serde(default)]
    pub url: Option<String>,
    /// Who may read what the origin gives only to these credentials; required when there are credentials.
    #[serde(default)]
    pub access: Option<Access>,
    /// A docker `config.json` with the credentials of this registry; it must have some.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// PEM certificates to trust for this registry beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Who may read private content of a registry through this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Each caller proves, with its own authorization, that the origin would serve it.
    Caller,
    /// Whoever reaches this node's mirror.
    Node,
}

/// What holds for all registries together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether registries that are not configured may be asked: over https, at public addresses, anonymously.
    pub allow_any_registry: bool,
    /// A docker `config.json` for the configured registries that name none of their own.
    pub credentials: Option<PathBuf>,
    /// How long to try.
    pub patience: Patience,
    /// What is read of blobs a second, in bytes, of all registries together; `None` is no limit. Manifests, lists and tokens are
    /// small, and wait for nothing.
    pub limit: Option<Rate>,
}

/// Why a configuration of registries cannot be used. A start-up error; on a reload, what was there stays.
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
    #[error("`credentials` of registry {registry:?}: cannot use {}: {why}; expected a docker config.json", path.display())]
    Credentials {
        /// The registry, or `*` for the file of all.
        registry: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its contents.
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

impl RegistryConfig {
    /// A registry of which nothing is said but its name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), url: None, access: None, credentials: None, ca_file: None }
    }

    /// The canonical name: lower case, and one name for Docker Hub.
    ///
    /// # Errors
    /// [`ConfigError::Name`] when it is not `host` or `host:port`.
    pub fn canonical_name(&self) -> Result<String, ConfigError> {
        let wrong = |why: &dyn fmt::Display| ConfigError::Name { name: shown(&self.name), why: why.to_string() };
        let checked = Repository::new(&self.name, "a").map_err(|error| wrong(&error))?;
        Ok(canonical(checked.registry()).to_owned())
    }

    /// The URL to ask: the given one, or https at the name.
    ///
    /// # Errors
    /// [`ConfigError::Url`] when it has another scheme, a path, a query or credentials in it.
    pub(crate) fn base_url(&self, name: &str) -> Result<Url, ConfigError> {
        let Some(given) = &self.url else { return default_url(name) };
        let wrong =
            |why: &str| Err(ConfigError::Url { registry: name.to_owned(), url: shown(given), why: why.to_owned() });
        let url = match Url::parse(given) {
            Ok(url) => url,
            Err(error) => return wrong(&format!("is not a URL ({error})")),
        };
        if !matches!(url.scheme(), "https" | "http") {
            return wrong("has a scheme that registries do not speak");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("has credentials in it, which belong into `credentials`");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || url.host_str().is_none() {
            return wrong("has more in it than a host and a port");
        }
        Ok(url)
    }
}

impl FromStr for RegistryConfig {
    type Err = ConfigError;

    /// Reads `NAME` or `NAME=URL`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) => (name, Some(url.to_owned())),
            None => (text, None),
        };
        let config = Self { url, ..Self::named(name) };
        let name = config.canonical_name()?;
        config.base_url(&name)?;
        Ok(config)
    }
}

impl FromStr for Access {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "caller" => Ok(Self::Caller),
            "node" => Ok(Self::Node),
            other => Err(ConfigError::AccessUnknown(shown(other))),
        }
    }
}

/// One name for a registry that has several.
pub(crate) fn canonical(name: &str) -> &str {
    if DOCKER_HUB_ALIASES.contains(&name) { DOCKER_HUB } else { name }
}

/// Where a registry is reached of which nothing is said.
pub(crate) fn default_url(name: &str) -> Result<Url, ConfigError> {
    let text = if name == DOCKER_HUB { DOCKER_HUB_URL.to_owned() } else { format!("https://{name}") };
    Url::parse(&text).map_err(|error| ConfigError::Url {
        registry: name.to_owned(),
        url: text,
        why: format!("is not a URL ({error})"),
    })
}

/// The text for an error message: short, and without what stands before an `@`, which may be a password.
fn shown(text: &str) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_urls() {
        let config: RegistryConfig = "Registry.Example:5000=http://10.0.0.1:5000".parse().unwrap();
        assert_eq!(config.canonical_name().unwrap(), "registry.example:5000");
        assert_eq!(config.base_url("x").unwrap().as_str(), "http://10.0.0.1:5000/");
        let config: RegistryConfig = "index.docker.io".parse().unwrap();
        assert_eq!(config.canonical_name().unwrap(), "docker.io");
        assert_eq!(config.base_url("docker.io").unwrap().as_str(), "https://registry-1.docker.io/");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for text in
            ["", "a b", "r.io=ftp://r.io", "r.io=https://r.io/v2/", "r.io=r.io", "https://r.io", "r.io=https://r.io?x"]
        {
            assert!(text.parse::<RegistryConfig>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_message_shows_a_password() {
        let error = "r.io=https://me:hunter2@r.io".parse::<RegistryConfig>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = "r.io=me:hunter2@r.io:x".parse::<RegistryConfig>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
