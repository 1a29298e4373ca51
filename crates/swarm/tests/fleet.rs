//! Whole fleets of swarms on a pretended network: serial uplinks, a serial origin, a fixed latency, virtual time.
//!
//! A small sibling of what a benchmark would use: it checks what must always hold, not how fast it is.

#![allow(clippy::unwrap_used, reason = "a test that meets the impossible should stop there")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{NodeId, trade::Message};
use shoal_swarm::{
    Time,
    trade::{Capacity, Fault, Input, Output, ReaderId, Settings, Source, Swarm},
};

const DIGEST: Digest = Digest::Sha256([7; 32]);
const LATENCY: Duration = Duration::from_millis(1);
const PIECE_TIME: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Event {
    Input(usize, Input),
    Message(usize, usize, Message),
    OriginSends(usize, u32),
    UploadEnds { from: usize, to: usize, piece: u32, slot: u32 },
    Wake(usize),
}

struct Node {
    swarm: Swarm,
    capacity: Capacity,
    alive: bool,
    uplink_free: Time,
    reader: u32,
    expected: HashSet<(u32, usize)>,
    cancelled: HashSet<u32>,
    completed: bool,
    spoils: bool,
    woken_for: Option<Time>,
}

struct Fleet {
    now: Time,
    nodes: Vec<Node>,
    layout: Layout,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    bodies: HashMap<u64, Event>,
    next: u64,
    origin_free: Time,
    origin_read: BTreeMap<u32, u32>,
    lease_done: bool,
    orphaned: u32,
    shut_out: Vec<(usize, usize)>,
}

fn id(node: usize) -> NodeId {
    NodeId::from_bytes([node as u8; 32])
}

fn of(node: NodeId) -> usize {
    usize::from(node.as_bytes()[0])
}

impl Fleet {
    fn new(nodes: usize, pieces: u32, seed: u64) -> Self {
        let layout = Layout::with_piece_bytes(u64::from(pieces) << 20, 1 << 20).unwrap();
        let mut this = Self {
            now: Time::ZERO,
            nodes: Vec::new(),
            layout,
            events: BinaryHeap::new(),
            bodies: HashMap::new(),
            next: 0,
            origin_free: Time::ZERO,
            origin_read: BTreeMap::new(),
            lease_done: false,
            orphaned: 0,
            shut_out: Vec::new(),
        };
        for node in 0..nodes {
            this.add(seed + node as u64, PieceSet::none_of(&layout));
        }
        this
    }

    fn add(&mut self, seed: u64, have: PieceSet) -> usize {
        let layout = self.layout;
        let chain =
            if have.is_full() { PieceSet::full(layout.count() + 1) } else { PieceSet::empty(layout.count() + 1) };
        let completed = have.is_full();
        let swarm =
            Swarm::new(self.now, id(self.nodes.len()), DIGEST, layout, Settings::default(), String::new(), seed)
                .holding(have, &chain);
        self.nodes.push(Node {
            swarm,
            capacity: Capacity::new(1, 64 << 20),
            alive: true,
            uplink_free: self.now,
            reader: 0,
            expected: HashSet::new(),
            cancelled: HashSet::new(),
            completed,
            spoils: false,
            woken_for: None,
        });
        self.nodes.len() - 1
    }

    fn at(&mut self, when: Time, event: Event) {
        self.bodies.insert(self.next, event);
        self.events.push(Reverse((when, self.next)));
        self.next += 1;
    }

    fn wants(&mut self, node: usize) {
        self.input(node, Input::Wants(true));
        let piece = self.layout.piece(self.nodes[node].reader).unwrap();
        self.input(node, Input::ReaderAt { reader: ReaderId(0), piece });
    }

    fn introduce_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if a != b && self.nodes[a].alive && self.nodes[b].alive {
                    self.input(a, Input::Met { node: id(b), rtt: 2 * LATENCY });
                }
            }
        }
    }

    fn appoint(&mut self, node: usize) {
        let mut elsewhere = PieceSet::none_of(&self.layout);
        for other in self.nodes.iter().filter(|other| other.alive) {
            elsewhere.union_with(other.swarm.have());
        }
        self.lease_done = false;
        self.input(node, Input::Appointed { elsewhere });
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        for other in 0..self.nodes.len() {
            if other != node {
                self.input(other, Input::Parted { node: id(node) });
            }
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        let now = self.now;
        let this = &mut self.nodes[node];
        this.swarm.handle(now, input, &mut this.capacity);
        while let Some(output) = self.nodes[node].swarm.poll() {
            self.output(node, output);
        }
        assert!(self.nodes[node].capacity.inflow() <= 64 << 20, "room on the way in is bounded");
        if let Some((when, _)) = self.nodes[node].swarm.poll_timeout() {
            let when = when.max(now);
            if self.nodes[node].woken_for.is_none_or(|before| before > when || before < now) {
                self.nodes[node].woken_for = Some(when);
                self.at(when, Event::Wake(node));
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                if let Message::Have { pieces, .. } = &message {
                    assert!(pieces.iter().all(|&piece| self.nodes[node].swarm.have().contains(piece)));
                }
                self.at(self.now + LATENCY, Event::Message(node, of(to), message));
            }
            Output::FetchOrigin { piece } => {
                *self.origin_read.entry(piece.get()).or_default() += 1;
                self.origin_free = self.origin_free.max(self.now) + PIECE_TIME;
                self.at(self.origin_free, Event::OriginSends(node, piece.get()));
            }
            Output::Expect { piece, from, .. } => {
                self.nodes[node].expected.insert((piece.get(), of(from)));
            }
            Output::Abandon { piece, from } => {
                self.nodes[node].expected.remove(&(piece.get(), of(from)));
            }
            Output::Upload { to, piece, slot, .. } => {
                let this = &mut self.nodes[node];
                assert!(this.swarm.have().has(piece));
                this.uplink_free = this.uplink_free.max(self.now) + PIECE_TIME;
                let ends = this.uplink_free + LATENCY;
                self.at(ends, Event::UploadEnds { from: node, to: of(to), piece: piece.get(), slot });
            }
            Output::CancelUpload { slot } => {
                self.nodes[node].cancelled.insert(slot);
                self.at(self.now, Event::Input(node, Input::Uploaded { slot, arrived: false }));
            }
            Output::ShutOut { node: whom, .. } => self.shut_out.push((node, of(whom))),
            Output::Orphaned => self.orphaned += 1,
            Output::LeaseDone => self.lease_done = true,
            Output::Complete => self.nodes[node].completed = true,
            Output::CancelOrigin => {}
        }
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((when, key))) = self.events.pop() else { return false };
        self.now = when;
        match self.bodies.remove(&key).unwrap() {
            Event::Input(node, input) => self.input(node, input),
            Event::Message(from, to, message) => {
                if self.nodes[from].alive {
                    self.input(to, Input::Heard { from: id(from), message });
                }
            }
            Event::OriginSends(node, piece) => {
                let piece = self.layout.piece(piece).unwrap();
                self.input(node, Input::Stored { piece, from: Source::Origin });
                self.advance(node);
            }
            Event::UploadEnds { from, to, piece, slot } => {
                if self.nodes[from].cancelled.remove(&slot) {
                    return true;
                }
                if self.nodes[from].alive && self.nodes[to].alive && self.nodes[to].expected.remove(&(piece, from)) {
                    let piece = self.layout.piece(piece).unwrap();
                    let source = Source::Neighbour(id(from));
                    if self.nodes[from].spoils {
                        self.input(to, Input::Missed { piece, from: source, fault: Fault::WrongBytes });
                    } else {
                        self.input(to, Input::Stored { piece, from: source });
                        self.advance(to);
                    }
                }
                self.input(from, Input::Uploaded { slot, arrived: true });
            }
            Event::Wake(node) => {
                self.nodes[node].woken_for = None;
                self.input(node, Input::TimeOut);
            }
        }
        true
    }

    fn advance(&mut self, node: usize) {
        let reader = self.nodes[node].reader;
        let next = self.nodes[node].swarm.have().first_missing(reader);
        match next.and_then(|next| self.layout.piece(next)) {
            Some(piece) => {
                self.nodes[node].reader = piece.get();
                self.input(node, Input::ReaderAt { reader: ReaderId(0), piece });
            }
            None => self.input(node, Input::ReaderGone { reader: ReaderId(0) }),
        }
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut steps = 0u64;
        while !done(self) {
            assert!(self.step(), "the fleet fell silent at {:?}", self.now);
            steps += 1;
            assert!(steps < 5_000_000, "the fleet does not come to an end: {:?}", self.states());
        }
    }

    fn states(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("{:?}", node.swarm.state())).collect()
    }

    fn finish(&mut self) {
        self.run_until(|fleet| fleet.nodes.iter().all(|node| !node.alive || node.completed));
    }

    fn read_in_all(&self) -> u32 {
        self.origin_read.values().sum()
    }

    /// How many times as long it took as the bound for one piece at a time.
    fn ratio(&self) -> f64 {
        let bound = PIECE_TIME * (self.layout.count() + self.nodes.len().ilog2() + 1);
        self.now.since(Time::ZERO).as_secs_f64() / bound.as_secs_f64()
    }
}

fn ready(nodes: usize, pieces: u32, seed: u64) -> Fleet {
    let mut fleet = Fleet::new(nodes, pieces, seed);
    for node in 0..nodes {
        fleet.wants(node);
    }
    fleet.introduce_all();
    fleet.appoint(0);
    fleet
}

#[test]
fn a_fleet_reads_the_origin_once() {
    for nodes in [1, 2, 3, 8, 20] {
        let mut fleet = ready(nodes, 256, 1);
        fleet.finish();
        assert_eq!(fleet.read_in_all(), 256, "{nodes} nodes");
        assert!(fleet.ratio() < 1.3, "{nodes} nodes took {} times the bound", fleet.ratio());
        fleet.run_until(|fleet| fleet.lease_done);
        assert_eq!(fleet.orphaned, 0);
    }
}

#[test]
fn latecomers_take_nothing_from_the_origin() {
    let mut fleet = ready(4, 64, 2);
    fleet.finish();
    let late = fleet.add(99, PieceSet::none_of(&fleet.layout));
    fleet.wants(late);
    fleet.introduce_all();
    fleet.finish();
    assert_eq!(fleet.read_in_all(), 64);
}

#[test]
fn a_restarted_fleet_serves_a_newcomer() {
    let mut fleet = Fleet::new(0, 64, 3);
    let layout = fleet.layout;
    for node in 0..5 {
        fleet.add(node, PieceSet::full(layout.count()));
    }
    let newcomer = fleet.add(9, PieceSet::none_of(&layout));
    fleet.wants(newcomer);
    fleet.introduce_all();
    fleet.finish();
    assert_eq!(fleet.read_in_all(), 0);
}

#[test]
fn a_successor_reads_only_the_rest() {
    for held in [20, 128, 230] {
        let mut fleet = ready(8, 256, 4);
        fleet.run_until(|fleet| fleet.nodes[0].swarm.have().held() >= held);
        fleet.kill(0);
        let until = fleet.now + Duration::from_secs(4);
        fleet.run_until(|fleet| fleet.now >= until || fleet.nodes.iter().skip(1).all(|node| node.completed));
        fleet.appoint(3);
        fleet.finish();
        assert!(fleet.read_in_all() <= 256 + 64, "{} pieces read for 256", fleet.read_in_all());
    }
}

#[test]
fn one_who_reads_from_the_middle_waits_for_nobody_for_ever() {
    let mut fleet = Fleet::new(2, 200, 5);
    fleet.nodes[1].reader = 150;
    fleet.wants(0);
    fleet.wants(1);
    fleet.introduce_all();
    fleet.appoint(0);
    fleet.finish();
    assert_eq!(fleet.read_in_all(), 200);
}

#[test]
fn one_who_sends_wrong_bytes_is_shut_out_and_the_rest_go_on() {
    let mut fleet = ready(5, 128, 6);
    fleet.nodes[2].spoils = true;
    fleet.finish();
    assert_eq!(fleet.read_in_all(), 128);
    assert!(!fleet.shut_out.is_empty() && fleet.shut_out.iter().all(|&(_, whom)| whom == 2));
}

#[test]
fn what_only_one_who_sends_wrong_bytes_has_is_read_from_the_origin() {
    let mut fleet = Fleet::new(2, 64, 8);
    let liar = fleet.add(9, PieceSet::full(64));
    fleet.nodes[liar].spoils = true;
    fleet.wants(0);
    fleet.wants(1);
    fleet.introduce_all();
    fleet.run_until(|fleet| fleet.orphaned >= 2);
    // Nobody counts on the liar's pieces: the seed reads every one of them.
    fleet.input(0, Input::Appointed { elsewhere: PieceSet::none_of(&fleet.layout) });
    fleet.finish();
    assert_eq!(fleet.read_in_all(), 64);
    assert!(fleet.shut_out.iter().all(|&(_, whom)| whom == liar));
}

#[test]
fn without_anybody_who_has_it_a_member_says_so() {
    let mut fleet = Fleet::new(2, 10, 7);
    fleet.wants(0);
    fleet.wants(1);
    fleet.introduce_all();
    fleet.run_until(|fleet| fleet.orphaned >= 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn deaths_and_late_joins_leave_nobody_behind(
        seed in any::<u64>(),
        nodes in 2usize..10,
        pieces in 20u32..120,
        deaths in proptest::collection::vec((1u32..100, 1usize..10), 0..4),
        joins in 0usize..3,
    ) {
        let mut fleet = ready(nodes, pieces, seed);
        for (percent, victim) in deaths {
            let mark = pieces * percent / 100;
            fleet.run_until(|fleet| {
                fleet.nodes[0].swarm.have().held() >= mark || fleet.nodes.iter().all(|n| !n.alive || n.completed)
            });
            if victim < nodes && fleet.nodes[victim].alive {
                fleet.kill(victim);
            }
        }
        for join in 0..joins {
            let late = fleet.add(seed ^ join as u64, PieceSet::none_of(&fleet.layout));
            fleet.wants(late);
        }
        fleet.introduce_all();
        fleet.finish();
        prop_assert_eq!(fleet.read_in_all(), pieces, "the seed lived, so each piece was read once");
    }
}
