//! The uploader's part: it opens a few slots, and each goes to a neighbour that lacks something.

use std::time::Duration;

use rand::{RngExt, seq::IndexedRandom};
use shoal_proto::{
    NodeId,
    trade::{Lacks, Message},
};

use super::{
    Capacity, Output, SlotId, Swarm, Why,
    neighbour::Neighbour,
    slots::{Slot, Use},
};
use crate::Time;

/// Among how many neighbours a slot's is chosen.
const CHOICES: usize = 4;
/// One slot in so many goes to anybody that lacks something: more cost those at the front.
const ONE_IN: u32 = 16;

impl Swarm {
    /// Gives out what slots there are: offers of fresh pieces first, so that the seed sends each once before any twice.
    pub(super) fn open_slots(&mut self, now: Time, capacity: &mut Capacity) {
        let piece_bytes = self.layout.piece_bytes();
        loop {
            let called = self.rare_call(now);
            let offer = if called.is_some() { None } else { self.next_offer(now) };
            if let Some((to, piece)) = offer {
                if !capacity.take_slot_for_offer(&self.digest, piece_bytes) {
                    return;
                }
                self.offer(now, to, piece);
            } else if let Some(to) = called.or_else(|| self.next_neighbour(now))
                && !self.serves_enough()
            {
                if !capacity.take_slot(&self.digest, piece_bytes) {
                    return;
                }
                let used = Use::Open { lapses_at: self.lapse(now, to) };
                let slot = self.slots.add(now, to, used);
                self.note_unanswered(to, 1);
                self.say_with_news(to, Message::Slot { slot });
            } else {
                return;
            }
        }
    }

    /// Whether as many are served as this node has pieces, and one more. With few pieces all would take the same: side by side on
    /// one uplink the copies come late, where each of the first could have been passed on meanwhile.
    fn serves_enough(&self) -> bool {
        self.slots.open.len() > self.have.held() as usize
    }

    /// Whether this node keeps its uplink for what it is still to read: a second copy that waits there would hold up the next
    /// piece that only it has, and the whole fleet with it. Others have the first copy.
    fn keeps_its_uplink(&self) -> bool {
        self.seeding.as_ref().is_some_and(|seeding| !seeding.is_done()) && !self.have.is_full()
    }

    /// A neighbour whose reader waits for a piece that hardly anybody has though it was given out long ago: that goes before
    /// all offers. Its only other holder may have died with it.
    fn rare_call(&self, now: Time) -> Option<NodeId> {
        let behind = self.seeding.as_ref()?.front().saturating_sub(self.settings.window / 2);
        let rare = |piece: u32| piece < behind && self.have.contains(piece) && self.copies[piece as usize] <= 1;
        let mut neighbours = self.neighbours.iter();
        let calls = |neighbour: &Neighbour| neighbour.urgent.is_some_and(rare) && neighbour.may_get_slot(now);
        neighbours.find(|(_, neighbour)| calls(neighbour)).map(|(node, _)| *node)
    }

    fn offer(&mut self, now: Time, to: NodeId, piece: u32) {
        if let Some(seeding) = &mut self.seeding {
            seeding.offered(piece);
        }
        let used = Use::Offered { piece, lapses_at: self.lapse(now, to) };
        let slot = self.slots.add(now, to, used);
        self.note_unanswered(to, 1);
        self.say_with_news(to, Message::Offer { slot, piece });
    }

    /// The lowest fresh piece, and the least loaded neighbour that lacks it.
    fn next_offer(&mut self, now: Time) -> Option<(NodeId, u32)> {
        let piece = self.seeding.as_ref()?.first_fresh()?;
        let lacking = |neighbour: &Neighbour| neighbour.may_get_slot(now) && !neighbour.have.contains(piece);
        // What crosses zones is for their importers to pick.
        let at_home = self.zoning.is_on() && self.neighbours.values().any(|n| !n.abroad && n.greeted && n.wants);
        let candidates =
            self.neighbours.iter().filter(|(_, neighbour)| lacking(neighbour) && !(at_home && neighbour.abroad));
        let load = |queue: u16, uploads: u32| u32::from(queue) + 2 * uploads;
        let mut best: Vec<NodeId> = Vec::new();
        let mut least = u32::MAX;
        for (node, neighbour) in candidates {
            let load = load(neighbour.queue, neighbour.uploads);
            if load < least {
                least = load;
                best.clear();
            }
            if load == least {
                best.push(*node);
            }
        }
        best.choose(&mut self.rng).map(|&node| (node, piece))
    }

    /// Of a few random neighbours that lack something, the one that is furthest behind: who fell behind catches up
    /// (Mitzenmacher 2001, the power of two choices). One in a few goes to anybody, and one whose reader waits goes before
    /// all others.
    fn next_neighbour(&mut self, now: Time) -> Option<NodeId> {
        if self.keeps_its_uplink() {
            return None;
        }
        let mut open: Vec<(NodeId, u32)> = Vec::with_capacity(self.neighbours.len());
        for (node, neighbour) in &self.neighbours {
            if !neighbour.may_get_slot(now) {
                continue;
            }
            if neighbour.urgent.is_some_and(|piece| self.have.contains(piece)) {
                return Some(*node);
            }
            open.push((*node, self.behind(neighbour.lacks)));
        }
        let choices = if self.rng.random_ratio(1, ONE_IN) { 1 } else { CHOICES };
        let drawn = (0..choices).filter_map(|_| open.choose(&mut self.rng).copied());
        drawn.max_by_key(|(_, behind)| *behind).map(|(node, _)| node)
    }

    /// How far a neighbour that lacks so many pieces counts as behind: most at a quarter of the window, and beyond two windows
    /// not at all. One that lacks more has come later and picks near its reader, where everybody has everything; it is not to
    /// be fed before those at the front.
    const fn behind(&self, lacks: u32) -> u32 {
        let (most, none) = (self.settings.window / 4, self.settings.window * 2);
        if lacks <= most { lacks } else { none.saturating_sub(lacks) * most / (none - most) }
    }

    fn lapse(&self, now: Time, to: NodeId) -> Time {
        let rtt = self.neighbours.get(&to).map_or(Duration::ZERO, |neighbour| neighbour.rtt);
        now + 2 * rtt + self.settings.slot_grace
    }

    fn learn_answer(&self, now: Time, slot: SlotId, capacity: &mut Capacity) {
        if let Some(slot) = self.slots.open.get(&slot) {
            capacity.slot_answered(now.since(slot.since));
        }
    }

    fn note_unanswered(&mut self, node: NodeId, more: i32) {
        if let Some(neighbour) = self.neighbours.get_mut(&node) {
            neighbour.unanswered = neighbour.unanswered.saturating_add_signed(more);
        }
    }

    /// A neighbour takes a piece. A slot that has just lapsed still counts while the node has another one free: the answer
    /// was only slow.
    pub(super) fn give(
        &mut self,
        now: Time,
        from: NodeId,
        slot: SlotId,
        number: u32,
        lacks: Lacks,
        capacity: &mut Capacity,
    ) {
        let piece = self.layout.piece(number).filter(|&piece| self.have.has(piece));
        let open = self.slots.unanswered(slot, from);
        let lapsed = !open && slot < self.slots.next && !self.slots.open.contains_key(&slot);
        let shut_out = self.neighbours.get(&from).is_none_or(|neighbour| neighbour.shut_out(now));
        let granted = piece.is_some()
            && !shut_out
            && (open || (lapsed && capacity.take_slot(&self.digest, self.layout.piece_bytes())));
        let (Some(piece), true) = (piece, granted) else {
            if open {
                self.close(now, slot, capacity);
            }
            self.say(from, Message::Refuse { slot, piece: number });
            return;
        };
        if open {
            self.note_unanswered(from, -1);
            self.learn_answer(now, slot, capacity);
        }
        if let Some(Slot { used: Use::Offered { piece: offered, .. }, .. }) = self.slots.open.get(&slot)
            && *offered != number
        {
            let offered = *offered;
            self.offer_again(offered);
        }
        let used = Use::Uploading { piece: number };
        self.slots.open.insert(slot, Slot { to: from, since: now, used });
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            capacity.upload_began(now, neighbour.rtt);
            neighbour.uploads += 1;
            neighbour.urgent = neighbour.urgent.filter(|&urgent| urgent != number);
        }
        self.outputs.push_back(Output::Upload { to: from, piece, slot, lacks });
    }

    pub(super) fn passed(&mut self, now: Time, from: NodeId, slot: SlotId, capacity: &mut Capacity) {
        let usual = self.pace.median().map_or(self.settings.bar, |median| median / 2);
        if self.slots.unanswered(slot, from) {
            self.learn_answer(now, slot, capacity);
            self.close(now, slot, capacity);
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                // When the pieces that fill it have come, it may have room.
                let bar = neighbour.pace.map_or(usual, |pace| pace * self.settings.bar_pieces).min(self.settings.bar);
                neighbour.barred_until = Some(now + bar);
                neighbour.urgent = None;
            }
        }
    }

    pub(super) fn uploaded(&mut self, now: Time, slot: SlotId, arrived: bool, capacity: &mut Capacity) {
        let Some(&Slot { since, used, .. }) = self.slots.open.get(&slot) else { return };
        if used.carries().is_none() {
            return;
        }
        if arrived {
            // Also when it was given up before: the patience was too short.
            self.slots.pace.learn(now.since(since));
        }
        self.close_as(now, slot, arrived, capacity);
    }

    /// How long an upload may take before its slot is used otherwise.
    fn patience(&self) -> Duration {
        let usual =
            self.slots.pace.median().map_or(self.settings.first_deadline, |median| median * self.settings.overdue);
        usual.max(self.settings.shortest_deadline)
    }

    /// An upload that does not end holds no slot for ever, and its neighbour gets no other until it speaks.
    fn stall_uploads(&mut self, now: Time, capacity: &mut Capacity) {
        let patience = self.patience();
        let mut stalled = Vec::new();
        for slot in self.slots.open.values_mut() {
            let Use::Uploading { piece } = slot.used else { continue };
            if slot.since + patience <= now {
                slot.used = Use::Stalled { piece };
                stalled.push(piece);
                capacity.free_slot();
                capacity.upload_ended(now, 0);
                if let Some(neighbour) = self.neighbours.get_mut(&slot.to) {
                    neighbour.silent = true;
                }
            }
        }
        if !stalled.is_empty() {
            self.holders_changed();
        }
        for piece in stalled {
            self.offer_again(piece);
        }
    }

    pub(super) fn note_urgent(&mut self, from: NodeId, piece: u32) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.urgent = Some(piece);
            neighbour.barred_until = None;
        }
    }

    pub(super) fn cancel_uploads(&mut self, to: NodeId, piece: u32) {
        let cancelled = self.slots.open.iter().filter(|(_, slot)| slot.to == to && slot.used.carries() == Some(piece));
        let outputs: Vec<Output> = cancelled.map(|(&slot, _)| Output::CancelUpload { slot }).collect();
        self.outputs.extend(outputs);
    }

    fn close(&mut self, now: Time, slot: SlotId, capacity: &mut Capacity) {
        self.close_as(now, slot, false, capacity);
    }

    fn close_as(&mut self, now: Time, id: SlotId, arrived: bool, capacity: &mut Capacity) {
        let Some(slot) = self.slots.open.remove(&id) else { return };
        if !matches!(slot.used, Use::Stalled { .. }) {
            capacity.free_slot();
        }
        if let Use::Uploading { piece } = slot.used {
            capacity.upload_ended(now, if arrived { self.bytes_of(piece) } else { 0 });
        }
        match slot.used {
            Use::Open { .. } => self.note_unanswered(slot.to, -1),
            Use::Offered { piece, .. } => {
                self.note_unanswered(slot.to, -1);
                self.offer_again(piece);
            }
            Use::Uploading { piece } | Use::Stalled { piece } => {
                if let Some(neighbour) = self.neighbours.get_mut(&slot.to) {
                    neighbour.uploads = neighbour.uploads.saturating_sub(1);
                }
                if !arrived {
                    self.offer_again(piece);
                }
            }
        }
    }

    /// Nobody took the piece that was offered: it is fresh again, while this node alone has it.
    fn offer_again(&mut self, piece: u32) {
        if let Some(seeding) = &mut self.seeding
            && self.have.contains(piece)
        {
            seeding.refresh(piece);
        }
    }

    pub(super) fn drop_slots_of(&mut self, now: Time, node: NodeId, capacity: &mut Capacity) {
        let slots: Vec<(SlotId, Use)> =
            self.slots.open.iter().filter(|(_, slot)| slot.to == node).map(|(&id, slot)| (id, slot.used)).collect();
        for (slot, used) in slots {
            if used.carries().is_some() {
                self.outputs.push_back(Output::CancelUpload { slot });
            }
            self.close(now, slot, capacity);
        }
    }

    pub(super) fn next_lapse(&self) -> Option<(Time, Why)> {
        let patience = self.patience();
        let slots = self.slots.open.values().filter_map(|slot| match slot.used {
            Use::Open { lapses_at } | Use::Offered { lapses_at, .. } => Some((lapses_at, Why::SlotLapses)),
            Use::Uploading { .. } => Some((slot.since + patience, Why::UploadStalls)),
            Use::Stalled { .. } => None,
        });
        let mut bar: Option<Time> = None;
        for neighbour in self.neighbours.values() {
            if let Some(until) = neighbour.barred_until
                && bar.is_none_or(|earliest| until < earliest)
                && neighbour.wants
                && neighbour.lacks > 0
            {
                bar = Some(until);
            }
        }
        slots.chain(bar.map(|until| (until, Why::BarLifts))).min_by_key(|(at, _)| *at)
    }

    pub(super) fn lapse_slots(&mut self, now: Time, capacity: &mut Capacity) {
        let lapsed: Vec<SlotId> = self
            .slots
            .open
            .iter()
            .filter(|(_, slot)| match slot.used {
                Use::Open { lapses_at } | Use::Offered { lapses_at, .. } => lapses_at <= now,
                Use::Uploading { .. } | Use::Stalled { .. } => false,
            })
            .map(|(&id, _)| id)
            .collect();
        let mut doubts = false;
        for slot in lapsed {
            let to = self.slots.open.get(&slot).map(|slot| slot.to);
            self.close(now, slot, capacity);
            if let Some(neighbour) = to.and_then(|node| self.neighbours.get_mut(&node)) {
                neighbour.lapses += 1;
                neighbour.barred_until = Some(now + self.settings.slot_grace * 2u32.pow(neighbour.lapses.min(8) - 1));
                doubts |= neighbour.doubted();
            }
        }
        if doubts {
            self.holders_changed();
        }
        self.stall_uploads(now, capacity);
        for neighbour in self.neighbours.values_mut() {
            neighbour.barred_until = neighbour.barred_until.filter(|&until| until > now);
        }
    }
}

#[cfg(test)]
mod tests;
