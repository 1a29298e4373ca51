//! The receiver's part: it picks the piece, and picks again when it does not come.

use std::time::Duration;

use rand::{RngExt, seq::IndexedRandom};
use shoal_blob::{PieceIndex, PieceSet};
use shoal_proto::{
    NodeId,
    trade::{Lacks, Message},
};

use super::{
    Capacity, Fault, Output, SlotId, Source, Swarm, Why, flights::Flight, neighbour::Neighbour, seeding::Seeding,
};
use crate::Time;

impl Swarm {
    /// As many as a node has slots, were its uplink not capped: more only wait before this node's downlink, and hold their uploaders' slots meanwhile.
    /// In the simulator four more than that cost 512 nodes a fifth of the time.
    pub(super) fn most_in_flight(&self, capacity: &Capacity) -> usize {
        capacity.flights(self.layout.piece_bytes()) as usize
    }

    /// Whether one more may be picked. The limit is the node's, for its downlink is: what other swarms let come counts, but each
    /// may have one on its way.
    fn has_room(&self, capacity: &Capacity) -> bool {
        let (picked, most) = (self.flights.picked(), self.most_in_flight(capacity));
        let piece_bytes = u64::from(self.layout.piece_bytes());
        let own = self.flights.iter().filter(|flight| flight.from != Source::Origin).count() as u64 * piece_bytes;
        let others = capacity.traded().saturating_sub(own) / piece_bytes;
        picked == 0 || picked + (others as usize) < most
    }

    pub(super) fn bytes_of(&self, piece: u32) -> u64 {
        self.layout.piece(piece).map_or(0, |piece| u64::from(self.layout.piece_len(piece)))
    }

    /// A neighbour lets this node pick a piece of its.
    pub(super) fn answer_slot(&mut self, now: Time, from: NodeId, slot: SlotId, capacity: &mut Capacity) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.asked_at = None;
        }
        let willing = self.wants && !self.have.is_full() && self.takes_from(now, from);
        let room = self.has_room(capacity);
        let picked = if willing && room { self.pick(now, from, capacity) } else { None };
        self.answer(now, from, slot, picked, false, capacity);
    }

    /// The seed pushes a piece: refused only when it is here, on its way, or there is no room.
    pub(super) fn answer_offer(&mut self, now: Time, from: NodeId, slot: SlotId, piece: u32, capacity: &mut Capacity) {
        let willing = self.wants && !self.is_shut_out(now, from);
        let room = self.flights.awaited() < 2 * self.most_in_flight(capacity);
        let needed = self.layout.piece(piece).is_some() && !self.have.contains(piece) && !self.flights.comes(piece);
        self.answer(now, from, slot, (willing && room && needed).then_some(piece), true, capacity);
    }

    fn answer(
        &mut self,
        now: Time,
        from: NodeId,
        slot: SlotId,
        picked: Option<u32>,
        offered: bool,
        capacity: &mut Capacity,
    ) {
        let piece_bytes = self.layout.piece_bytes();
        let taken = picked
            .filter(|&piece| capacity.reserve_traded(self.bytes_of(piece), piece_bytes))
            .and_then(|number| self.layout.piece(number));
        let Some(piece) = taken else {
            self.say_with_news(from, Message::Pass { slot });
            return;
        };
        let (overdue, steal) = self.deadlines();
        let patience = self.neighbours.get(&from).map_or(1, Neighbour::patience);
        let flight = Flight {
            piece: piece.get(),
            from: Source::Neighbour(from),
            offered,
            since: now,
            overdue_at: Some(now + overdue),
            overdue: false,
            steal_at: Some(now + steal * patience),
        };
        self.flights.add(flight);
        self.outputs.push_back(Output::Expect { piece, from, slot });
        let number = piece.get();
        let lacks = Lacks { before: !self.chain.contains(number), behind: !self.chain.contains(number + 1) };
        self.say_with_news(from, Message::Take { slot, piece: number, lacks });
    }

    pub(super) fn deadlines(&self) -> (Duration, Duration) {
        // Where this node's own downlink is capped nobody is late before all that was let come could have come.
        let (late, lost) = (self.coming * 2, self.coming * 4);
        match self.pace.median() {
            Some(median) => {
                let floor = self.settings.shortest_deadline;
                let (overdue, steal) = (median * self.settings.overdue, median * self.settings.steal);
                (overdue.max(floor).max(late), steal.max(floor * 2).max(lost))
            }
            None => (self.settings.first_deadline.max(late), (self.settings.first_deadline * 2).max(lost)),
        }
    }

    fn is_shut_out(&self, now: Time, node: NodeId) -> bool {
        self.neighbours.get(&node).is_none_or(|neighbour| neighbour.shut_out(now))
    }

    /// A demoted neighbour is taken from only while no other has anything.
    fn takes_from(&self, now: Time, node: NodeId) -> bool {
        let Some(neighbour) = self.neighbours.get(&node) else { return false };
        let others = || {
            self.neighbours.iter().any(|(id, other)| {
                *id != node && !other.demoted(now) && !other.shut_out(now) && other.has_more_than(&self.have)
            })
        };
        !neighbour.shut_out(now) && (!neighbour.demoted(now) || !others())
    }

    /// Which piece to take from that neighbour: what a starved reader needs, else the rarest in the windows, ties at random;
    /// at the very end, or for a reader's next piece, one that comes from elsewhere but is late.
    ///
    /// A reader that keeps up with the fleet always waits for something. If what it waits for went first, nearly all would
    /// be fetched in order, and neighbours would have nothing to trade.
    fn pick(&mut self, now: Time, from: NodeId, capacity: &Capacity) -> Option<u32> {
        let windows = self.readers.windows(&self.have, self.settings.window);
        let neighbour = self.neighbours.get(&from)?;
        let there = |piece: u32| {
            let has = neighbour.have.contains(piece) && !self.have.contains(piece);
            has && (!neighbour.abroad || self.may_import(now, piece))
        };
        let patience = self.pace.median().map_or(Duration::ZERO, |median| median * self.settings.starved);
        let starved = self.needed(now, patience);
        if let Some(&piece) = starved.iter().find(|&&piece| there(piece) && !self.flights.expects(piece)) {
            return Some(piece);
        }
        let mut rarest = u16::MAX;
        let mut ties: Vec<u32> = Vec::new();
        for window in windows {
            let mut at = window.start;
            while let Some(piece) = neighbour.have.first_held_before(at, window.end) {
                at = piece + 1;
                let copies = self.copies[piece as usize];
                if copies > rarest || self.flights.expects(piece) || !there(piece) {
                    continue;
                }
                if copies < rarest {
                    rarest = copies;
                    ties.clear();
                }
                ties.push(piece);
            }
        }
        if !ties.is_empty() {
            let picked = ties[self.rng.random_range(0..ties.len())];
            return Some(picked);
        }
        let missing = self.have.size() - self.have.held();
        let needed = self.needed(now, Duration::ZERO);
        let hedged = |piece: u32| missing as usize <= self.most_in_flight(capacity) || needed.contains(&piece);
        let patience = self.pace.median()? * 2;
        self.flights.alone().find_map(|flight| {
            let piece = flight.piece;
            let late = now.since(flight.since) > patience && flight.from != Source::Origin;
            let elsewhere = flight.from != Source::Neighbour(from);
            (late && elsewhere && hedged(piece) && there(piece)).then_some(piece)
        })
    }

    /// What is waited for: by readers for so long, and by the seed for the midstate behind it.
    fn needed(&self, now: Time, patience: Duration) -> Vec<u32> {
        let mut pieces = self.readers.starved(now, patience, &self.have);
        pieces.extend(self.bridge());
        pieces
    }

    /// The piece that the seed lacks before it can read on.
    fn bridge(&self) -> Option<u32> {
        self.seeding.as_ref().and_then(Seeding::bridge).filter(|&piece| !self.have.contains(piece))
    }

    /// A piece is in the store.
    pub(super) fn stored(&mut self, now: Time, piece: PieceIndex, from: Source, capacity: &mut Capacity) {
        self.progress_at = now;
        let number = piece.get();
        let mut offered_by = None;
        for flight in self.flights.land(number) {
            capacity.release(&self.digest, self.bytes_of(number), flight.from);
            if let (Source::Origin, Some(seeding)) = (flight.from, &mut self.seeding) {
                seeding.landed();
            }
            if flight.from == from {
                self.delivered(now, from, now.since(flight.since));
                offered_by = offered_by.or(if flight.offered { Some(from) } else { None });
            } else if let Source::Neighbour(node) = flight.from {
                self.abandon(number, node);
                self.say(node, Message::Cancel { piece: number });
            }
        }
        if !self.have.insert(number) {
            return;
        }
        // What is stored was checked between two midstates, so both are known.
        self.learn_chain(number..number + 2);
        self.zoning.stored(number);
        self.note_news(now, number);
        if let Some(seeding) = &mut self.seeding {
            seeding.stored(now, number, from, self.copies[number as usize] > 0);
        }
        if let Some(Source::Neighbour(node)) = offered_by {
            self.tell_news(node);
        }
        if self.have.is_full() {
            self.outputs.push_back(Output::Complete);
        }
    }

    fn delivered(&mut self, now: Time, from: Source, span: Duration) {
        if let Source::Neighbour(node) = from {
            self.pace.learn(span);
            if let Some(neighbour) = self.neighbours.get_mut(&node) {
                neighbour.strikes = 0;
                neighbour.kept_its_word();
                if !neighbour.demoted(now) {
                    neighbour.demoted_until = None;
                }
            }
        }
    }

    /// A piece did not come, or came wrong.
    pub(super) fn missed(&mut self, now: Time, piece: u32, from: Source, fault: Fault, capacity: &mut Capacity) {
        self.end_flight(piece, from, capacity);
        if let (Source::Neighbour(node), Fault::WrongBytes) = (from, fault) {
            self.shut_out(now, node);
        }
    }

    /// A piece comes from there no longer, nor is it here: the seed may have to read it after all.
    fn end_flight(&mut self, piece: u32, from: Source, capacity: &mut Capacity) {
        let ended = self.flights.remove(piece, from);
        if ended == 0 {
            return;
        }
        capacity.release(&self.digest, ended as u64 * self.bytes_of(piece), from);
        if let Some(seeding) = &mut self.seeding {
            seeding.missed(piece, from);
        }
    }

    /// A neighbour sent wrong bytes. What it says that it has is no copy any more: others must not wait for it, and the
    /// seed must not leave it out.
    fn shut_out(&mut self, now: Time, node: NodeId) {
        let Some(neighbour) = self.neighbours.get_mut(&node) else { return };
        if neighbour.shut_out(now) {
            // It was on its way when the first one came: one fault, not several.
            return;
        }
        neighbour.demotions += 1;
        let span = self.settings.demotion * 3 * 2u32.pow(neighbour.demotions.min(8));
        neighbour.shut_until = Some(now + span);
        neighbour.wants = false;
        neighbour.lacks = self.have.held();
        for piece in std::mem::replace(&mut neighbour.have, PieceSet::none_of(&self.layout)).iter() {
            self.copies[piece as usize] -= 1;
        }
        self.outputs.push_back(Output::ShutOut { node, span });
        self.holders_changed();
    }

    pub(super) fn drop_flights_from(&mut self, node: NodeId, capacity: &mut Capacity) {
        for number in self.flights.remove_all(Source::Neighbour(node)) {
            capacity.release(&self.digest, self.bytes_of(number), Source::Neighbour(node));
            self.abandon(number, node);
        }
    }

    /// What a neighbour may still send of a piece, after a Cancel, a Refuse or a Bye as well, is not counted any longer: it is not
    /// to be taken.
    pub(super) fn abandon(&mut self, number: u32, from: NodeId) {
        if let Some(piece) = self.layout.piece(number) {
            self.outputs.push_back(Output::Abandon { piece, from });
        }
    }

    pub(super) fn next_overdue(&self) -> Option<(Time, Why)> {
        let flights = self.flights.iter();
        flights
            .filter_map(|flight| if flight.overdue { flight.steal_at } else { flight.overdue_at })
            .min()
            .map(|at| (at, Why::PieceOverdue))
    }

    pub(super) fn expire_flights(&mut self, now: Time, capacity: &mut Capacity) {
        let (late, stolen) = self.flights.expire(now);
        for node in late {
            let Some(neighbour) = self.neighbours.get_mut(&node) else { continue };
            neighbour.strikes += 1;
            if neighbour.strikes >= self.settings.strikes {
                neighbour.strikes = 0;
                neighbour.demotions += 1;
                let span = self.settings.demotion * 2u32.pow(neighbour.demotions.min(6) - 1);
                neighbour.demoted_until = Some(now + span);
            }
        }
        for (number, node, since) in stolen {
            if let Some(neighbour) = self.neighbours.get_mut(&node) {
                neighbour.was_given_up(now, since);
            }
            self.end_flight(number, Source::Neighbour(node), capacity);
            self.abandon(number, node);
            self.say(node, Message::Cancel { piece: number });
        }
    }

    /// A reader waits for a piece that some neighbour has and nobody sends: ask for it. One that has nothing on its way at
    /// all asks soon: whoever it passed thinks that it has no room.
    pub(super) fn call_for_starved(&mut self, now: Time) {
        if self.call_at().is_none_or(|at| at > now) {
            return;
        }
        self.flights.called_at = Some(now);
        // A seed cannot read what its readers wait for before it knows the midstate: that comes first.
        let bridge = self.bridge().filter(|&piece| self.copies[piece as usize] > 0);
        let needed = self.needed(now, Duration::ZERO);
        let mut wanted = bridge.into_iter().chain(needed).chain(self.readers.first_missing(&self.have));
        let Some(piece) = wanted.find(|&piece| !self.flights.expects(piece)) else { return };
        let comes_abroad = self.may_import(now, piece);
        let held = |neighbour: &Neighbour| {
            let sound = !neighbour.shut_out(now) && !neighbour.doubted() && (comes_abroad || !neighbour.abroad);
            sound && neighbour.have.contains(piece)
        };
        let holders = self.neighbours.iter().filter(|(_, neighbour)| held(neighbour)).map(|(node, _)| *node);
        let here: Vec<NodeId> = holders.collect();
        if let Some(&node) = here.choose(&mut self.rng) {
            self.call(now, node, piece);
        }
    }

    /// Asks a neighbour for a piece.
    pub(super) fn call(&mut self, now: Time, node: NodeId, piece: u32) {
        if let Some(neighbour) = self.neighbours.get_mut(&node) {
            neighbour.called_at.get_or_insert(now);
        }
        self.say(node, Message::Want { piece });
    }

    /// Who was asked for a piece and has said nothing since may be gone: the seed must not count on what it has.
    pub(super) fn doubt_the_silent(&mut self, now: Time) {
        let (patience, _) = self.deadlines();
        let mut doubts = false;
        for neighbour in self.neighbours.values_mut() {
            if neighbour.called_at.is_some_and(|at| at + patience <= now) {
                neighbour.called_at = None;
                neighbour.silent = true;
                doubts = true;
            }
        }
        if doubts {
            self.holders_changed();
        }
    }

    /// When a holder may be asked again.
    fn call_at(&self) -> Option<Time> {
        let idle = self.flights.awaited() == 0;
        let waits = self.wants && !self.have.is_full() && !self.neighbours.is_empty();
        let patience = match self.pace.median() {
            Some(median) if idle => (median / 4).max(self.settings.batch),
            _ => self.settings.shortest_deadline / 2,
        };
        waits.then(|| self.flights.called_at.map_or(Time::ZERO, |at| at + patience))
    }

    /// One that has nothing on its way has to be woken to ask.
    pub(super) fn next_call(&self) -> Option<(Time, Why)> {
        let idle = self.flights.awaited() == 0;
        let here = self.call_at().filter(|_| idle);
        let (patience, _) = self.deadlines();
        let answers = self.neighbours.values().filter_map(|neighbour| Some(neighbour.called_at? + patience));
        here.into_iter().chain(self.next_call_abroad()).chain(answers).min().map(|at| (at, Why::Starved))
    }
}
