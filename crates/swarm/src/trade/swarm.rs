//! The state machine of one blob on one node.

use std::{collections::VecDeque, time::Duration};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{
    NodeId,
    trade::{Hello, Message},
};

use super::{
    Capacity, Fault, Input, Output, Settings, Source, Why, flights::Flights, neighbour::Neighbour,
    neighbours::Neighbours, news::News, pace::Pace, readers::Readers, seeding::Seeding, slots::Slots, zoning::Zoning,
};
use crate::Time;

/// One blob on one node: which piece to take from whom, whom to give a slot, what to read from the origin.
///
/// # Driving it
/// 1. Tell it each thing that happens with [`handle`](Self::handle), in the order in which it happened. It may take
///    slots and room from the node's [`Capacity`], which all swarms of the node share.
/// 2. Then do what [`poll`](Self::poll) says until it says nothing more, in that order: what is sent to one neighbour must
///    arrive in the order in which it was said.
/// 3. Call `handle` with [`Input::TimeOut`] at the time that [`poll_timeout`](Self::poll_timeout) names, or later.
/// 4. After each input ask [`Capacity::next_turn`] whose turn it is, and tell that swarm [`Input::Turn`].
/// 5. Before it is dropped, call [`dissolve`](Self::dissolve), so that what it holds of the capacity is free again.
///
/// Bytes never enter it. Each [`Output::FetchOrigin`] and [`Output::Expect`] is answered by one [`Input::Stored`] or
/// [`Input::Missed`], unless it was abandoned or cancelled; each [`Output::Upload`] by one [`Input::Uploaded`].
///
/// Every decision costs O(neighbours) or O(window), never O(pieces); `benches/decision.rs` measures it. Only where a bitmap
/// comes, goes or falls, which is once for each neighbour, lease or loss, all pieces are looked at.
#[derive(Debug)]
pub struct Swarm {
    pub(super) me: NodeId,
    pub(super) digest: Digest,
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    pub(super) rng: Xoshiro256PlusPlus,
    zone: String,
    pub(super) wants: bool,
    /// Pieces in the store.
    pub(super) have: PieceSet,
    /// Boundaries whose midstates are known here.
    pub(super) chain: PieceSet,
    /// The last of them before the blob's end.
    pub(super) chain_end: u32,
    /// How many neighbours have each piece.
    pub(super) copies: Vec<u16>,
    pub(super) neighbours: Neighbours,
    pub(super) readers: Readers,
    pub(super) flights: Flights,
    pub(super) pace: Pace,
    /// How long all that may be on its way here takes at the limit of the downlink, where it has one.
    pub(super) coming: Duration,
    pub(super) slots: Slots,
    pub(super) seeding: Option<Seeding>,
    pub(super) zoning: Zoning,
    /// What the neighbours have still to be told of.
    pub(super) news: News,
    /// When something last came, or could not be expected to.
    pub(super) progress_at: Time,
    pub(super) outputs: VecDeque<Output>,
}

/// What a swarm is doing, for metrics and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Pieces stored here.
    pub held: u32,
    /// Pieces on their way here.
    pub in_flight: u32,
    /// Pieces on their way from here, without those that are stuck.
    pub uploading: u32,
    /// Neighbours that have said Hello.
    pub neighbours: u32,
    /// Whether this node holds the lease.
    pub seeding: bool,
    /// How often the seed read on although nobody had taken what it has.
    pub impatience: u32,
}

impl Swarm {
    /// A swarm that has these pieces and knows the midstates at these boundaries, one more than there are pieces. `seed`
    /// makes its choices: the same inputs then give the same outputs.
    #[must_use]
    pub fn new(
        now: Time,
        me: NodeId,
        digest: Digest,
        layout: Layout,
        settings: Settings,
        zone: String,
        seed: u64,
    ) -> Self {
        let pieces = layout.count();
        let mut chain = PieceSet::empty(pieces + 1);
        chain.insert(0);
        chain.insert(pieces);
        Self {
            me,
            digest,
            layout,
            settings,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            zone,
            wants: false,
            have: PieceSet::empty(pieces),
            chain,
            chain_end: 0,
            copies: vec![0; pieces as usize],
            neighbours: Neighbours::default(),
            readers: Readers::default(),
            flights: Flights::default(),
            pace: Pace::default(),
            coming: Duration::ZERO,
            slots: Slots::default(),
            seeding: None,
            zoning: Zoning::default(),
            news: News::default(),
            progress_at: now,
            outputs: VecDeque::new(),
        }
    }

    /// The same, holding these pieces from an earlier life.
    #[must_use]
    pub fn holding(mut self, have: PieceSet, chain: &PieceSet) -> Self {
        assert_eq!((have.size(), chain.size()), (self.layout.count(), self.layout.count() + 1), "sets of this blob");
        self.have = have;
        self.chain.union_with(chain);
        self.chain_end = self.chain.iter().filter(|&boundary| boundary < self.layout.count()).last().unwrap_or(0);
        self
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Time, input: Input, capacity: &mut Capacity) {
        self.coming = capacity.coming(self.layout.piece_bytes());
        match input {
            Input::Met { node, rtt } => self.meet(node, rtt),
            Input::Heard { from, message } => self.hear(now, from, message, capacity),
            Input::Left { node } => self.leave(now, node, capacity),
            Input::Parted { node } => self.part(now, node, capacity),
            Input::Chained { boundaries } => self.learn_chain(boundaries),
            Input::ChainFell => self.forget_chain(),
            Input::Stored { piece, from } => self.stored(now, piece, from, capacity),
            Input::Missed { piece, from, fault } => self.missed(now, piece.get(), from, fault, capacity),
            Input::Uploaded { slot, arrived } => self.uploaded(now, slot, arrived, capacity),
            Input::Lost { pieces } => self.lost(&pieces),
            Input::ReaderAt { reader, piece } => self.readers.place(now, reader, piece.get()),
            Input::ReaderGone { reader } => self.readers.remove(reader),
            Input::Wants(wants) => {
                self.progress_at = now;
                self.set_wants(wants);
            }
            Input::Importers(nodes) => self.zoning.set(self.me, nodes),
            Input::Appointed { elsewhere } => self.appoint(now, elsewhere),
            Input::Dismissed => self.dismiss(capacity),
            Input::Turn => {}
            Input::TimeOut => self.time_out(now, capacity),
        }
        self.read_origin(now, capacity);
        self.call_for_starved(now);
        self.call_abroad(now, capacity);
        self.open_slots(now, capacity);
        self.watch_for_orphaning(now);
    }

    /// The next thing to do; `None` until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::TimeOut`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Why)> {
        let announce = self.news.due().map(|at| (at, Why::Announce));
        let orphaned = self.orphaned_at().map(|at| (at, Why::Orphaned));
        [announce, self.next_lapse(), self.next_overdue(), self.next_call(), self.seed_patience(), orphaned]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Gives back what the swarm holds of the node's capacity and takes leave of its neighbours.
    pub fn dissolve(&mut self, now: Time, capacity: &mut Capacity) {
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for node in nodes {
            self.say(node, Message::Bye);
            self.part(now, node, capacity);
        }
        self.dismiss(capacity);
        capacity.forget(&self.digest);
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            held: self.have.held(),
            in_flight: self.flights.awaited() as u32,
            uploading: self.slots.uploading() as u32,
            neighbours: self.neighbours.values().filter(|neighbour| neighbour.greeted).count() as u32,
            seeding: self.seeding.is_some(),
            impatience: self.seeding.as_ref().map_or(0, Seeding::impatience),
        }
    }

    /// What is stored.
    #[must_use]
    pub const fn have(&self) -> &PieceSet {
        &self.have
    }

    /// Whether this node has taken leave of another a moment ago. If that says Hello, its Hello has crossed the Bye: to meet it
    /// again would make neighbours of two that nobody told to trade.
    #[must_use]
    pub fn has_left(&self, now: Time, node: &NodeId) -> bool {
        self.neighbours.has_left(now, node)
    }

    /// Whether some neighbour still wants something that this node has.
    #[must_use]
    pub fn is_useful(&self) -> bool {
        self.neighbours.values().any(|neighbour| neighbour.greeted && neighbour.wants && neighbour.lacks > 0)
            || !self.slots.is_empty()
    }

    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn greet(&mut self, node: NodeId) {
        let hello =
            Hello { length: self.layout.length(), have: self.have.clone(), wants: self.wants, zone: self.zone.clone() };
        if let Some(neighbour) = self.neighbours.get_mut(&node) {
            neighbour.told = self.news.told_all();
        }
        self.say(node, Message::Hello(hello));
    }

    fn meet(&mut self, node: NodeId, rtt: Duration) {
        if let Some(known) = self.neighbours.get_mut(&node) {
            known.rtt = rtt;
            return;
        }
        self.neighbours.insert(node, Neighbour::new(&self.have, rtt));
        self.greet(node);
    }

    fn set_wants(&mut self, wants: bool) {
        if self.wants == wants {
            return;
        }
        self.wants = wants;
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for node in nodes {
            self.greet(node);
        }
    }

    fn hear(&mut self, now: Time, from: NodeId, message: Message, capacity: &mut Capacity) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            if matches!(message, Message::Hello(_)) {
                self.say(from, Message::Bye);
            }
            return;
        };
        let (shut_out, was_doubted) = (neighbour.shut_out(now), neighbour.doubted());
        (neighbour.lapses, neighbour.silent, neighbour.called_at) = (0, false, None);
        if was_doubted {
            self.holders_changed();
        }
        match message {
            // One that sends wrong bytes has nothing to be counted on.
            Message::Hello(_) | Message::Have { .. } if shut_out => {}
            Message::Hello(hello) => self.greeted(now, from, hello),
            Message::Have { pieces, queue } => self.note_have(now, from, &pieces, queue),
            Message::Lost { pieces } => self.note_lost(from, &pieces),
            Message::Slot { slot } => self.answer_slot(now, from, slot, capacity),
            Message::Offer { slot, piece } => self.answer_offer(now, from, slot, piece, capacity),
            Message::Take { slot, piece, lacks } => self.give(now, from, slot, piece, lacks, capacity),
            Message::Pass { slot } => self.passed(now, from, slot, capacity),
            Message::Want { piece } => self.note_urgent(from, piece),
            Message::Cancel { piece } => self.cancel_uploads(from, piece),
            Message::Refuse { piece, .. } => {
                self.missed(now, piece, Source::Neighbour(from), Fault::Broken, capacity);
                self.abandon(piece, from);
            }
            Message::Bye => self.part(now, from, capacity),
            Message::Grant(_) => {}
        }
    }

    fn greeted(&mut self, now: Time, from: NodeId, hello: Hello) {
        if hello.length != self.layout.length() || hello.have.size() != self.have.size() {
            return;
        }
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        for piece in neighbour.have.iter() {
            self.copies[piece as usize] -= 1;
        }
        neighbour.abroad = hello.zone != self.zone;
        for piece in hello.have.iter() {
            self.copies[piece as usize] = self.copies[piece as usize].saturating_add(1);
        }
        neighbour.greeted = true;
        neighbour.wants = hello.wants;
        neighbour.barred_until = None;
        neighbour.have = hello.have;
        neighbour.lacks = self.have.beyond(&neighbour.have, 0).count() as u32;
        if neighbour.abroad {
            let pieces: Vec<u32> = neighbour.have.iter().collect();
            self.look_abroad(now, &pieces);
        }
        self.holders_changed();
    }

    fn note_have(&mut self, now: Time, from: NodeId, pieces: &[u32], queue: u16) {
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|neighbour| neighbour.greeted) else { return };
        neighbour.queue = queue;
        neighbour.barred_until = None;
        let mut fresh = 0;
        for &piece in pieces {
            if !neighbour.have.insert(piece) {
                continue;
            }
            fresh += 1;
            self.copies[piece as usize] = self.copies[piece as usize].saturating_add(1);
            if self.have.contains(piece) {
                neighbour.lacks -= 1;
            }
            if neighbour.urgent == Some(piece) {
                neighbour.urgent = None;
            }
            if let Some(seeding) = &mut self.seeding {
                seeding.copied(piece);
            }
        }
        neighbour.learn_pace(now, fresh);
        if neighbour.abroad {
            self.look_abroad(now, pieces);
        }
    }

    fn note_lost(&mut self, from: NodeId, pieces: &[u32]) {
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|neighbour| neighbour.greeted) else { return };
        for &piece in pieces {
            if neighbour.have.remove(piece) {
                self.copies[piece as usize] -= 1;
                if self.have.contains(piece) {
                    neighbour.lacks += 1;
                }
            }
        }
        self.holders_changed();
    }

    fn leave(&mut self, now: Time, node: NodeId, capacity: &mut Capacity) {
        self.say(node, Message::Bye);
        self.part(now, node, capacity);
        self.neighbours.leave(now, node);
    }

    fn part(&mut self, now: Time, node: NodeId, capacity: &mut Capacity) {
        let Some(neighbour) = self.neighbours.remove(&node) else { return };
        for piece in neighbour.have.iter() {
            self.copies[piece as usize] -= 1;
        }
        self.drop_flights_from(node, capacity);
        self.drop_slots_of(now, node, capacity);
        self.holders_changed();
    }

    fn time_out(&mut self, now: Time, capacity: &mut Capacity) {
        if self.news.due().is_some_and(|at| at <= now) {
            self.announce();
        }
        self.lapse_slots(now, capacity);
        self.expire_flights(now, capacity);
        self.expire_calls_abroad(now);
        self.doubt_the_silent(now);
        self.lose_patience(now);
    }

    fn orphaned_at(&self) -> Option<Time> {
        let waits = self.wants && !self.have.is_full() && self.flights.is_empty() && self.seeding.is_none();
        waits.then(|| self.progress_at + self.settings.orphaned_after)
    }

    fn watch_for_orphaning(&mut self, now: Time) {
        if self.orphaned_at().is_some_and(|at| at <= now) {
            self.progress_at = now;
            self.outputs.push_back(Output::Orphaned);
        }
    }
}
