//! What the settings come to, checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use shoal_origin::{Access, Proxies, RegistryConfig};
use shoal_pace::Rate;
use shoal_proto::ClusterKeys;

use super::{Advertised, Endpoint, Layer, LogFormat, ProxyUrl, SettingsError, is_live, value::Size};

/// Everything that a daemon is told. Each value has been checked on its own; what needs the network or the disk is found
/// out by the part that uses it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of this daemon alone.
    pub data_dir: PathBuf,
    /// Where the mirror listens; port 0 takes a free one, as for the next two.
    pub mirror_listen: SocketAddr,
    /// Where peers are awaited, over TCP and UDP.
    pub peer_listen: SocketAddr,
    /// Where the admin server listens.
    pub admin_listen: SocketAddr,
    /// Peers to find the cluster by. Empty without cluster keys.
    pub bootstrap: Vec<Endpoint>,
    /// What peers are told, where it is not found out from the interfaces.
    pub advertise: Vec<Advertised>,
    /// The keys of the cluster; `None` runs alone.
    pub cluster_keys: Option<ClusterKeys>,
    /// The configured registries, each once.
    pub registries: Vec<RegistryConfig>,
    /// Whether others may be asked too.
    pub allow_any_registry: bool,
    /// Docker config.jsons for those registries that name none of their own.
    pub credentials: Vec<PathBuf>,
    /// The proxies on the way to those registries that name none of their own.
    pub proxies: Proxies,
    /// The most bytes of blobs on disk.
    pub capacity: u64,
    /// Bytes left free on the file system.
    pub min_free: u64,
    /// This node's zone; may be empty.
    pub zone: String,
    /// How long to look for peers before going on alone.
    pub alone_after: Duration,
    /// The most bytes of pieces in memory on their way in.
    pub in_flight: u64,
    /// The most bytes under way from origins at once.
    pub origin_in_flight: u64,
    /// Connections that one blob is read over.
    pub origin_connections: usize,
    /// The most that is sent to peers a second; `None` is no limit, as for the next two.
    pub limit_up: Option<Rate>,
    /// The most that is received from peers a second.
    pub limit_down: Option<Rate>,
    /// The most that is read of blobs from origins a second.
    pub limit_origin: Option<Rate>,
    /// Connections that the mirror serves at once.
    pub mirror_connections: usize,
    /// Bodies of blobs that it sends at once.
    pub mirror_readers: usize,
    /// Where each answer is written down.
    pub audit_log: Option<PathBuf>,
    /// How long open downloads may go on after SIGTERM.
    pub drain: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log: String,
    said: Layer,
}

/// The least memory for pieces on their way in: two of the largest.
const LEAST_IN_FLIGHT: u64 = 32 << 20;
const ORIGIN_IN_FLIGHT: std::ops::RangeInclusive<u64> = 1 << 20..=32 << 20;
const MOST_ORIGIN_CONNECTIONS: u16 = 32;
const LONGEST_DRAIN: Duration = Duration::from_secs(600);

impl Settings {
    /// Checks the settings of `layer`, filled up with the defaults, and reads the cluster key file.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that cannot be used.
    pub fn of(layer: Layer) -> Result<Self, SettingsError> {
        let registries = registries(&layer)?;
        let whole = layer.over(Layer::defaults());
        let said = whole.clone();
        let has_default = "the defaults say something";
        let settings = Self {
            data_dir: said.data_dir.expect(has_default),
            mirror_listen: said.mirror_listen.expect(has_default).0,
            peer_listen: said.peer_listen.expect(has_default).0,
            admin_listen: said.admin_listen.expect(has_default).0,
            bootstrap: said.bootstrap,
            advertise: said.advertise,
            cluster_keys: said.cluster_key_file.as_deref().map(cluster_keys).transpose()?,
            registries,
            allow_any_registry: said.allow_any_registry.expect(has_default),
            credentials: said.credentials,
            proxies: proxies(said.proxy, &said.no_proxy)?,
            capacity: said.capacity.expect(has_default).0,
            min_free: said.min_free.expect(has_default).0,
            zone: said.zone.map(|zone| zone.0).unwrap_or_default(),
            alone_after: said.alone_after.expect(has_default).0,
            in_flight: said.in_flight.expect(has_default).0,
            origin_in_flight: said.origin_in_flight.expect(has_default).0,
            origin_connections: said.origin_connections.expect(has_default).0.get().into(),
            limit_up: said.limit_up.expect(has_default).0,
            limit_down: said.limit_down.expect(has_default).0,
            limit_origin: said.limit_origin.expect(has_default).0,
            mirror_connections: said.mirror_connections.expect(has_default).0.get().into(),
            mirror_readers: said.mirror_readers.expect(has_default).0.get().into(),
            audit_log: said.audit_log,
            drain: said.drain.expect(has_default).0,
            log_format: said.log_format.expect(has_default),
            log: said.log.expect(has_default).0,
            said: whole,
        };
        settings.check()?;
        Ok(settings)
    }

    /// The settings as they would be written, defaults filled in.
    #[must_use]
    pub const fn layer(&self) -> &Layer {
        &self.said
    }

    /// The settings, by name, in which `then` differs and that only a restart changes.
    #[must_use]
    pub fn waiting_for_restart(&self, then: &Self) -> Vec<String> {
        let (now, next) = (self.said.fields(), then.said.fields());
        let names: BTreeSet<&String> = now.keys().chain(next.keys()).collect();
        // Other keys are live; whether there are any decides whether there is a cluster.
        let joins_or_leaves = self.cluster_keys.is_some() != then.cluster_keys.is_some();
        let waits = |name: &str| !is_live(name) || (name == "cluster_key_file" && joins_or_leaves);
        names.into_iter().filter(|name| now.get(*name) != next.get(*name) && waits(name)).cloned().collect()
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong = |setting, value: &dyn std::fmt::Display, expected| {
            Err(SettingsError::Value { setting, value: value.to_string(), expected })
        };
        if self.data_dir.as_os_str().is_empty() {
            return wrong("data_dir", &"\"\"", "a folder");
        }
        if self.capacity == 0 {
            return wrong("capacity", &Size(self.capacity), "a size above 0, such as 100GiB");
        }
        if self.in_flight < LEAST_IN_FLIGHT {
            return wrong("in_flight", &Size(self.in_flight), "32MiB at least: two pieces of the largest blobs");
        }
        if !ORIGIN_IN_FLIGHT.contains(&self.origin_in_flight) {
            return wrong("origin_in_flight", &Size(self.origin_in_flight), "a size from 1MiB to 32MiB");
        }
        if self.origin_connections > MOST_ORIGIN_CONNECTIONS.into() {
            return wrong("origin_connections", &self.origin_connections, "a whole number from 1 to 32");
        }
        if self.drain > LONGEST_DRAIN {
            return wrong("drain", &humantime::format_duration(self.drain), "a duration of 10m at most");
        }
        let listeners = [
            ("mirror_listen", self.mirror_listen),
            ("peer_listen", self.peer_listen),
            ("admin_listen", self.admin_listen),
        ];
        for (at, (setting, address)) in listeners.iter().enumerate() {
            if listeners[..at].iter().any(|(_, other)| address.port() != 0 && meet(*address, *other)) {
                return wrong(setting, address, "a port that no other setting of this daemon listens on");
            }
        }
        if self.allow_any_registry && self.registries.iter().any(|registry| registry.access == Some(Access::Caller)) {
            let expected = "false where a registry has access = \"caller\": a registry that any client can name could claim \
                            to serve a private blob to everybody, and this node would believe it";
            return wrong("allow_any_registry", &true, expected);
        }
        for registry in &self.registries {
            for url in registry.base_urls()? {
                let here = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
                let at = here.zip(url.port_or_known_default()).map(|(host, port)| SocketAddr::new(host, port));
                if listeners.iter().any(|(_, own)| at.is_some_and(|at| leads_to(at, *own))) {
                    return wrong("registry", &url, "a URL that is not this daemon's own");
                }
            }
        }
        match (&self.cluster_keys, self.bootstrap.first()) {
            (None, Some(first)) => Err(SettingsError::BootstrapWithoutKey { endpoint: first.to_string() }),
            _ => Ok(()),
        }
    }

    /// What is allowed but worth a word in the log, each a sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let faces = [
            ("mirror_listen", self.mirror_listen, "pull through this node"),
            ("admin_listen", self.admin_listen, "read what this node holds"),
        ];
        for (setting, address, what) in faces {
            if !address.ip().is_loopback() {
                warnings.push(format!(
                    "`{setting}` = {address} is not a loopback address: whoever reaches it may {what}, over plain HTTP"
                ));
            }
        }
        if self.cluster_keys.is_none() {
            warnings.push(
                "no `cluster_key_file`: this daemon runs ALONE, as a caching mirror without peers; \
                 `shoal key new` prints a key for a cluster"
                    .to_owned(),
            );
        }
        if self.registries.is_empty() && !self.allow_any_registry {
            warnings.push(
                "no `registry` is configured, so every pull is refused; name one with `--registry NAME`".to_owned(),
            );
        }
        warnings
    }
}

/// Whether an address, by itself, is surely that of a listener.
fn leads_to(at: SocketAddr, own: SocketAddr) -> bool {
    let here = at.ip().is_loopback() || at.ip().is_unspecified();
    at.port() == own.port() && (at.ip() == own.ip() || (here && (own.ip().is_unspecified() || own.ip().is_loopback())))
}

/// Whether two listeners would be in each other's way.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// The registries of `registry` and `registries`, with what `access` and `ca_file` say about them.
fn registries(layer: &Layer) -> Result<Vec<RegistryConfig>, SettingsError> {
    let mut known: BTreeMap<String, RegistryConfig> = BTreeMap::new();
    let listed = layer.registry.iter().map(|text| text.parse::<RegistryConfig>());
    let tables = layer.registries.iter().map(|(name, table)| {
        let table = table.clone();
        let registry = RegistryConfig {
            name: name.clone(),
            urls: table.url,
            access: table.access,
            credentials: table.credentials,
            user_file: table.user_file,
            password_file: table.password_file,
            ca_file: table.ca_file,
            client_cert: table.client_cert,
            client_key: table.client_key,
            proxy: table.proxy.map(|proxy| proxy.0),
            allow_local: table.allow_local,
        };
        registry.base_urls()?;
        Ok(registry)
    });
    for registry in listed.chain(tables) {
        let registry = registry?;
        let name = registry.canonical_name()?;
        if known.insert(name.clone(), registry).is_some() {
            return Err(shoal_origin::ConfigError::Twice(name).into());
        }
    }
    for said in &layer.access {
        find(&mut known, "access", &said.registry)?.access = Some(said.access);
    }
    for said in &layer.ca_file {
        find(&mut known, "ca_file", &said.registry)?.ca_file = Some(said.file.clone());
    }
    Ok(known.into_values().collect())
}

fn find<'a>(
    known: &'a mut BTreeMap<String, RegistryConfig>,
    setting: &'static str,
    name: &str,
) -> Result<&'a mut RegistryConfig, SettingsError> {
    let canonical = RegistryConfig::named(name).canonical_name()?;
    known.get_mut(&canonical).ok_or_else(|| SettingsError::UnknownRegistry { setting, registry: name.to_owned() })
}

/// The proxies that are said, or those of the environment. What is excepted is found in the one as in the other.
fn proxies(said: Option<ProxyUrl>, except: &[String]) -> Result<Proxies, SettingsError> {
    let found = Proxies::of_environment(|name| std::env::var(name).ok());
    let Some(ProxyUrl(said)) = said else { return Ok(found?) };
    let found = found.unwrap_or_default();
    Ok(Proxies::of(&said, &if except.is_empty() { found.except().to_owned() } else { except.join(",") }))
}

fn cluster_keys(path: &Path) -> Result<ClusterKeys, SettingsError> {
    let unreadable = |source| SettingsError::KeyFile { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(SettingsError::KeyFileMode { path: path.to_owned(), mode });
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    ClusterKeys::parse(&text).map_err(|source| SettingsError::KeyFileContent { path: path.to_owned(), source })
}
