//! The crowd that all baselines have in common: nodes on the network, what each has, and a seed that reads the origin.

use std::time::Duration;

use shoal_blob::PieceSet;
use shoal_swarm::Time;

use crate::{
    Scenario,
    agenda::Agenda,
    network::{Network, NodeIndex, Parcel, Settings, Signal, span},
};

/// The node that reads the origin.
pub(super) const SEED: NodeIndex = 0;

/// Who sends what to whom.
pub(super) trait Plan {
    /// A node has a piece from then on: of another node, or of the origin.
    fn stored(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex, piece: u32, of: Option<NodeIndex>);
}

/// A piece from one node to another.
#[derive(Clone, Copy, Debug)]
struct Sending {
    from: NodeIndex,
    to: NodeIndex,
    piece: u32,
}

#[derive(Debug)]
enum Event {
    Read(u32),
    Network(Signal),
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Crowd<'a> {
    scenario: &'a Scenario,
    network: Network,
    agenda: Agenda<Event>,
    now: Time,
    held: Vec<PieceSet>,
    done: Vec<Time>,
    /// All that was ever sent; a parcel's token is its place.
    sendings: Vec<Sending>,
    /// By node: pieces given to its uplink that have not arrived.
    queued: Vec<u32>,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let mut network = Network::new(Settings {
            latency: Duration::from_micros(scenario.latency_us),
            jitter: Duration::ZERO,
            queue: scenario.piece_bytes(),
            shared: false,
            zone_rate: None,
            loss: 0.0,
            reordered: 0.0,
            seed: scenario.seed,
        });
        for _ in 0..scenario.nodes {
            network.plug(scenario.up, scenario.down, 0);
        }
        let nodes = scenario.nodes as usize;
        Self {
            scenario,
            network,
            agenda: Agenda::default(),
            now: Time::ZERO,
            held: vec![PieceSet::empty(scenario.pieces); nodes],
            done: Vec::new(),
            sendings: Vec::new(),
            queued: vec![0; nodes],
        }
    }

    /// What a node has.
    pub(super) fn held(&self, node: NodeIndex) -> &PieceSet {
        &self.held[node as usize]
    }

    /// How many pieces a node has promised and not yet delivered.
    pub(super) fn queue(&self, node: NodeIndex) -> u32 {
        self.queued[node as usize]
    }

    /// Queues a piece at a node's uplink.
    pub(super) fn send(&mut self, from: NodeIndex, to: NodeIndex, piece: u32) {
        debug_assert!(self.held(from).contains(piece));
        let token = self.sendings.len() as u32;
        self.sendings.push(Sending { from, to, piece });
        self.queued[from as usize] += 1;
        self.network.send(from, Parcel { to, bytes: self.scenario.piece_bytes(), token });
        self.pump(from);
    }

    /// Runs until nothing happens any more; returns when each node had the blob, and what the origin sent.
    pub(super) fn run(&mut self, plan: &mut impl Plan) -> (Vec<Time>, u64) {
        self.read_origin();
        while let Some((now, event)) = self.agenda.next() {
            self.now = now;
            match event {
                Event::Read(piece) => self.stored(plan, SEED, piece, None),
                Event::Network(Signal::Pump(node)) => self.pump(node),
                Event::Network(Signal::Carried) => {}
                Event::Network(Signal::Arrived { token }) => {
                    let Sending { from, to, piece } = self.sendings[token as usize];
                    self.queued[from as usize] -= 1;
                    self.stored(plan, to, piece, Some(from));
                }
            }
        }
        (std::mem::take(&mut self.done), self.scenario.length())
    }

    /// The seed asks for the blob, and gets piece after piece.
    fn read_origin(&mut self) {
        let bytes = self.scenario.piece_bytes();
        let (takes, latency) = (span(bytes, self.scenario.reading_rate()), self.network.latency());
        for piece in 0..self.scenario.pieces {
            let first = Time::ZERO + latency * 2 + takes * piece;
            let arrives = self.network.receive(first, SEED, bytes).max(first + takes);
            self.agenda.enter(arrives, Event::Read(piece));
        }
    }

    fn pump(&mut self, node: NodeIndex) {
        self.network.pump(self.now, node, |at, signal| self.agenda.enter(at, Event::Network(signal)));
    }

    fn stored(&mut self, plan: &mut impl Plan, node: NodeIndex, piece: u32, of: Option<NodeIndex>) {
        let held = &mut self.held[node as usize];
        if held.insert(piece) && held.is_full() {
            self.done.push(self.now);
        }
        plan.stored(self, node, piece, of);
    }
}
