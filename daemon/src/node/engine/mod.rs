//! The one owner of what the node decides: it drives the state machines and hands the doing to tasks.
//!
//! Everything that happens comes to it as one word at a time and is applied at once; it never waits for anything but the
//! next word. So there are no locks, and the order in which things happened is the order in which they count.

mod asking;
mod coordinating;
mod holding;
mod peers;
mod pursuit;
mod trading;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shoal_blob::Digest;
use shoal_discovery::Discovery;
use shoal_origin::{Origins, RunSettings};
use shoal_proto::{NodeId, NodeKey, coordination::Refusal};
use shoal_store::Store;
use shoal_swarm::{
    Time,
    coordination::{Coordinator, MemberInput, Settings as CoordinationSettings},
    trade::{Capacity, Fault, Input, LinkLimits, Settings as TradeSettings},
};
use shoal_transfer::{Endpoint, Peer};
use tokio::sync::{mpsc, watch};

use self::pursuit::Pursuit;
use super::{
    access::Door,
    clock::Clock,
    failure,
    mailbox::{Mailbox, Told},
    shelf::Sources,
    tally::Tally,
};
use crate::metrics::Metrics;

/// How often pursuits are looked over.
const TICK: Duration = Duration::from_secs(1);
/// How many words are applied before the timers are looked at again.
const AT_ONCE: usize = 256;

/// What the engine may use up; changed by a reload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) runs: RunSettings,
    pub(super) in_flight: u64,
    pub(super) links: LinkLimits,
}

/// The two planes on which this node meets others; absent when it runs alone.
#[derive(Clone)]
pub(super) struct Planes {
    pub(super) discovery: Discovery,
    pub(super) endpoint: Endpoint,
}

/// What the engine is made of.
pub(super) struct Parts {
    pub(super) key: NodeKey,
    pub(super) zone: String,
    pub(super) store: Store,
    pub(super) origins: Origins,
    pub(super) door: Arc<Door>,
    pub(super) planes: Option<Planes>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) limits: watch::Receiver<Limits>,
    pub(super) mailbox: Mailbox,
    pub(super) ready: watch::Sender<bool>,
}

/// The owner. See the module.
pub(super) struct Engine {
    clock: Clock,
    key: NodeKey,
    zone: String,
    store: Store,
    origins: Origins,
    door: Arc<Door>,
    planes: Option<Planes>,
    metrics: Arc<Metrics>,
    tally: Arc<Mutex<Tally>>,
    limits: Limits,
    limits_changed: watch::Receiver<Limits>,
    mailbox: Mailbox,
    capacity: Capacity,
    trade: TradeSettings,
    coordinator: Coordinator,
    pursuits: HashMap<Digest, Pursuit>,
    /// Connected on the data plane.
    peers: HashMap<NodeId, Peer>,
    dialling: HashSet<NodeId>,
    /// Reachable on the control plane, this node not among them.
    live: Vec<NodeId>,
    addresses: Vec<SocketAddr>,
    /// Inputs for swarms that came of doing what another decided.
    inputs: VecDeque<(Digest, Input)>,
    announce_at: Time,
    ready: watch::Sender<bool>,
    readings: u64,
    draining: bool,
}

/// Where the engine's words come from.
pub(super) struct Words {
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    pub(super) discovery: Option<mpsc::Receiver<shoal_discovery::Event>>,
    pub(super) transfer: Option<mpsc::Receiver<shoal_transfer::Event>>,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { key, zone, store, origins, door, planes, metrics, tally, limits, mailbox, ready } = parts;
        let clock = Clock;
        let trade = TradeSettings::behind_queues();
        let now_limits = *limits.borrow();
        let mut coordination = CoordinationSettings::default();
        if planes.is_none() {
            // There is nobody to ask before a first lease, and nobody who could come.
            (coordination.young, coordination.restless) = (Duration::ZERO, Duration::ZERO);
        }
        let mut capacity = Capacity::new(trade.streams, now_limits.in_flight);
        capacity.set_links(now_limits.links);
        Self {
            coordinator: Coordinator::new(key.clone(), clock.now(), rand::random(), coordination),
            capacity,
            clock,
            key,
            zone,
            store,
            origins,
            door,
            planes,
            metrics,
            tally,
            limits: now_limits,
            limits_changed: limits,
            mailbox,
            trade,
            pursuits: HashMap::new(),
            peers: HashMap::new(),
            dialling: HashSet::new(),
            live: Vec::new(),
            addresses: Vec::new(),
            inputs: VecDeque::new(),
            announce_at: clock.now(),
            ready,
            readings: 0,
            draining: false,
        }
    }

    /// Runs until the node is dropped: until nobody can tell it anything any more.
    pub(super) async fn run(mut self, mut words: Words) {
        let mut tick = tokio::time::interval(TICK);
        if self.planes.is_none() {
            tracing::warn!("no cluster key: this node runs alone, as a caching mirror");
            self.become_ready();
        }
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let sleep = self.sleep();
            // Whatever comes first, the clock is looked at before it: while this process stood still a lease may have run
            // out, and what has come meanwhile must not have the origin read under it.
            tokio::select! {
                biased;
                told = words.told.recv() => {
                    let Some(told) = told else { return };
                    self.wake();
                    self.apply(told);
                    for _ in 0..AT_ONCE {
                        match words.told.try_recv() {
                            Ok(told) => self.apply(told),
                            Err(_) => break,
                        }
                    }
                }
                event = next(&mut words.transfer) => {
                    self.wake();
                    self.apply_transfer(event);
                }
                event = next(&mut words.discovery) => {
                    self.wake();
                    self.apply_discovery(event);
                }
                () = tokio::time::sleep(sleep) => {}
                _ = tick.tick() => self.look_over(),
            }
            self.wake();
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let swarms = self.pursuits.values().filter_map(|pursuit| pursuit.body()?.swarm.poll_timeout());
        let members = self.pursuits.values().filter_map(|pursuit| pursuit.member.poll_timeout());
        let coordinator = self.coordinator.poll_timeout();
        let at = swarms.map(|(at, _)| at).chain(members.map(|(at, _)| at)).chain(coordinator.map(|(at, _)| at)).min();
        // A millisecond at least: a deadline that a state machine cannot meet must not take a core.
        at.map_or(TICK, |at| at.since(now).clamp(Duration::from_millis(1), TICK))
    }

    /// Tells each state machine whose time has come.
    fn wake(&mut self) {
        let now = self.clock.now();
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        // Members first: a lease that has run out must end before its swarm orders anything under it.
        let members: Vec<Digest> = self
            .pursuits
            .iter()
            .filter(|(_, pursuit)| due(pursuit.member.poll_timeout().map(|(at, _)| at)))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in members {
            self.tell_member(digest, MemberInput::TimeOut);
        }
        let swarms: Vec<Digest> = self
            .pursuits
            .iter()
            .filter(|(_, pursuit)| due(pursuit.body().and_then(|body| Some(body.swarm.poll_timeout()?.0))))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in swarms {
            self.tell_swarm(digest, Input::TimeOut);
        }
        if due(self.coordinator.poll_timeout().map(|(at, _)| at)) {
            self.tell_coordinator(shoal_swarm::coordination::Input::TimeOut);
        }
    }

    fn apply(&mut self, told: Told) {
        match told {
            Told::Find { digest, repository, reply } => self.find(digest, repository, reply),
            Told::Open { digest, repository, reader, offset, reply } => {
                self.open(digest, repository, pursuit::Opening { reader, offset, reply });
            }
            Told::ReaderAt { digest, reader, piece } => self.tell_swarm(digest, Input::ReaderAt { reader, piece }),
            Told::ReaderGone { digest, reader } => self.reader_gone(digest, reader),
            Told::Stalled { digest, failure } => self.rest(digest, failure),
            Told::Admitted { digest, outcome } => self.admitted(digest, outcome),
            Told::Stored { digest, piece, from } => self.stored(digest, &piece, from),
            Told::Missed { digest, piece, from, fault } => self.missed(digest, piece, from, fault),
            Told::NoRoom { digest, piece, from, error } => {
                tracing::error!(%digest, %piece, %error, "a piece could not be stored");
                self.metrics.store_errors.with_label_values(&["put"]).inc();
                self.missed(digest, piece, from, Fault::Broken);
                self.give_up(digest, &failure::of_store(&error), Refusal::NoRoom);
            }
            Told::Uploaded { digest, slot, arrived } => {
                if let Some(body) = self.body_mut(&digest) {
                    body.uploads.remove(&slot);
                }
                self.tell_swarm(digest, Input::Uploaded { slot, arrived });
            }
            Told::OriginFailed { digest, reading, refusal } => {
                let current = self.body_mut(&digest).and_then(|body| body.reading.as_ref());
                if current.is_some_and(|current| current.id == reading) {
                    self.origin_failed(digest, refusal);
                }
            }
            Told::Completed { digest, outcome } => self.completed(digest, outcome),
            Told::Probed { digest, repository, outcome } => {
                if let (Some(pursuit), Some(repository)) = (self.pursuits.get_mut(&digest), repository) {
                    pursuit.named(repository);
                }
                self.tell_member(digest, MemberInput::Probed(outcome));
            }
            Told::Closest { digest, nodes } => {
                self.tell_member(digest, MemberInput::CoordinatorsFound { closest: nodes });
            }
            Told::Unreached { node } => {
                self.dialling.remove(&node);
            }
            Told::Loopback(message) => self.heard(self.key.id(), *message),
            Told::Departing { digest, evicted } => self.departing(digest, evicted),
            Told::Drain { reply } => self.drain(reply),
        }
        // What came of it for the swarms.
        self.settle();
    }

    /// What a blob has brought so far, over all the times it was pulled.
    fn sources(&self, digest: Digest, length: u64) -> Arc<Sources> {
        self.tally.lock().of(digest, length)
    }
}

/// The next word of a plane; never, where there is none.
async fn next<T>(plane: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match plane {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
