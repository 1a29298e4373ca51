//! The task that owns the libp2p swarm: it waits in one place, and applies what happened in another.
//!
//! Invariant: `links` has exactly the peers that libp2p says are connected; the published view is those of them that
//! answer pings.

mod connections;
mod dialing;
mod keys;
mod protocols;
mod upkeep;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Swarm,
    core::upgrade::Version,
    kad::QueryId,
    request_response::OutboundRequestId,
    swarm::{self, ConnectionId},
};
use shoal_blob::Digest;
use shoal_proto::NodeId;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use self::dialing::Dialled;
use crate::{
    DiscoveryConfig, Event, Readiness, StartError,
    address::{OwnAddresses, multiaddr},
    behaviour::Behaviour,
    book::Book,
    bootstrap::{Bootstrap, Resolved},
    command::Command,
    counters::{add, set},
    gate::Gate,
    identity,
    joining::{Facts, Joining, Next},
    letters::Lanes,
    link::Link,
    lookups::Lookups,
    outbox::Outbox,
    refusals::Refusals,
    ring,
    shared::Shared,
    transport,
};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(100);
/// How long listening may take to begin.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// Connections do not end because nothing is said on them.
const NEVER_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The owner of the swarm.
pub(crate) struct Node {
    me: NodeId,
    config: DiscoveryConfig,
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Nobody reads events any more.
    deaf: bool,
    outbox: Outbox,
    book: Book,
    own: OwnAddresses,
    links: HashMap<NodeId, Link>,
    dials: HashMap<ConnectionId, Dialled>,
    bootstrap: Bootstrap,
    resolving: FuturesUnordered<BoxFuture<'static, Resolved>>,
    joining: Joining,
    walk: Option<QueryId>,
    asked: HashMap<OutboundRequestId, NodeId>,
    lanes: Lanes,
    lookups: Lookups,
    refusals: Refusals,
    renewals: keys::Renewals,
    schedule: upkeep::Schedule,
    /// With whom to be connected, where more are known than connections are kept.
    chosen: Option<HashSet<NodeId>>,
    started: Instant,
    /// Something changed that joining or the view may depend on.
    changed: bool,
}

/// Listens and starts the task.
pub(crate) async fn start(
    config: DiscoveryConfig,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) -> Result<Arc<Shared>, StartError> {
    let mut node = Node::new(config, commands, events)?;
    node.listen().await?;
    let shared = Arc::clone(&node.shared);
    tracing::info!(node = %node.me, listening = ?node.own.listening(), "the control plane is up");
    tokio::spawn(node.run());
    Ok(shared)
}

impl Node {
    fn new(
        config: DiscoveryConfig,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::NothingToListenOn);
        }
        if let Some(entry) = config.bootstrap.iter().find(|entry| !is_host_and_port(entry)) {
            return Err(StartError::Bootstrap { entry: entry.clone() });
        }
        let now = Instant::now();
        let me = config.key.id();
        let keypair = identity::keypair(&config.key);
        let gate = Arc::new(Gate::new(me, config.keys.clone()));
        let transport = transport::build(&keypair, Arc::clone(&gate), config.handshake_timeout)?;
        let behaviour = Behaviour::new(&config, &keypair);
        // The name of a stream's protocol goes with its first bytes. Agreeing on it beforehand costs a round trip and has a
        // time limit of its own, ten seconds, in which a ping to a node that hangs would not fail.
        let how = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(NEVER_IDLE)
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        Ok(Self {
            me,
            swarm: Swarm::new(transport, behaviour, keypair.public().to_peer_id(), how),
            shared: Arc::new(Shared::new(me, gate)),
            commands,
            events,
            deaf: false,
            outbox: Outbox::new(config.event_buffer.max(1)),
            book: Book::new(me),
            own: OwnAddresses::new(config.advertise.clone()),
            links: HashMap::new(),
            dials: HashMap::new(),
            bootstrap: Bootstrap::new(config.bootstrap.clone(), now),
            resolving: FuturesUnordered::new(),
            joining: Joining::default(),
            walk: None,
            asked: HashMap::new(),
            lanes: Lanes::default(),
            lookups: Lookups::default(),
            refusals: Refusals::default(),
            renewals: keys::Renewals::default(),
            schedule: upkeep::Schedule::new(now),
            chosen: None,
            started: now,
            changed: true,
            config,
        })
    }

    /// Binds every address and waits until the ports, and the interfaces behind unspecified addresses, are known.
    async fn listen(&mut self) -> Result<(), StartError> {
        let mut pending: HashMap<_, SocketAddr> = HashMap::new();
        for &address in &self.config.listen {
            let listener = self.swarm.listen_on(multiaddr(address));
            let listener = listener.map_err(|error| StartError::Listen { address, reason: error.to_string() })?;
            pending.insert(listener, address);
        }
        let deadline = tokio::time::sleep(LISTEN_LIMIT);
        tokio::pin!(deadline);
        while !pending.is_empty() {
            let event = tokio::select! {
                event = self.swarm.select_next_some() => event,
                () = &mut deadline => break,
            };
            match &event {
                swarm::SwarmEvent::NewListenAddr { listener_id, .. } => {
                    pending.remove(listener_id);
                }
                swarm::SwarmEvent::ListenerClosed { listener_id, reason: Err(reason), .. } => {
                    if let Some(address) = pending.remove(listener_id) {
                        return Err(StartError::Listen { address, reason: reason.to_string() });
                    }
                }
                _ => {}
            }
            self.on_swarm_event(event);
        }
        // The other interfaces are told in the same breath.
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_swarm_event(event);
        }
        for address in pending.into_values() {
            tracing::warn!(%address, "no network interface to listen on yet");
        }
        if !self.bootstrap.has_names() {
            self.set_readiness(Readiness::NobodyThere);
        }
        Ok(())
    }

    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let events = self.events.clone();
        let stopped = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Stop { stopped }) => break Some(stopped),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(found) = self.resolving.next() => self.on_resolved(&found),
                permit = events.reserve(), if !self.deaf && !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop() {
                            permit.send(event);
                        }
                    }
                    Err(_) => self.deaf = true,
                },
                _ = tick.tick() => self.on_tick(),
            }
            self.settle();
        };
        drop((self.swarm, self.commands));
        if let Some(stopped) = stopped {
            // Whoever asked may have gone.
            let _: Result<(), ()> = stopped.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Send { to, frame } => self.send(to, frame),
            Command::Keep { message, bytes } => {
                if !self.outbox.message(self.me, *message, bytes) {
                    add(&self.shared.counters.messages_dropped, 1);
                }
            }
            Command::Closest { digest, answer } => self.look_up(digest, answer),
            Command::Stop { .. } => unreachable!("the loop ends on it"),
        }
    }

    fn look_up(&mut self, digest: Digest, answer: oneshot::Sender<Vec<NodeId>>) {
        if let Some(nodes) = self.lookups.cached(&digest, Instant::now()) {
            // Whoever asked may have gone.
            let _ = answer.send(nodes);
            return;
        }
        let Err(answer) = self.lookups.join(&digest, answer) else { return };
        if !self.lookups.has_room() {
            let nodes = self.live().into_iter().chain([self.me]);
            let _ = answer.send(ring::closest_found(nodes, &digest));
            return;
        }
        let walk = self.swarm.behaviour_mut().kademlia.get_closest_peers(digest.as_bytes().to_vec());
        add(&self.shared.counters.queries, 1);
        self.lookups.begun(walk, digest, answer);
    }

    /// Brings everything that follows from other things up to date.
    fn settle(&mut self) {
        if self.deaf {
            while self.outbox.pop().is_some() {}
        }
        for node in self.book.take_touched() {
            let addresses = self.book.addresses(node).to_vec();
            let mut published = self.shared.published.write();
            if addresses.is_empty() {
                published.addresses.remove(&node);
            } else {
                published.addresses.insert(node, addresses);
            }
        }
        if std::mem::take(&mut self.changed) {
            self.publish_view();
            self.advance_joining();
        }
    }

    fn live(&self) -> BTreeSet<NodeId> {
        self.links.iter().filter(|(_, link)| link.is_live()).map(|(node, _)| *node).collect()
    }

    fn publish_view(&mut self) {
        let live = self.live();
        let counters = &self.shared.counters;
        set(&counters.peers_connected, live.len() as u64);
        set(&counters.peers_known, self.book.len() as u64);
        let small = live.len() <= self.config.mesh && self.book.promising() <= self.config.mesh;
        let mut published = self.shared.published.write();
        published.small = small;
        if published.live != live {
            self.outbox.view(live.iter().copied().collect());
            published.live = live;
        }
    }

    fn advance_joining(&mut self) {
        if self.joining.is_done() {
            return;
        }
        let now = Instant::now();
        let live = self.links.iter().filter(|(_, link)| link.is_live());
        let (settled, unsettled): (Vec<_>, Vec<_>) = live.partition(|(_, link)| link.is_settled(now));
        let settled: Vec<_> = settled.into_iter().map(|(node, _)| *node).collect();
        let untried = self.book.nodes().any(|node| self.wants(node) && self.book.is_untried(node));
        let facts = Facts { settled: &settled, unsettled: !unsettled.is_empty(), untried };
        for next in self.joining.advance(&facts, now) {
            match next {
                Next::Walk => {
                    add(&self.shared.counters.queries, 1);
                    self.walk = self.swarm.behaviour_mut().kademlia.bootstrap().ok();
                    if self.walk.is_none() {
                        self.joining.walked(now);
                        self.changed = true;
                    }
                }
                Next::Ask(node) => self.ask_for_introductions(node),
                Next::Joined => {
                    self.schedule.joined(now);
                    self.set_readiness(Readiness::Joined { peers: settled.len() });
                }
            }
        }
    }

    fn set_readiness(&mut self, readiness: Readiness) {
        match readiness {
            Readiness::Searching => {}
            Readiness::Joined { peers } => tracing::info!(peers, "joined the cluster"),
            Readiness::NobodyThere => tracing::info!("there is nobody to join; others may join this node"),
            Readiness::AloneAfterTimeout => tracing::error!(
                waited = ?self.config.alone_after,
                bootstrap = ?self.config.bootstrap,
                "no member of the cluster answered; this node GOES ON ALONE and keeps trying. Are the bootstrap addresses \
                 right, is the port open, have all nodes the same cluster key?"
            ),
        }
        set(&self.shared.counters.alone, u64::from(readiness == Readiness::AloneAfterTimeout));
        self.shared.published.write().readiness = readiness;
        self.outbox.readiness(readiness);
    }

    fn readiness(&self) -> Readiness {
        self.shared.published.read().readiness
    }
}

/// Whether a bootstrap entry is `host:port`, an IPv6 address in brackets.
fn is_host_and_port(entry: &str) -> bool {
    let Some((host, port)) = entry.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    host_fits && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_entries_are_checked() {
        for good in ["localhost:5051", "10.0.0.7:1", "[::1]:65535", "shoal-0.shoal.default.svc:5051"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["", "localhost", ":5051", "a:0", "a:65536", "a:+1", "::1:5051", "http://a:1", "[x]:1", "a b:1"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
