//! The registries that may be asked, replaceable while they are being asked.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use oci_client::Reference as OciReference;
use reqwest::Url;
use rustls::ClientConfig;
use shoal_blob::Repository;
use shoal_pace::{Limit, Rate};

use crate::{
    address::Reach,
    config::{Access, DOCKER_HUB, Policy, RegistryConfig, canonical, default_url},
    config_error::ConfigError,
    counters::Counters,
    credentials::Sources,
    endpoint::{Endpoint, Shared},
    error::{ErrorKind, OriginError},
    proxy::Proxies,
    registry::Registry,
    retry::Patience,
    tls,
};

/// Registries that nobody configured are remembered with their tokens, so many at most.
const MOST_STRANGERS: usize = 32;

/// All origins of a daemon. Cheap to clone; clones share everything, a reload included.
#[derive(Clone, Debug)]
pub struct Origins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: RwLock<Arc<Set>>,
    with: Common,
}

/// What all registries share, whatever is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub(crate) counters: Arc<Counters>,
    pub(crate) limit: Limit,
}

/// One configuration. What was begun under it goes on under it.
#[derive(Debug)]
struct Set {
    policy: Policy,
    registries: HashMap<String, Arc<Registry>>,
    /// Least recently added first.
    strangers: Mutex<VecDeque<Arc<Registry>>>,
}

impl Origins {
    /// Reads the credentials and certificates of all registries and sets up their clients. Connects nowhere.
    ///
    /// # Errors
    /// [`ConfigError`] naming the registry and the setting; above all [`ConfigError::AccessMissing`] for credentials without
    /// a word on who may read what they open.
    pub fn new(registries: Vec<RegistryConfig>, policy: Policy) -> Result<Self, ConfigError> {
        let with = Common::default();
        with.limit.set(policy.limit);
        let set = Set::new(registries, policy, &with)?;
        Ok(Self(Arc::new(Inner { set: RwLock::new(Arc::new(set)), with })))
    }

    /// Replaces the configuration; credentials and certificates are read again. Requests and streams that have begun go on
    /// as they began, the next range of [`Runs`](crate::Runs) is asked under the new one. Tokens are forgotten. The limit holds at
    /// once, for streams under way as well.
    ///
    /// # Errors
    /// As [`Origins::new`]; the configuration that was there stays then.
    pub fn reload(&self, registries: Vec<RegistryConfig>, policy: Policy) -> Result<(), ConfigError> {
        let limit = policy.limit;
        let set = Set::new(registries, policy, &self.0.with)?;
        self.0.with.limit.set(limit);
        *self.0.set.write().expect("nobody panics while holding the set") = Arc::new(set);
        Ok(())
    }

    /// What was asked and received since the start.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.0.with.counters.clone()
    }

    /// What is read of blobs a second, at most.
    #[must_use]
    pub fn limit(&self) -> Option<Rate> {
        self.0.with.limit.rate()
    }

    /// How long the limit holds back whoever reads now: no stall of an origin's.
    #[must_use]
    pub fn held_back(&self) -> Duration {
        self.0.with.limit.owed()
    }

    /// Who may read private content of a registry through this node; `None` where nothing was said, which means each
    /// caller for itself.
    #[must_use]
    pub fn access(&self, registry: &str) -> Option<Access> {
        self.set().registries.get(canonical(registry)).and_then(|registry| registry.access)
    }

    /// Whether any registry is read by such a rule.
    #[must_use]
    pub fn any_access(&self, access: Access) -> bool {
        self.set().registries.values().any(|registry| registry.access == Some(access))
    }

    /// Whether a registry is in the configuration, by any of its names.
    #[must_use]
    pub fn is_configured(&self, registry: &str) -> bool {
        self.set().registries.contains_key(canonical(registry))
    }

    fn set(&self) -> Arc<Set> {
        self.0.set.read().expect("nobody panics while holding the set").clone()
    }

    /// The registry of a repository, and the repository's path there.
    pub(crate) fn find(&self, repository: &Repository) -> Result<(Arc<Registry>, String), OriginError> {
        let name = canonical(repository.registry());
        let registry = self.set().registry(name, &self.0.with).map_err(|kind| OriginError {
            registry: name.to_owned(),
            what: repository.path().to_owned(),
            kind,
        })?;
        Ok((registry, path_at(name, repository)))
    }
}

impl Set {
    fn new(configs: Vec<RegistryConfig>, policy: Policy, with: &Common) -> Result<Self, ConfigError> {
        let mut registries = HashMap::new();
        let mut names = HashSet::new();
        for config in configs {
            let name = config.canonical_name()?;
            if !names.insert(name.clone()) {
                return Err(ConfigError::Twice(name));
            }
            let registry = open(&name, &config, &policy, with)?;
            registries.insert(name, Arc::new(registry));
        }
        Ok(Self { policy, registries, strangers: Mutex::new(VecDeque::new()) })
    }

    fn registry(&self, name: &str, with: &Common) -> Result<Arc<Registry>, ErrorKind> {
        if let Some(registry) = self.registries.get(name) {
            return Ok(registry.clone());
        }
        if !self.policy.allow_any_registry {
            return Err(ErrorKind::RegistryNotConfigured);
        }
        let mut strangers = self.strangers.lock().expect("nobody panics while holding the strangers");
        if let Some(known) = strangers.iter().find(|known| known.name == name) {
            return Ok(known.clone());
        }
        let invalid = |why: String| ErrorKind::Invalid(why);
        let shared = Shared {
            reach: Reach::Public,
            sources: None,
            tls: tls::client(&[], None).map_err(|error| invalid(error.to_string()))?,
            // A proxy would look names up itself, and the check of addresses would check the proxy's.
            proxies: Proxies::default(),
            own_proxy: false,
            patience: self.policy.patience,
            counters: with.counters.clone(),
        };
        let base = default_url(name).map_err(|error| invalid(error.to_string()))?;
        let endpoint = Endpoint::new(base, &shared).map_err(|error| invalid(crate::failure::chain(&error)))?;
        let registry = Arc::new(registry(name, None, self.policy.patience, with, vec![endpoint]));
        if strangers.len() >= MOST_STRANGERS {
            strangers.pop_front();
        }
        strangers.push_back(registry.clone());
        Ok(registry)
    }
}

fn open(name: &str, config: &RegistryConfig, policy: &Policy, with: &Common) -> Result<Registry, ConfigError> {
    let bases = config.base_urls()?;
    let sources = Sources::open(name, config, policy)?;
    // A file that says nothing of this registry today may do so tomorrow; without `access` it is not looked at again.
    let sources = match (config.access, sources.place(config, policy)) {
        (None, Some(path)) => return Err(ConfigError::AccessMissing { registry: name.to_owned(), path }),
        (None, None) => None,
        (Some(_), _) => Some(Arc::new(sources)),
    };
    let proxies = config.proxy.as_ref().map_or_else(|| policy.proxies.clone(), |own| Proxies::of(own, ""));
    let reach = if config.allow_local {
        Reach::Anywhere
    } else {
        Reach::configured(bases.iter().filter_map(Url::host_str), proxies.hosts())
    };
    let failed = |why: String| ConfigError::Client { registry: name.to_owned(), why };
    let mut patience = policy.patience;
    if bases.len() > 1 {
        // A silent endpoint must leave the next one time, before the lease goes back for the silence.
        patience.stall /= 2;
        patience.connect = patience.connect.min(patience.stall);
    }
    let own_proxy = config.proxy.is_some();
    let (tls, counters) = (tls_of(name, config)?, with.counters.clone());
    let shared = Shared { reach, sources, tls, proxies, own_proxy, patience, counters };
    let endpoints: Result<Vec<_>, _> = bases.into_iter().map(|base| Endpoint::new(base, &shared)).collect();
    let endpoints = endpoints.map_err(|error| failed(crate::failure::chain(&error)))?;
    Ok(registry(name, config.access, patience, with, endpoints))
}

fn tls_of(name: &str, config: &RegistryConfig) -> Result<ClientConfig, ConfigError> {
    let registry = || name.to_owned();
    let extra = config.ca_file.as_ref().map(|path| {
        tls::certificates(path).map_err(|why| ConfigError::CaFile { registry: registry(), path: path.clone(), why })
    });
    let extra = extra.transpose()?.unwrap_or_default();
    let wrong = |(setting, why)| ConfigError::ClientCert { registry: registry(), setting, why };
    let identity = match (&config.client_cert, &config.client_key) {
        (Some(cert), key) => Some(tls::Identity::read(cert, key.as_deref()).map_err(wrong)?),
        (None, Some(_)) => return Err(wrong(("client_key", "there is no `client_cert`".to_owned()))),
        (None, None) => None,
    };
    tls::client(&extra, identity.as_ref()).map_err(|error| match identity {
        Some(_) => wrong(("client_cert", error.to_string())),
        None => ConfigError::Client { registry: registry(), why: error.to_string() },
    })
}

fn registry(
    name: &str,
    access: Option<Access>,
    patience: Patience,
    with: &Common,
    endpoints: Vec<Endpoint>,
) -> Registry {
    let Common { counters, limit } = with.clone();
    Registry { name: name.to_owned(), access, patience, counters, limit, endpoints }
}

/// A repository's path at its registry. Docker Hub keeps names of one component under `library/`, which oci-client's
/// reference knows.
fn path_at(registry: &str, repository: &Repository) -> String {
    let path = repository.path();
    if registry != DOCKER_HUB {
        return path.to_owned();
    }
    let named = OciReference::try_from(format!("{DOCKER_HUB}/{path}"));
    named.map_or_else(|_| path.to_owned(), |reference| reference.repository().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_keeps_its_own_under_library() {
        let at = |registry: &str, path: &str| path_at(registry, &Repository::new(registry, path).unwrap());
        assert_eq!(at("docker.io", "alpine"), "library/alpine");
        assert_eq!(at("docker.io", "library/alpine"), "library/alpine");
        assert_eq!(at("docker.io", "team/tool"), "team/tool");
        assert_eq!(at("r.io", "alpine"), "alpine");
    }

    #[test]
    fn a_registry_that_is_not_configured_is_refused() {
        let origins = Origins::new(vec![RegistryConfig::named("ghcr.io")], Policy::default()).unwrap();
        let error = origins.find(&Repository::new("quay.io", "a/b").unwrap()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::RegistryNotConfigured);
        assert!(error.to_string().contains("quay.io"), "{error}");
        assert!(origins.find(&Repository::new("ghcr.io", "a/b").unwrap()).is_ok());
    }

    #[test]
    fn strangers_are_bounded() {
        let policy = Policy { allow_any_registry: true, ..Policy::default() };
        let origins = Origins::new(Vec::new(), policy).unwrap();
        for i in 0..MOST_STRANGERS + 5 {
            origins.find(&Repository::new(&format!("r{i}.example"), "a").unwrap()).unwrap();
        }
        assert_eq!(origins.set().strangers.lock().unwrap().len(), MOST_STRANGERS);
    }
}
