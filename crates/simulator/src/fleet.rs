//! A whole fleet in virtual time: one run of a scenario.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    num::NonZeroU64,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{
    NodeId, NodeKey,
    coordination::{Coordination, MAX_NEIGHBOURS},
    trade::Message,
};
use shoal_swarm::{
    Time,
    coordination::Input as CoordinatorInput,
    trade::{LinkLimits, Settings as TradeSettings},
};

use crate::{
    agenda::Agenda,
    curve::Curve,
    network::{Network, NodeIndex, Settings, Signal},
    node::Node,
    origin::Origin,
    outcome::Outcome,
    scenario::{Begin, Scenario, What},
    watch::{Step, Watch},
    weight::Heads,
};

/// Nodes have known each other for so long when a run begins.
pub(crate) const SETTLED: Duration = Duration::from_secs(120);
/// Uploads side by side, where links are not shared: one stream fills a link then.
const STREAMS: u32 = 1;
/// How near a node's acquaintances are, in the order of distance to the digest, on either side.
const NEAR: u32 = 24;
/// A run that takes so many times its bound, and a minute, does not come to an end.
const PATIENCE: f64 = 12.0;
/// The whole fleet is looked over after so many events; a small one more often.
const SWEEP: u64 = 1_000_000;

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Wants(NodeIndex),
    Trade { from: NodeIndex, to: NodeIndex, lives: [u32; 2], letter: Vec<Message> },
    Coordination { from: NodeIndex, to: NodeIndex, lives: [u32; 2], message: Box<Coordination> },
    Found { node: NodeIndex, life: u32 },
    Probed { node: NodeIndex, life: u32 },
    Connected { nodes: [NodeIndex; 2], lives: [u32; 2] },
    Disconnected { nodes: [NodeIndex; 2], lives: [u32; 2] },
    Gone { node: NodeIndex, gone: NodeIndex, life: u32 },
    Sees { node: NodeIndex, many: u32 },
    Comes { node: NodeIndex, reads: u32, piece: u32, ends: Time },
    Read { node: NodeIndex, reads: u32, piece: u32 },
    Signal(Signal),
    Uploaded { upload: u32, arrived: bool },
    Wake(NodeIndex),
    Fault { node: NodeIndex, what: What },
    FaultAt(usize),
    Back(NodeIndex),
    Healed,
    Sample,
}

/// A piece between two nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upload {
    pub(crate) from: NodeIndex,
    pub(crate) to: NodeIndex,
    pub(crate) lives: [u32; 2],
    pub(crate) piece: u32,
    pub(crate) slot: u32,
    /// Nobody waits for it any longer.
    pub(crate) dropped: bool,
}

/// A node's name looks random: its first bytes are as good as a hash of it.
#[derive(Default)]
pub(crate) struct Head(u64);

impl Hasher for Head {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A fleet on its way through a scenario.
///
/// Nodes are in the order of their distance to the digest: the first that lives should coordinate.
pub(crate) struct Fleet<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) digest: Digest,
    pub(crate) layout: Layout,
    pub(crate) trade: TradeSettings,
    pub(crate) now: Time,
    pub(crate) begun: Time,
    pub(crate) nodes: Vec<Node>,
    by_id: HashMap<NodeId, NodeIndex, BuildHasherDefault<Head>>,
    pub(crate) network: Network,
    pub(crate) origin: Origin,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) free_uploads: Vec<u32>,
    /// Letters that have been read, to be written on again.
    pub(crate) blank: Vec<Vec<Message>>,
    pub(crate) heads: Heads,
    pub(crate) rng: Xoshiro256PlusPlus,
    pub(crate) watch: Watch,
    pub(crate) curve: Curve,
    /// Whether the odd nodes are cut off from the others, and when that last changed.
    pub(crate) parted: bool,
    pub(crate) sides_changed: Time,
    pub(crate) pending: usize,
    /// Deaths of a seed, and of any node.
    pub(crate) deaths: [u32; 2],
    /// Pieces of which only the seed's copy was left when others died.
    pub(crate) bereft: PieceSet,
    /// Pieces whose last holders died, beside those that only a seed ever had.
    pub(crate) died_out: u32,
    /// Leases that ended before their time.
    pub(crate) lapses: u32,
    pub(crate) events: u64,
}

impl<'a> Fleet<'a> {
    /// The fleet before anything happens.
    ///
    /// # Panics
    /// When the scenario does not pass [`Scenario::check`].
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        scenario.check().expect("a scenario that can be run");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(scenario.seed);
        let digest = Digest::Sha256(rng.random());
        let layout = Layout::new(scenario.length()).expect("a blob of less than 16 TiB");
        assert_eq!(layout.count(), scenario.pieces, "the scenario's cut is the blob's own");
        let begun = Time::ZERO + SETTLED;
        let started = if matches!(scenario.begin, Begin::Cold | Begin::Holding) { begun } else { Time::ZERO };
        let mut network = Network::new(Settings {
            latency: Duration::from_micros(scenario.latency_us),
            jitter: Duration::from_micros(scenario.jitter_us),
            queue: scenario.piece_bytes(),
            shared: scenario.shared_links,
            zone_rate: scenario.zone_rate,
            loss: scenario.loss,
            reordered: scenario.reordered,
            seed: rng.random(),
        });
        let trade = if scenario.shared_links {
            TradeSettings::behind_queues()
        } else {
            TradeSettings { streams: STREAMS, ..TradeSettings::default() }
        };
        let mut keys: Vec<NodeKey> = (0..scenario.nodes).map(|_| NodeKey::from_seed(&rng.random())).collect();
        keys.sort_by_cached_key(|key| key.id().distance(&digest));
        let mut order: Vec<NodeIndex> = (0..scenario.nodes).collect();
        order.shuffle(&mut rng);
        let slow = scenario.slow.map_or(0, |slow| scenario.nodes * slow.percent / 100) as usize;
        let late = if let Begin::Late { percent, .. } = scenario.begin { scenario.nodes * percent / 100 } else { 0 };
        let mut nodes: Vec<Node> = Vec::with_capacity(keys.len());
        for (place, key) in (0..).zip(keys) {
            let zone = (place % u32::from(scenario.zones)) as u16;
            nodes.push(Node::new(key, zone, started, rng.random(), trade.streams));
            network.plug(scenario.up, scenario.down, zone);
        }
        for &node in order.iter().take(slow) {
            let speed = u64::from(scenario.slow.map_or(100, |slow| slow.speed));
            let (up, down) = (scenario.up * speed / 100, scenario.down * speed / 100);
            nodes[node as usize].slow = true;
            network.set_rates(node, up, down);
            if scenario.slow.is_some_and(|slow| slow.known) {
                nodes[node as usize].limit(LinkLimits { up: NonZeroU64::new(up), down: NonZeroU64::new(down) });
            }
        }
        order.iter().rev().take(late as usize).for_each(|&node| nodes[node as usize].late = true);
        let by_id = nodes.iter().map(|node| node.id).zip(0..).collect();
        let mut fleet = Self {
            digest,
            layout,
            trade,
            now: begun,
            begun,
            nodes,
            by_id,
            network,
            origin: Origin::new(scenario.reading_rate(), scenario.refused, layout.count()),
            agenda: Agenda::default(),
            uploads: Vec::new(),
            free_uploads: Vec::new(),
            blank: Vec::new(),
            heads: Heads::new(digest, layout.length(), layout.count()),
            rng,
            watch: Watch::default(),
            curve: Curve::new(layout.count()),
            parted: false,
            sides_changed: Time::ZERO,
            pending: 0,
            deaths: [0; 2],
            bereft: PieceSet::none_of(&layout),
            died_out: 0,
            lapses: 0,
            events: 0,
            scenario,
        };
        fleet.begin();
        fleet
    }

    fn begin(&mut self) {
        let count = self.scenario.nodes;
        for &(node, percent) in &self.scenario.readers_at {
            self.nodes[node as usize].reader = self.layout.count() * percent / 100;
        }
        for node in 0..count {
            match self.scenario.begin {
                Begin::Cold => {
                    // Introductions: first a few, then more, then all.
                    for (round, many) in [4, 24, 2 * NEAR].into_iter().enumerate() {
                        let at = self.spread(200 * round as u64 + 50, 150);
                        self.agenda.enter(at, Event::Sees { node, many });
                    }
                }
                Begin::Holding => self.sees(node, u32::MAX),
                Begin::Together | Begin::Late { .. } => {
                    self.now = Time::ZERO;
                    self.sees(node, u32::MAX);
                    self.now = self.begun;
                }
            }
            if self.scenario.begin == Begin::Holding && node != count - 1 {
                self.nodes[node as usize].disk = PieceSet::full(self.layout.count());
                continue;
            }
            let at = match self.scenario.begin {
                Begin::Late { within, .. } if self.nodes[node as usize].late => self.spread(0, within),
                _ => self.spread(0, 10),
            };
            self.awaits(node);
            self.agenda.enter(at, Event::Wants(node));
        }
        for at in 0..self.scenario.faults.len() {
            self.enter_fault(at);
        }
        self.agenda.enter(self.begun, Event::Sample);
    }

    /// The run does not end before this node is done.
    pub(crate) fn awaits(&mut self, node: NodeIndex) {
        if !std::mem::replace(&mut self.nodes[node as usize].awaited, true) {
            self.pending += 1;
        }
    }

    /// It is done, or there is nothing to wait for any longer.
    pub(crate) fn awaits_no_more(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        this.wants = false;
        if std::mem::take(&mut this.awaited) {
            self.pending -= 1;
        }
    }

    pub(crate) fn spread(&mut self, from: u64, within: u64) -> Time {
        let micros = self.rng.random_range(0..=within * 1000);
        self.now + Duration::from_millis(from) + Duration::from_micros(micros)
    }

    /// Discovery shows a node its surroundings: all of a small fleet, else those near to it and some others.
    pub(crate) fn sees(&mut self, node: NodeIndex, many: u32) {
        let count = self.scenario.nodes;
        let mut view = std::mem::take(&mut self.nodes[node as usize].view);
        if many < 2 * NEAR {
            view.extend((0..many).map(|_| self.rng.random_range(0..count)));
        } else if count <= 256 {
            view.extend(0..count);
        } else {
            view.extend(node.saturating_sub(NEAR)..(node + NEAR).min(count));
            view.extend((0..NEAR).map(|_| self.rng.random_range(0..count)));
        }
        view.remove(&node);
        let live = view.iter().filter(|&&other| self.reaches(node, other)).map(|&other| self.id(other)).collect();
        self.nodes[node as usize].view = view;
        self.tell_coordinator(node, CoordinatorInput::View { live });
    }

    pub(crate) fn id(&self, node: NodeIndex) -> NodeId {
        self.nodes[node as usize].id
    }

    pub(crate) fn of(&self, id: NodeId) -> NodeIndex {
        self.by_id[&id]
    }

    pub(crate) fn life(&self, node: NodeIndex) -> u32 {
        self.nodes[node as usize].life
    }

    pub(crate) fn lives(&self, one: NodeIndex, other: NodeIndex) -> [u32; 2] {
        [self.life(one), self.life(other)]
    }

    /// Whether what one says can reach the other.
    pub(crate) fn reaches(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let both = self.nodes[one as usize].alive && self.nodes[other as usize].alive;
        both && (!self.parted || one % 2 == other % 2)
    }

    pub(crate) fn note(&mut self, what: &'static str, who: NodeIndex, whom: NodeIndex, piece: u32) {
        self.watch.note(Step { at: self.now, what, who, whom, piece });
    }

    pub(crate) fn broke(&mut self, what: String) {
        self.watch.broke(self.scenario.seed, what);
    }

    /// Runs until every node that can has the blob.
    pub(crate) fn run(mut self) -> Outcome {
        let bound = Duration::from_secs_f64(self.bound().whole_pieces);
        let end = self.begun + bound.mul_f64(PATIENCE) + Duration::from_secs(120);
        let sweep = SWEEP.min(64 * u64::from(self.scenario.nodes));
        while self.pending > 0 && self.watch.broken().is_none() {
            let Some((at, event)) = self.agenda.next() else {
                self.broke("the fleet fell silent before all had the blob".to_owned());
                break;
            };
            if at > end {
                let waiting = self.nodes.iter().filter(|node| node.wants && node.alive).count();
                self.broke(format!(
                    "{waiting} nodes can finish and do not, after {} s",
                    end.since(self.begun).as_secs()
                ));
                break;
            }
            self.now = at;
            self.events += 1;
            if let Event::Sample = event {
                self.sample();
                self.agenda.enter(self.now + bound / 100, Event::Sample);
                continue;
            }
            self.happens(event);
            if self.events.is_multiple_of(sweep) {
                self.sweep();
            }
        }
        self.sweep();
        self.sample();
        Outcome::of(&self)
    }

    fn happens(&mut self, event: Event) {
        if let Some(node) = self.handled_by(&event) {
            // What would happen to a node that hangs happens when it does so no longer.
            let until = self.nodes[node as usize].hangs_until;
            if until > self.now {
                self.agenda.enter(until, event);
                return;
            }
            self.catch_up(node);
        }
        match event {
            Event::Wants(node) => self.wants(node),
            Event::Trade { from, to, lives, mut letter } => {
                if self.lives(from, to) == lives && self.reaches(from, to) {
                    for message in letter.drain(..) {
                        self.hear(from, to, message);
                    }
                }
                letter.clear();
                self.blank.push(letter);
            }
            Event::Coordination { from, to, lives, message } => {
                if self.lives(from, to) == lives && (from == to || self.reaches(from, to)) {
                    self.heard(from, to, *message);
                }
            }
            Event::Found { node, life } => self.found_closest(node, life),
            Event::Probed { node, life } => self.probed(node, life),
            Event::Connected { nodes, lives } => self.connected(nodes, lives),
            Event::Disconnected { nodes, lives } => self.disconnected(nodes, lives),
            Event::Gone { node, gone, life } => self.gone(node, gone, life),
            Event::Sees { node, many } => self.sees(node, many),
            Event::Comes { node, reads, piece, ends } => self.comes(node, reads, piece, ends),
            Event::Read { node, reads, piece } => self.read(node, reads, piece),
            Event::Signal(signal) => self.signal(signal),
            Event::Uploaded { upload, arrived } => self.uploaded(upload, arrived),
            Event::Wake(node) => self.wake(node),
            Event::FaultAt(at) => self.fault_at(at),
            Event::Fault { node, what } => self.fault(node, what),
            Event::Back(node) => self.back(node),
            Event::Healed => self.heal(),
            Event::Sample => {}
        }
    }

    /// Whose process this is a matter of, rather than of the network or of both ends.
    fn handled_by(&self, event: &Event) -> Option<NodeIndex> {
        Some(match event {
            Event::Trade { to, .. } | Event::Coordination { to, .. } => *to,
            Event::Wake(node)
            | Event::Wants(node)
            | Event::Found { node, .. }
            | Event::Probed { node, .. }
            | Event::Sees { node, .. }
            | Event::Gone { node, .. }
            | Event::Disconnected { nodes: [node, _], .. }
            | Event::Read { node, .. } => *node,
            Event::Uploaded { upload, .. } => self.uploads[*upload as usize].from,
            Event::Signal(Signal::Arrived { token }) => self.uploads[*token as usize].to,
            _ => return None,
        })
    }
}

/// The neighbours that one answer may name: more would not be taken.
pub(crate) const MOST_NAMED: usize = MAX_NEIGHBOURS;
