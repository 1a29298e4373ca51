//! Which registries there are, and what is said about each.

use std::{fmt, path::PathBuf, str::FromStr};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use shoal_blob::Repository;
use shoal_pace::Rate;

use crate::{
    config_error::{ConfigError, shown},
    proxy::{Proxies, Proxy},
    retry::Patience,
};

/// Docker Hub's names, all of them.
pub(crate) const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
const DOCKER_HUB_URL: &str = "https://registry-1.docker.io";

/// One registry that may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The name that clients use: `docker.io`, or `host` or `host:port`.
    pub name: String,
    /// Where it is reached, the best place first: scheme, host and port, no path. `https://<name>` when none is given; plain
    /// http only when written here. The others are asked when one before them fails or does not have something.
    pub urls: Vec<String>,
    /// Who may read what the origin gives only to these credentials; required when there are credentials.
    pub access: Option<Access>,
    /// A docker `config.json` with the credentials of this registry, or a folder with one; it must have some.
    pub credentials: Option<PathBuf>,
    /// The user's name, in a file of one line.
    pub user_file: Option<PathBuf>,
    /// The user's password, in a file of one line. These two are looked at before `credentials`.
    pub password_file: Option<PathBuf>,
    /// PEM certificates to trust for this registry beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificates to show to this registry.
    pub client_cert: Option<PathBuf>,
    /// The key of the first of them, where it is not in the same file.
    pub client_key: Option<PathBuf>,
    /// The proxy on the way to this registry, where it is not that of all.
    pub proxy: Option<Proxy>,
    /// Whether it may lead to addresses of this machine and its link that its URLs do not write.
    pub allow_local: bool,
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
    /// Docker `config.json`s, or folders with one, for the configured registries that have no credentials of their own. The
    /// first that knows a registry is used for it.
    pub credentials: Vec<PathBuf>,
    /// The proxies on the way to configured registries. The others are asked without: a proxy would look names up itself,
    /// unchecked.
    pub proxies: Proxies,
    /// How long to try.
    pub patience: Patience,
    /// What is read of blobs a second, in bytes, of all registries together; `None` is no limit. Manifests, lists and tokens are
    /// small, and wait for nothing.
    pub limit: Option<Rate>,
}

impl RegistryConfig {
    /// A registry of which nothing is said but its name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
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

    /// The URLs to ask, in order: the given ones, or https at the name. Never none.
    ///
    /// # Errors
    /// [`ConfigError::Url`] when one has another scheme, a path, a query or credentials in it, or is there twice.
    pub fn base_urls(&self) -> Result<Vec<Url>, ConfigError> {
        let name = self.canonical_name()?;
        let mut urls = Vec::with_capacity(self.urls.len().max(1));
        for given in &self.urls {
            let url = base_url(&name, given)?;
            if urls.contains(&url) {
                let (url, why) = (shown(given), "is given twice".to_owned());
                return Err(ConfigError::Url { registry: name, url, why });
            }
            urls.push(url);
        }
        if urls.is_empty() {
            urls.push(default_url(&name)?);
        }
        Ok(urls)
    }
}

fn base_url(name: &str, given: &str) -> Result<Url, ConfigError> {
    let wrong = |why: &str| Err(ConfigError::Url { registry: name.to_owned(), url: shown(given), why: why.to_owned() });
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

impl FromStr for RegistryConfig {
    type Err = ConfigError;

    /// Reads `NAME` or `NAME=URL`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (name, urls) = match text.split_once('=') {
            Some((name, url)) => (name, vec![url.to_owned()]),
            None => (text, Vec::new()),
        };
        let config = Self { urls, ..Self::named(name) };
        config.base_urls()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_urls() {
        let config: RegistryConfig = "Registry.Example:5000=http://10.0.0.1:5000".parse().unwrap();
        assert_eq!(config.canonical_name().unwrap(), "registry.example:5000");
        assert_eq!(config.base_urls().unwrap()[0].as_str(), "http://10.0.0.1:5000/");
        let config: RegistryConfig = "index.docker.io".parse().unwrap();
        assert_eq!(config.canonical_name().unwrap(), "docker.io");
        assert_eq!(config.base_urls().unwrap()[0].as_str(), "https://registry-1.docker.io/");
        let urls = ["http://10.0.0.1:5000", "https://10.0.0.2"].map(str::to_owned).to_vec();
        let config = RegistryConfig { urls: urls.clone(), ..RegistryConfig::named("r.io") };
        assert_eq!(config.base_urls().unwrap().len(), 2);
        let twice = RegistryConfig { urls: [urls, vec!["HTTPS://10.0.0.2:443/".into()]].concat(), ..config };
        assert!(matches!(twice.base_urls(), Err(ConfigError::Url { .. })));
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
