//! The node: store, origin, planes and mirror, joined by the engine.
//!
//! * [`Node`]: the whole, as `main` starts and ends it;
//! * `engine`: the one owner of all decisions, and `mailbox`, what it is told;
//! * `library`, `access`, `seat`, `reader`: what clients of the mirror get, and who may;
//! * `questions`: what several clients ask the origin at once;
//! * `receiving`, `reading`: pieces on their way in, from peers and from the origin;
//! * `book`, `shelf`, `tally`: what is known of a blob's chain, of its pieces, of where its bytes came from.

mod access;
mod book;
mod claim;
mod clock;
mod engine;
mod failure;
mod figures;
mod identity;
mod library;
mod mailbox;
mod papers;
mod questions;
mod reader;
mod reading;
mod receiving;
mod seat;
mod shelf;
mod tally;

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use shoal_discovery::{Discovery, DiscoveryConfig};
use shoal_mirror::{Mirror, MirrorConfig};
use shoal_origin::{Origins, Policy, RunSettings};
use shoal_pace::Rate;
use shoal_proto::{ClusterKeys, NodeKey};
use shoal_store::{Departure, Store, StoreConfig};
use shoal_swarm::trade::LinkLimits;
use shoal_transfer::{Endpoint, Peer, Rates, TransferConfig};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::{
    access::Door,
    engine::{Engine, Limits, Parts, Planes, Words},
    figures::NodeFigures,
    library::NodeLibrary,
    mailbox::{Mailbox, Told},
    questions::Questions,
};
use crate::{
    admin::{self, Admin},
    audit::{AuditFile, AuditLog},
    config::Settings,
    metrics::Metrics,
};

/// How long peers may take to be told goodbye.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often the store sees to its limits.
const RELIEF: Duration = Duration::from_secs(10);

/// A running node.
pub struct Node {
    addresses: Addresses,
    ready: watch::Receiver<bool>,
    mailbox: Mailbox,
    store: Store,
    origins: Origins,
    door: Arc<Door>,
    audit: Arc<AuditLog>,
    planes: Option<Planes>,
    keys: Mutex<Option<ClusterKeys>>,
    limits: watch::Sender<Limits>,
    stop: CancellationToken,
    mirror: JoinHandle<()>,
    admin: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Addresses {
    mirror: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts everything and returns once all ports are listened on; the node is ready some time later.
    ///
    /// # Errors
    /// When a part cannot start: the message names the setting or the file.
    pub async fn start(settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let data_dir = settings.data_dir.clone();
        std::fs::create_dir_all(&data_dir).with_context(|| format!("`data_dir`: create {}", data_dir.display()))?;
        let key = identity::of_node(&data_dir)?;
        let config =
            StoreConfig { min_free: settings.min_free, ..StoreConfig::new(data_dir.join("store"), settings.capacity) };
        let store = tokio::task::spawn_blocking(move || Store::open(&config)).await??;
        let origins = Origins::new(settings.registries.clone(), policy(&settings))?;
        let door = Arc::new(Door::new(origins.clone(), settings.allow_any_registry));

        let admin_listener = admin::listen(settings.admin_listen).await?;
        let mirror_listener = TcpListener::bind(settings.mirror_listen)
            .await
            .with_context(|| format!("`mirror_listen` = {}: cannot listen there", settings.mirror_listen))?;

        let (mailbox, told) = Mailbox::new();
        let (ready_sender, ready) = watch::channel(false);
        let (limits, limits_receiver) = watch::channel(limits(&settings));
        let (planes, words) = match &settings.cluster_keys {
            Some(keys) => {
                let (planes, discovery, transfer) = meet(&settings, &key, keys).await?;
                (Some(planes), Words { told, discovery: Some(discovery), transfer: Some(transfer) })
            }
            None => (None, Words { told, discovery: None, transfer: None }),
        };
        let peer = planes.as_ref().map_or(Ok(settings.peer_listen), |planes| planes.endpoint.local_addr())?;
        let addresses = Addresses { mirror: mirror_listener.local_addr()?, peer, admin: admin_listener.local_addr()? };
        tracing::info!(node = %key.id(), "this node's name");

        let departing = mailbox.clone();
        store.on_departure(move |digest, why| {
            departing.tell(Told::Departing { digest: *digest, evicted: why == Departure::Evicted });
        });
        let tally = Arc::new(Mutex::default());
        let engine = Engine::new(Parts {
            key,
            zone: settings.zone.clone(),
            store: store.clone(),
            origins: origins.clone(),
            door: door.clone(),
            planes: planes.clone(),
            metrics: metrics.clone(),
            tally: Arc::clone(&tally),
            limits: limits_receiver,
            mailbox: mailbox.clone(),
            ready: ready_sender,
        });
        tokio::spawn(engine.run(words));
        tokio::spawn(keep_room(store.clone()));

        let audit = settings.audit_log.as_deref().map(AuditFile::open).transpose()?;
        let audit = Arc::new(AuditLog::start(audit, metrics.clone())?);
        let library = NodeLibrary {
            store: store.clone(),
            origins: origins.clone(),
            door: door.clone(),
            mailbox: mailbox.clone(),
            metrics: metrics.clone(),
            readers: AtomicU64::new(0),
            manifests: Questions::default(),
            heads: Questions::default(),
            listings: Questions::default(),
        };
        let config = MirrorConfig {
            max_connections: settings.mirror_connections,
            max_readers: settings.mirror_readers,
            drain: settings.drain,
            ..MirrorConfig::default()
        };
        let mirror = Mirror::new(Arc::new(library), config)?.told_to(audit.clone());
        let figures = NodeFigures {
            store: store.clone(),
            origins: origins.clone(),
            planes: planes.clone(),
            mirror: mirror.counts(),
            tally,
        };
        let stop = CancellationToken::new();
        let admin = Admin { metrics, figures: Arc::new(figures), ready: ready.clone() };
        Ok(Self {
            addresses,
            ready,
            mailbox,
            store,
            origins,
            door,
            audit,
            planes,
            keys: Mutex::new(settings.cluster_keys.clone()),
            limits,
            mirror: tokio::spawn({
                let stop = stop.clone();
                async move { mirror.serve(mirror_listener, stop).await }
            }),
            admin: tokio::spawn(admin.serve(admin_listener, CancellationToken::new())),
            stop,
        })
    }

    /// Where the mirror listens.
    #[must_use]
    pub const fn mirror_addr(&self) -> SocketAddr {
        self.addresses.mirror
    }

    /// Where peers are awaited; the configured address where the node runs alone and awaits none.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.addresses.peer
    }

    /// Where the admin server listens.
    #[must_use]
    pub const fn admin_addr(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Becomes true once the cluster has been found, or is known not to be there, and this node has announced what it
    /// holds; stays true.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Takes over what is live of these settings: registries and their credentials, cluster keys, limits, and the audit log,
    /// which is opened anew.
    ///
    /// # Errors
    /// When a registry's configuration or the audit log cannot be used; nothing has changed then.
    pub fn reload(&self, settings: Settings) -> anyhow::Result<()> {
        let audit = settings.audit_log.as_deref().map(AuditFile::open).transpose()?;
        self.origins.reload(settings.registries.clone(), policy(&settings))?;
        self.audit.go_over_to(audit);
        self.door.reload(settings.allow_any_registry);
        self.limits.send_replace(limits(&settings));
        if let Some(planes) = &self.planes {
            planes.endpoint.set_rates(rates(&settings));
        }
        self.store.set_limits(settings.capacity, settings.min_free);
        if let (Some(planes), Some(keys)) = (&self.planes, settings.cluster_keys) {
            let changed = self.keys.lock().replace(keys.clone()) != Some(keys.clone());
            if changed {
                planes.discovery.set_keys(keys.clone());
                planes.endpoint.set_keys(keys);
                // Each peer proves itself anew: one whose key was taken out does not come back.
                planes.endpoint.peers().iter().for_each(Peer::close);
            }
        }
        Ok(())
    }

    /// Ends the node: readers finish or end short within that time, leases go back, the index is flushed.
    pub async fn drain(self, within: Duration) {
        self.stop.cancel();
        let mirror = self.mirror;
        if tokio::time::timeout(within + FAREWELL, mirror).await.is_err() {
            tracing::warn!("clients were still being served when the drain ended");
        }
        let (reply, told) = oneshot::channel();
        self.mailbox.tell(Told::Drain { reply });
        let _ = tokio::time::timeout(FAREWELL, told).await;
        if let Some(planes) = &self.planes {
            planes.endpoint.close(FAREWELL).await;
            let _ = tokio::time::timeout(FAREWELL, planes.discovery.shutdown()).await;
        }
        let (store, audit) = (self.store, self.audit);
        if tokio::task::spawn_blocking(move || audit.close(FAREWELL)).await.is_err() {
            tracing::error!("the end of the audit log may be missing");
        }
        match tokio::task::spawn_blocking(move || store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store could not be closed cleanly; it will be checked"),
            Err(error) => tracing::error!(%error, "closing the store ended badly; it will be checked"),
        }
        self.admin.abort();
    }
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        allow_any_registry: settings.allow_any_registry,
        credentials: settings.credentials.clone(),
        proxies: settings.proxies.clone(),
        limit: settings.limit_origin,
        ..Policy::default()
    }
}

fn limits(settings: &Settings) -> Limits {
    let runs = RunSettings {
        in_flight: settings.origin_in_flight,
        connections: settings.origin_connections,
        ..RunSettings::default()
    };
    let of = |rate: Option<Rate>| rate.and_then(|rate| NonZeroU64::new(rate.bytes()));
    let links = LinkLimits { up: of(settings.limit_up), down: of(settings.limit_down) };
    Limits { runs, in_flight: settings.in_flight, links }
}

const fn rates(settings: &Settings) -> Rates {
    Rates { up: settings.limit_up, down: settings.limit_down }
}

type Met =
    (Planes, tokio::sync::mpsc::Receiver<shoal_discovery::Event>, tokio::sync::mpsc::Receiver<shoal_transfer::Event>);

/// Opens both planes on one port number: TCP for control, UDP for data.
async fn meet(settings: &Settings, key: &NodeKey, keys: &ClusterKeys) -> anyhow::Result<Met> {
    let setting = || format!("`peer_listen` = {}", settings.peer_listen);
    let config = DiscoveryConfig {
        listen: vec![settings.peer_listen],
        advertise: settings.advertise.iter().map(|&advertised| advertised.into()).collect(),
        bootstrap: settings.bootstrap.iter().map(ToString::to_string).collect(),
        alone_after: settings.alone_after,
        ..DiscoveryConfig::new(key.clone(), keys.clone())
    };
    let (discovery, found) = Discovery::start(config).await.with_context(setting)?;
    let port = discovery.listen_addrs().first().map_or(settings.peer_listen.port(), SocketAddr::port);
    let address = SocketAddr::new(settings.peer_listen.ip(), port);
    let config = TransferConfig { rates: rates(settings), ..TransferConfig::default() };
    let bound = Endpoint::bind(address, key, keys.clone(), config);
    let (endpoint, traded) = bound.with_context(setting)?;
    Ok((Planes { discovery, endpoint }, found, traded))
}

/// Sees to it that the file system keeps its free space, also when others fill it.
async fn keep_room(store: Store) {
    loop {
        tokio::time::sleep(RELIEF).await;
        let store = store.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.relieve()).await {
            if matches!(error, shoal_store::StoreError::Closed { .. }) {
                return;
            }
            tracing::warn!(%error, "room could not be made in the store");
        }
    }
}
