//! A pretended network: nodes with a coordinator and a member each, messages with delays and losses, virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{
    NodeId, NodeKey, SignedGrant, Visibility,
    coordination::{Coordination, Holding, Probe, Refusal, Returned, ToCoordinator},
};
use shoal_swarm::{
    Time,
    coordination::{
        Coordinator, Input, Member, MemberInput, MemberOutput, Note, Output, Own, Settings, for_coordinator,
        for_member, unclaimed,
    },
};

pub(crate) const PIECES: u32 = 64;
pub(crate) const LENGTH: u64 = (PIECES as u64) << 20;
pub(crate) const FOUND: Probe = Probe { length: LENGTH, visibility: Visibility::Public };
/// How often seeds read and members copy.
pub(crate) const STEP: Duration = Duration::from_millis(50);

pub(crate) fn digest() -> Digest {
    Digest::Sha256([7; 32])
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) coordinator: Coordinator,
    pub(crate) member: Option<Member>,
    pub(crate) held: PieceSet,
    pub(crate) alive: bool,
    pub(crate) origin: Result<(), Refusal>,
    pub(crate) wants: bool,
    pub(crate) can_seed: bool,
    pub(crate) failed: Vec<Refusal>,
    pub(crate) neighbours: Vec<NodeId>,
    pub(crate) zone: String,
    pub(crate) found: Option<Probe>,
    /// The lease it reads by, and what it leaves out.
    pub(crate) seeding: Option<(SignedGrant, PieceSet)>,
    pub(crate) became_seed: u32,
    /// Whether others get pieces from it; one that does not still says what it has.
    pub(crate) gives: bool,
    /// When it last got a piece, or said that it gets none.
    pub(crate) fed: Time,
    pub(crate) view: BTreeSet<usize>,
    wake: Option<Time>,
}

enum Event {
    Message { from: usize, to: NodeId, message: Box<Coordination> },
    Found { node: usize },
    Origin { node: usize },
    Gone { node: usize, gone: NodeId },
    Step,
}

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) notes: Vec<(usize, Note)>,
    pub(crate) probes: u32,
    /// How often each piece was read from the origin.
    pub(crate) read: Vec<u32>,
    pub(crate) messages: u64,
    /// Moments at which two nodes believed to hold the lease.
    pub(crate) overlaps: Vec<(Time, Vec<usize>)>,
    pub(crate) loss: f64,
    pub(crate) delay: (u64, u64),
    /// Pieces a seed reads in a step, and pieces a member copies.
    pub(crate) rate: (usize, usize),
    /// A seed reads only in every so many steps.
    pub(crate) pause: u64,
    /// Nodes of different sides do not hear each other.
    pub(crate) sides: Vec<u8>,
    /// Whether a send to a dead node fails, or says nothing.
    pub(crate) resets: bool,
    rng: Xoshiro256PlusPlus,
    events: BTreeMap<(Time, u64), Event>,
    wakes: BTreeSet<(Time, usize)>,
    pub(crate) by_id: BTreeMap<NodeId, usize>,
    sequence: u64,
}

impl Net {
    /// So many nodes that start now, the closest to the digest first, and know nobody.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let mut keys: Vec<_> = (0..count as u64)
            .map(|n| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&n.to_le_bytes());
                bytes[8..16].copy_from_slice(&seed.to_le_bytes());
                NodeKey::from_seed(&bytes)
            })
            .collect();
        keys.sort_by_key(|key| key.id().distance(&digest()));
        let by_id = keys.iter().enumerate().map(|(index, key)| (key.id(), index)).collect();
        let nodes = keys.into_iter().enumerate().map(|(index, key)| Node {
            id: key.id(),
            coordinator: Coordinator::new(key, Time::ZERO, seed ^ index as u64, Settings::default()),
            member: None,
            held: PieceSet::empty(0),
            alive: true,
            origin: Ok(()),
            wants: false,
            can_seed: true,
            failed: Vec::new(),
            neighbours: Vec::new(),
            zone: String::new(),
            found: None,
            seeding: None,
            became_seed: 0,
            gives: true,
            fed: Time::ZERO,
            view: BTreeSet::from([index]),
            wake: None,
        });
        let mut net = Self {
            now: Time::ZERO,
            nodes: nodes.collect(),
            notes: Vec::new(),
            probes: 0,
            read: vec![0; PIECES as usize],
            messages: 0,
            overlaps: Vec::new(),
            loss: 0.0,
            delay: (1, 5),
            rate: (1, 4),
            pause: 1,
            sides: vec![0; count],
            resets: true,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            events: BTreeMap::new(),
            wakes: BTreeSet::new(),
            by_id,
            sequence: 0,
        };
        net.after(STEP, Event::Step);
        net
    }

    /// So many nodes that have known each other for two minutes.
    pub(crate) fn settled(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        net.all_see_all();
        net.run(Duration::from_secs(120));
        net
    }

    pub(crate) fn all_see_all(&mut self) {
        for node in 0..self.nodes.len() {
            let live = (0..self.nodes.len()).filter(|other| self.reaches(node, *other)).collect();
            self.see(node, live);
        }
    }

    pub(crate) fn see(&mut self, node: usize, live: BTreeSet<usize>) {
        let ids = live.iter().map(|other| self.nodes[*other].id).collect();
        self.nodes[node].view = live;
        self.coordinate(node, Input::View { live: ids });
    }

    /// Whether a message of one node reaches the other.
    pub(crate) fn reaches(&self, one: usize, other: usize) -> bool {
        self.nodes[one].alive && self.nodes[other].alive && self.sides[one] == self.sides[other]
    }

    pub(crate) fn want(&mut self, node: usize) {
        let (id, can_seed) = (self.nodes[node].id, self.nodes[node].can_seed);
        (self.nodes[node].wants, self.nodes[node].fed) = (true, self.now);
        self.nodes[node].member.get_or_insert_with(|| Member::new(id, digest(), Settings::default()));
        self.tell_member(node, MemberInput::Wanted { can_seed });
    }

    pub(crate) fn unwant(&mut self, node: usize) {
        self.nodes[node].wants = false;
        self.tell_member(node, MemberInput::Unwanted);
    }

    /// Dies without a word; the others' discovery notices after `notice`.
    pub(crate) fn kill(&mut self, node: usize, notice: Duration) {
        self.nodes[node].alive = false;
        self.nodes[node].seeding = None;
        self.nodes[node].member = None;
        let gone = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            self.after(notice, Event::Gone { node: other, gone });
        }
    }

    /// A process that starts anew on the same disk. The others must be told with [`Net::see`].
    pub(crate) fn restart(&mut self, node: usize, seed: u64) {
        let mut keys = (0..self.nodes.len() as u64).map(|n| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            bytes[8..16].copy_from_slice(&seed.to_le_bytes());
            NodeKey::from_seed(&bytes)
        });
        let key = keys.find(|key| key.id() == self.nodes[node].id).unwrap();
        let now = self.now;
        let this = &mut self.nodes[node];
        this.coordinator = Coordinator::new(key, now, seed, Settings::default());
        (this.member, this.seeding, this.alive, this.wants, this.found) = (None, None, true, false, None);
        this.neighbours.clear();
    }

    /// Gives the whole blob to a node that is in no swarm.
    pub(crate) fn holds_all(&mut self, node: usize) {
        self.nodes[node].held = PieceSet::full(PIECES);
    }

    pub(crate) fn announce(&mut self, node: usize, to: usize) {
        let holdings = vec![Holding { digest: digest(), found: FOUND }];
        let message = ToCoordinator::Announce { holdings, addresses: vec![], zone: self.nodes[node].zone.clone() };
        self.send(node, self.nodes[to].id, Coordination::ToCoordinator(message));
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn send(&mut self, from: usize, to: NodeId, message: Coordination) {
        let message = Box::new(message);
        self.messages += 1;
        if self.nodes[from].id == to {
            return self.after(Duration::ZERO, Event::Message { from, to, message });
        }
        let delay = ms(self.rng.random_range(self.delay.0..=self.delay.1));
        if !self.by_id.get(&to).is_some_and(|other| self.reaches(from, *other)) {
            if self.resets {
                self.after(delay, Event::Gone { node: from, gone: to });
            }
        } else if !self.rng.random_bool(self.loss) {
            self.after(delay, Event::Message { from, to, message });
        }
    }

    /// Runs for a while.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(span, |_| false);
        self.now = end;
    }

    /// Runs until something is true; returns how long that took.
    pub(crate) fn run_until(&mut self, at_most: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + at_most);
        loop {
            if done(self) {
                return Some(self.now.since(start));
            }
            let event = self.events.keys().next().copied().filter(|(at, _)| *at <= end);
            let wake = self.wakes.first().copied().filter(|(at, _)| *at <= end);
            match (event, wake) {
                (None, None) => return None,
                (Some(event), wake) if wake.is_none_or(|(at, _)| event.0 <= at) => {
                    self.now = event.0;
                    let what = self.events.remove(&event).unwrap();
                    self.happens(what);
                }
                (_, Some((at, node))) => {
                    self.now = self.now.max(at);
                    self.coordinate(node, Input::TimeOut);
                    self.tell_member(node, MemberInput::TimeOut);
                }
                (Some(_), None) => unreachable!("the guard holds without a wake"),
            }
            let seeds = self.seeds();
            if seeds.len() > 1 {
                self.overlaps.push((self.now, seeds));
            }
        }
    }

    /// The nodes that believe now that they hold the lease.
    pub(crate) fn seeds(&self) -> Vec<usize> {
        let holds = |node: &Node| {
            let until = node.member.as_ref().and_then(Member::seeds_until);
            node.alive && node.seeding.is_some() && until.is_some_and(|until| until > self.now)
        };
        (0..self.nodes.len()).filter(|index| holds(&self.nodes[*index])).collect()
    }

    pub(crate) fn complete(&self, node: usize) -> bool {
        self.nodes[node].held.size() > 0 && self.nodes[node].held.is_full()
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Message { from, to, message } => {
                let to = self.by_id[&to];
                if to == from || self.reaches(from, to) {
                    self.deliver(from, to, *message);
                }
            }
            Event::Found { node } => {
                let closest = self.nodes[node].view.iter().take(20).map(|other| self.nodes[*other].id).collect();
                self.tell_member(node, MemberInput::CoordinatorsFound { closest });
            }
            Event::Origin { node } => {
                let found = Probe { length: LENGTH, visibility: Visibility::Public };
                let outcome = self.nodes[node].origin.map(|()| found);
                self.tell_member(node, MemberInput::Probed(outcome));
            }
            Event::Gone { node, gone } => {
                let index = self.by_id[&gone];
                if self.nodes[node].alive && !self.reaches(node, index) && self.nodes[node].view.remove(&index) {
                    let view = self.nodes[node].view.clone();
                    self.see(node, view);
                }
                self.coordinate(node, Input::Unreachable { node: gone });
                self.tell_member(node, MemberInput::Unreachable { node: gone });
            }
            Event::Step => {
                self.step();
                self.after(STEP, Event::Step);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Coordination) {
        let sender = self.nodes[from].id;
        match message {
            Coordination::ToCoordinator(message) => self.coordinate(to, Input::Told { from: sender, message }),
            Coordination::ToMember(message) => {
                if let Some(input) = for_coordinator(sender, &message) {
                    self.coordinate(to, input);
                }
                if for_member(&message).is_none() {
                    return;
                }
                if self.nodes[to].member.is_some() {
                    self.tell_member(to, MemberInput::Told { from: sender, message });
                } else if let Some(answer) = unclaimed(&message) {
                    self.send(to, sender, Coordination::ToCoordinator(answer));
                }
            }
        }
    }

    fn coordinate(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        self.nodes[node].coordinator.handle(self.now, input);
        while let Some(output) = self.nodes[node].coordinator.poll() {
            match output {
                Output::Tell { to, message } => self.send(node, to, Coordination::ToMember(message)),
                Output::Answer { to, message } => self.send(node, to, Coordination::ToCoordinator(message)),
                Output::Know { to, digest, grant } => {
                    let holding = (self.complete(node)).then_some(FOUND);
                    let zone = self.nodes[node].zone.clone();
                    let message = ToCoordinator::Know { digest, grant, holding, addresses: vec![], zone };
                    self.send(node, to, Coordination::ToCoordinator(message));
                }
                Output::Note(note) => self.notes.push((node, note)),
            }
        }
        self.set_wake(node);
    }

    pub(crate) fn tell_member(&mut self, node: usize, input: MemberInput) {
        let now = self.now;
        let Some(member) = self.nodes[node].member.as_mut() else { return self.set_wake(node) };
        member.handle(now, input);
        loop {
            let Node { member, held, zone, .. } = &mut self.nodes[node];
            let Some(member) = member else { break };
            let Some(output) = member.poll(now, Own { held, addresses: &[], zone }) else { break };
            self.obey(node, output);
        }
        if self.nodes[node].member.as_ref().is_some_and(Member::is_over) {
            self.nodes[node].member = None;
        }
        self.set_wake(node);
    }

    fn obey(&mut self, node: usize, output: MemberOutput) {
        let delay = ms(self.rng.random_range(self.delay.0..=self.delay.1));
        let this = &mut self.nodes[node];
        match output {
            MemberOutput::FindCoordinator => self.after(delay, Event::Found { node }),
            MemberOutput::Send { to, message } => self.send(node, to, Coordination::ToCoordinator(message)),
            MemberOutput::Found(found) => {
                this.found = Some(found);
                if this.held.size() == 0 {
                    this.held = PieceSet::empty(Layout::new(found.length).unwrap().count());
                }
            }
            MemberOutput::Neighbours(list) => this.neighbours = list.into_iter().map(|one| one.node).collect(),
            MemberOutput::Importers(_) => {}
            MemberOutput::ProbeOrigin => {
                self.probes += 1;
                self.after(delay * 4, Event::Origin { node });
            }
            MemberOutput::BecomeSeed { grant, elsewhere, .. } => {
                this.seeding = Some((grant, elsewhere));
                this.became_seed += 1;
            }
            MemberOutput::ExtendLease { grant, .. } => {
                this.seeding.as_mut().expect("only a seed's lease is extended").0 = grant;
            }
            MemberOutput::StopSeeding(_) => this.seeding = None,
            MemberOutput::NewGrant(grant) => this.coordinator.handle(self.now, Input::Learnt(grant)),
            MemberOutput::Fail(refusal) => {
                this.failed.push(refusal);
                this.wants = false;
            }
            MemberOutput::Doubted { .. } => {}
        }
    }

    fn set_wake(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        if let Some(old) = this.wake.take() {
            self.wakes.remove(&(old, node));
        }
        let member = this.member.as_ref().and_then(Member::poll_timeout).map(|(at, _)| at);
        let coordinator = this.coordinator.poll_timeout().map(|(at, _)| at);
        this.wake = member.into_iter().chain(coordinator).min().filter(|_| this.alive);
        if let Some(at) = this.wake {
            self.wakes.insert((at, node));
        }
    }
}

/// What a seed would tell of a refusal, for tests that give a lease back.
pub(crate) fn refused(refusal: Refusal) -> MemberInput {
    MemberInput::LeaseReturned(Returned::Refused(refusal))
}
