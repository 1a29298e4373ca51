//! One place where settings are written.

use std::{collections::BTreeMap, num::NonZeroU16, path::PathBuf, time::Duration};

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize};
use shoal_origin::Access;

use super::{
    Rate,
    value::{
        AccessOf, Advertised, CaOf, Count, Directives, Endpoint, Listen, LogFormat, ProxyUrl, Size, Span, Zone,
        yes_or_no,
    },
};

/// The settings of one place: the flags with the environment, the file, or the defaults. What is not said is `None` or
/// empty. The comments are the help text and the documentation.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layer {
    /// Where blobs, the index and the node's identity are kept; belongs to this daemon alone
    #[arg(long, env = "SHOAL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where the registry mirror listens for this node's clients; it speaks plain HTTP, so keep it on loopback
    #[arg(long, env = "SHOAL_MIRROR_LISTEN", value_name = "ADDR:PORT")]
    pub mirror_listen: Option<Listen>,

    /// Where peers are awaited: TCP for control and UDP for data on the same port number
    #[arg(long, env = "SHOAL_PEER_LISTEN", value_name = "ADDR:PORT")]
    pub peer_listen: Option<Listen>,

    /// Where /metrics, /healthz, /readyz and /blobs are served; plain HTTP without authentication
    #[arg(long, env = "SHOAL_ADMIN_LISTEN", value_name = "ADDR:PORT")]
    pub admin_listen: Option<Listen>,

    /// A peer to find the cluster by; a name may have many addresses. Repeatable; commas between several
    #[arg(long, env = "SHOAL_BOOTSTRAP", value_name = "HOST:PORT", value_delimiter = ',')]
    pub bootstrap: Vec<Endpoint>,

    /// The address that peers are told, where that of the network interface is not the right one. Repeatable
    #[arg(long, env = "SHOAL_ADVERTISE", value_name = "ADDR[:PORT]", value_delimiter = ',')]
    pub advertise: Vec<Advertised>,

    /// The file with the cluster key, one a line: the first proves membership, all are accepted. Without it the daemon
    /// runs alone
    #[arg(long, env = "SHOAL_CLUSTER_KEY_FILE", value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,

    /// A registry that may be mirrored, and where it is reached (https://NAME unless said; plain http only when written
    /// here). Repeatable
    #[arg(long, env = "SHOAL_REGISTRY", value_name = "NAME[=URL]", value_delimiter = ',')]
    pub registry: Vec<String>,

    /// Mirror registries that are not configured too: over https, at public addresses, without credentials
    #[arg(
        long, env = "SHOAL_ALLOW_ANY_REGISTRY", value_name = "BOOL", value_parser = yes_or_no,
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub allow_any_registry: Option<bool>,

    /// A docker config.json with credentials for the configured registries, or a folder with one or with a
    /// .dockerconfigjson; each registry that has some needs `access`. Repeatable: the first that knows a registry is used
    #[arg(long, env = "SHOAL_CREDENTIALS", value_name = "PATH", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub credentials: Vec<PathBuf>,

    /// Who may read what a registry gives only to our credentials: callers that prove themselves at the origin (caller),
    /// or whoever reaches this node's mirror (node). Repeatable
    #[arg(long, env = "SHOAL_ACCESS", value_name = "NAME=caller|node", value_delimiter = ',')]
    pub access: Vec<AccessOf>,

    /// PEM certificates to trust for a registry beside the system's. Repeatable
    #[arg(long, env = "SHOAL_CA_FILE", value_name = "NAME=FILE", value_delimiter = ',')]
    pub ca_file: Vec<CaOf>,

    /// The proxy on the way to registries, http://HOST:PORT, or none; without it HTTP_PROXY and HTTPS_PROXY of the
    /// environment hold
    #[arg(long, env = "SHOAL_PROXY", value_name = "URL|none")]
    pub proxy: Option<ProxyUrl>,

    /// What is asked without the proxy: names with all below them, addresses, networks, or *; without it NO_PROXY of the
    /// environment holds. Repeatable
    #[arg(long, env = "SHOAL_NO_PROXY", value_name = "HOST", value_delimiter = ',')]
    pub no_proxy: Vec<String>,

    /// The most that the blobs on disk may have together; the least recently used go first
    #[arg(long, env = "SHOAL_CAPACITY", value_name = "SIZE")]
    pub capacity: Option<Size>,

    /// What is always left free on the file system, whatever the capacity says
    #[arg(long, env = "SHOAL_MIN_FREE", value_name = "SIZE")]
    pub min_free: Option<Size>,

    /// The zone of this node: each piece comes into a zone once, and is traded there
    #[arg(long, env = "SHOAL_ZONE", value_name = "NAME")]
    pub zone: Option<Zone>,

    /// After how long without any peer the daemon goes on alone, loudly, and keeps trying
    #[arg(long, env = "SHOAL_ALONE_AFTER", value_name = "DURATION")]
    pub alone_after: Option<Span>,

    /// The most memory for pieces on their way in; 32MiB at least
    #[arg(long, env = "SHOAL_IN_FLIGHT", value_name = "SIZE")]
    pub in_flight: Option<Size>,

    /// The most that is under way from origins at once, 1MiB to 32MiB
    #[arg(long, env = "SHOAL_ORIGIN_IN_FLIGHT", value_name = "SIZE")]
    pub origin_in_flight: Option<Size>,

    /// How many connections one blob is read from an origin over, 1 to 32
    #[arg(long, env = "SHOAL_ORIGIN_CONNECTIONS", value_name = "COUNT")]
    pub origin_connections: Option<Count>,

    /// The most that is sent to peers, over all of them: UDP payload, all of it; 1mbit to 1000gbit, or none
    #[arg(long, env = "SHOAL_LIMIT_UP", value_name = "RATE")]
    pub limit_up: Option<Rate>,

    /// The most that is received from peers, over all of them: UDP payload, all of it; 1mbit to 1000gbit, or none
    #[arg(long, env = "SHOAL_LIMIT_DOWN", value_name = "RATE")]
    pub limit_down: Option<Rate>,

    /// The most that is read of blobs from origins, over all of them; manifests and tokens are exempt; 1mbit to 1000gbit, or
    /// none
    #[arg(long, env = "SHOAL_LIMIT_ORIGIN", value_name = "RATE")]
    pub limit_origin: Option<Rate>,

    /// How many connections the mirror serves at once; those beyond are answered 503
    #[arg(long, env = "SHOAL_MIRROR_CONNECTIONS", value_name = "COUNT")]
    pub mirror_connections: Option<Count>,

    /// How many bodies of blobs the mirror sends at once; requests beyond are answered 503
    #[arg(long, env = "SHOAL_MIRROR_READERS", value_name = "COUNT")]
    pub mirror_readers: Option<Count>,

    /// A file to which a line of JSON is added for each manifest and blob that a client was answered; opened anew on SIGHUP
    #[arg(long, env = "SHOAL_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,

    /// How long open downloads may go on after SIGTERM, 10m at most; a second signal ends at once
    #[arg(long, env = "SHOAL_DRAIN", value_name = "DURATION")]
    pub drain: Option<Span>,

    /// How log lines look
    #[arg(long, env = "SHOAL_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Which log lines are written: a level, or directives such as info,shoal_swarm=debug
    #[arg(long, env = "SHOAL_LOG", value_name = "FILTER")]
    pub log: Option<Directives>,

    /// Registries with what is said about each; in the file alone.
    #[arg(skip)]
    pub registries: BTreeMap<String, RegistryTable>,
}

/// What the file says about one registry, in `[registries."NAME"]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryTable {
    /// Where it is reached: scheme, host and port, one or several, the best first; `https://NAME` when it is not said.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub url: Vec<String>,
    /// Who may read what it gives only to our credentials.
    pub access: Option<Access>,
    /// A docker config.json for this registry alone.
    pub credentials: Option<PathBuf>,
    /// The user's name, in a file of one line.
    pub user_file: Option<PathBuf>,
    /// The user's password, in a file of one line.
    pub password_file: Option<PathBuf>,
    /// PEM certificates to trust for it beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificates to show to it.
    pub client_cert: Option<PathBuf>,
    /// The key of the first of them, where it is not in the same file.
    pub client_key: Option<PathBuf>,
    /// The proxy on the way to it, or none.
    pub proxy: Option<ProxyUrl>,
    /// Whether it may lead to addresses of this machine and its link that its URLs do not write.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_local: bool,
}

/// Reads one item, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref)] // serde wants it so.
fn is_false(value: &bool) -> bool {
    !value
}

impl Layer {
    /// The settings that hold where nothing is said.
    #[must_use]
    pub fn defaults() -> Self {
        let local = |port| Some(Listen(([127, 0, 0, 1], port).into()));
        let count = |number| NonZeroU16::new(number).map(Count);
        Self {
            data_dir: Some("/var/lib/shoal".into()),
            mirror_listen: local(5050),
            peer_listen: Some(Listen(([0, 0, 0, 0], 5051).into())),
            admin_listen: local(5052),
            allow_any_registry: Some(false),
            capacity: Some(Size(100 << 30)),
            min_free: Some(Size(10 << 30)),
            alone_after: Some(Span(Duration::from_secs(30))),
            in_flight: Some(Size(64 << 20)),
            origin_in_flight: Some(Size(32 << 20)),
            origin_connections: count(4),
            limit_up: Some(Rate(None)),
            limit_down: Some(Rate(None)),
            limit_origin: Some(Rate(None)),
            mirror_connections: count(1024),
            mirror_readers: count(512),
            drain: Some(Span(Duration::from_secs(30))),
            log_format: Some(LogFormat::Human),
            log: Some(Directives("info".to_owned())),
            ..Self::default()
        }
    }

    /// What is said, by the names of the file.
    pub(super) fn fields(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields,
            // A path that is not UTF-8 has no place in a file of settings; nothing is said about it then.
            _ => serde_json::Map::new(),
        }
    }

    /// This place's settings, and those of `below` where this one says nothing. A list is taken whole from one place;
    /// `registry` and `registries` count as one list.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let names_registries = !(self.registry.is_empty() && self.registries.is_empty());
        let (registry, registries) =
            if names_registries { (self.registry, self.registries) } else { (below.registry, below.registries) };
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            mirror_listen: self.mirror_listen.or(below.mirror_listen),
            peer_listen: self.peer_listen.or(below.peer_listen),
            admin_listen: self.admin_listen.or(below.admin_listen),
            bootstrap: or(self.bootstrap, below.bootstrap),
            advertise: or(self.advertise, below.advertise),
            cluster_key_file: self.cluster_key_file.or(below.cluster_key_file),
            registry,
            allow_any_registry: self.allow_any_registry.or(below.allow_any_registry),
            credentials: or(self.credentials, below.credentials),
            access: or(self.access, below.access),
            ca_file: or(self.ca_file, below.ca_file),
            proxy: self.proxy.or(below.proxy),
            no_proxy: or(self.no_proxy, below.no_proxy),
            capacity: self.capacity.or(below.capacity),
            min_free: self.min_free.or(below.min_free),
            zone: self.zone.or(below.zone),
            alone_after: self.alone_after.or(below.alone_after),
            in_flight: self.in_flight.or(below.in_flight),
            origin_in_flight: self.origin_in_flight.or(below.origin_in_flight),
            origin_connections: self.origin_connections.or(below.origin_connections),
            limit_up: self.limit_up.or(below.limit_up),
            limit_down: self.limit_down.or(below.limit_down),
            limit_origin: self.limit_origin.or(below.limit_origin),
            mirror_connections: self.mirror_connections.or(below.mirror_connections),
            mirror_readers: self.mirror_readers.or(below.mirror_readers),
            audit_log: self.audit_log.or(below.audit_log),
            drain: self.drain.or(below.drain),
            log_format: self.log_format.or(below.log_format),
            log: self.log.or(below.log),
            registries,
        }
    }
}

fn or<T>(above: Vec<T>, below: Vec<T>) -> Vec<T> {
    if above.is_empty() { below } else { above }
}
