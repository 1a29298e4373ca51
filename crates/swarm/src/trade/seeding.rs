//! The seed's part: it reads each piece from the origin once, and no faster than others take it.

use std::{collections::BTreeSet, time::Duration};

use shoal_blob::PieceSet;

use super::{Capacity, Output, Source, Swarm, Why, flights::Flight, pace::Pace};
use crate::Time;

/// What the seed remembers while it holds the lease.
///
/// Invariant: `sole` is the set of pieces that came from the origin and that no neighbour has; `fresh` is the part of it
/// that is not on offer or on its way to one.
#[derive(Debug)]
pub(super) struct Seeding {
    appointed_at: Time,
    /// What other members have, as the coordinator gathered it.
    elsewhere: PieceSet,
    /// No piece before this one is to be read, unless something changes: then it goes back.
    cursor: u32,
    in_flight: u32,
    /// The piece whose midstate is needed before the next one can be read: a neighbour has it.
    bridge: Option<u32>,
    sole: PieceSet,
    fresh: BTreeSet<u32>,
    pace: Pace,
    last_came: Option<Time>,
    /// Since when the limit of sole pieces holds the seed back.
    held_back_since: Option<Time>,
    /// Whether one piece may be read beyond that limit, by lost patience.
    pass: bool,
    impatience: u32,
    done: bool,
}

/// How long to wait for a second holder while the origin's pace is not known.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait at least: pieces that had come while this process stood still are told of in one moment, which says
/// nothing of the origin's pace, and no patience at all would leave the limit of sole pieces without effect.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(50);
/// How long to wait for pieces that others were said to have before they are read.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(4);

/// A seed that was held back goes on when this part of the limit is free.
const RUN: u64 = 4;

impl Seeding {
    fn new(now: Time, elsewhere: PieceSet) -> Self {
        let size = elsewhere.size();
        Self {
            appointed_at: now,
            elsewhere,
            cursor: 0,
            in_flight: 0,
            bridge: None,
            sole: PieceSet::empty(size),
            fresh: BTreeSet::new(),
            pace: Pace::default(),
            last_came: None,
            held_back_since: None,
            pass: false,
            impatience: 0,
            done: false,
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    pub(super) const fn impatience(&self) -> u32 {
        self.impatience
    }

    pub(super) const fn bridge(&self) -> Option<u32> {
        self.bridge
    }

    /// The piece that is given out next, or read next.
    pub(super) fn front(&self) -> u32 {
        self.first_fresh().unwrap_or(self.cursor)
    }

    pub(super) fn first_fresh(&self) -> Option<u32> {
        self.fresh.first().copied()
    }

    pub(super) fn offered(&mut self, piece: u32) {
        self.fresh.remove(&piece);
    }

    pub(super) fn refresh(&mut self, piece: u32) {
        if self.sole.contains(piece) {
            self.fresh.insert(piece);
        }
    }

    /// A neighbour has the piece now.
    pub(super) fn copied(&mut self, piece: u32) {
        self.sole.remove(piece);
        self.fresh.remove(&piece);
    }

    pub(super) fn stored(&mut self, now: Time, piece: u32, from: Source, copied: bool) {
        if from != Source::Origin {
            return;
        }
        if let Some(before) = self.last_came.replace(now) {
            self.pace.learn(now.since(before));
        }
        if !copied {
            self.sole.insert(piece);
            self.fresh.insert(piece);
        }
    }

    /// A piece that was passed over, because it was to come from there, comes from there no longer.
    pub(super) fn missed(&mut self, piece: u32, from: Source) {
        if from == Source::Origin {
            self.in_flight -= 1;
        }
        self.cursor = self.cursor.min(piece);
    }

    /// A piece that was to come from the origin has come, from there or before it from elsewhere.
    pub(super) const fn landed(&mut self) {
        self.in_flight -= 1;
    }

    fn patience(&self, pieces: u32) -> Duration {
        self.pace.median().map_or(FIRST_PATIENCE, |median| (median * pieces).max(SHORTEST_PATIENCE))
    }
}

impl Swarm {
    pub(super) fn appoint(&mut self, now: Time, elsewhere: PieceSet) {
        let says = elsewhere.size() == self.have.size();
        let elsewhere = if says { elsewhere } else { PieceSet::none_of(&self.layout) };
        match &mut self.seeding {
            // The same lease under another coordinator, which may know nothing of who has what.
            Some(seeding) if !says => seeding.done = false,
            Some(seeding) => {
                seeding.elsewhere = elsewhere;
                seeding.cursor = 0;
                seeding.done = false;
            }
            None => {
                let mut seeding = Seeding::new(now, elsewhere);
                for piece in self.have.iter().filter(|&piece| self.copies[piece as usize] == 0) {
                    seeding.sole.insert(piece);
                    seeding.fresh.insert(piece);
                }
                self.seeding = Some(seeding);
            }
        }
    }

    pub(super) fn dismiss(&mut self, capacity: &mut Capacity) {
        if self.seeding.take().is_some() {
            let pieces = self.flights.remove_all(Source::Origin);
            if !pieces.is_empty() {
                self.outputs.push_back(Output::CancelOrigin);
            }
            for piece in pieces {
                capacity.release(&self.digest, self.bytes_of(piece), Source::Origin);
            }
        }
    }

    /// Who has what has changed otherwise than by a Have: look at all pieces again.
    pub(super) fn holders_changed(&mut self) {
        let Some(seeding) = &mut self.seeding else { return };
        seeding.cursor = 0;
        let mut copied = PieceSet::none_of(&self.layout);
        for neighbour in self.neighbours.values().filter(|neighbour| !neighbour.doubted()) {
            copied.union_with(&neighbour.have);
        }
        let sole = seeding.sole.iter();
        let gone: Vec<u32> = sole.filter(|&piece| copied.contains(piece) || !self.have.contains(piece)).collect();
        for piece in gone {
            seeding.copied(piece);
        }
        for piece in self.have.beyond(&copied, 0) {
            if seeding.sole.insert(piece) {
                seeding.fresh.insert(piece);
            }
        }
    }

    /// Whether another member is there to take pieces.
    fn has_company(&self) -> bool {
        self.neighbours.values().any(|neighbour| neighbour.greeted && neighbour.wants && !neighbour.have.is_full())
    }

    pub(super) fn read_origin(&mut self, now: Time, capacity: &mut Capacity) {
        if self.seeding.is_none() {
            return;
        }
        let company = self.has_company();
        let piece_bytes = u64::from(self.layout.piece_bytes());
        while let Some(number) = self.next_from_origin() {
            let Some(seeding) = &mut self.seeding else { return };
            let asked = u64::from(seeding.in_flight + 1) * piece_bytes;
            if seeding.in_flight > 0 && asked > self.settings.origin_in_flight {
                return;
            }
            let alone = u64::from(seeding.in_flight + seeding.sole.held());
            // Once held back it waits for more room than a small piece's, so that it reads in runs and not piece by piece.
            let run = if seeding.held_back_since.is_some() { self.settings.sole_bytes / RUN } else { 0 };
            let beyond = company && alone > 0 && alone * piece_bytes + run.max(piece_bytes) > self.settings.sole_bytes;
            if beyond && !seeding.pass {
                seeding.held_back_since.get_or_insert(now);
                return;
            }
            let bytes = self.bytes_of(number);
            let Some(piece) = self.layout.piece(number).filter(|_| capacity.reserve_origin(&self.digest, bytes)) else {
                return;
            };
            if let Some(seeding) = &mut self.seeding {
                seeding.in_flight += 1;
                if seeding.bridge.is_none() {
                    seeding.cursor = number + 1;
                }
                if beyond {
                    seeding.pass = false;
                } else {
                    seeding.held_back_since = None;
                }
            }
            self.flights.add(Flight::from_origin(now, number));
            self.outputs.push_back(Output::FetchOrigin { piece });
        }
        self.end_lease(company);
    }

    /// The lowest piece that nobody has, that is not on its way, and that can be hashed: the midstate before it is known,
    /// or will be when the piece before it has come from the origin too. Where a neighbour has that piece, it must come
    /// from there first.
    fn next_from_origin(&mut self) -> Option<u32> {
        let seeding = self.seeding.as_mut()?;
        if !self.wants || seeding.done {
            return None;
        }
        let doubted = self.neighbours.values().filter(|neighbour| neighbour.doubted()).count();
        let mut at = seeding.cursor;
        let mut blocked = None;
        let found = loop {
            let Some(piece) = self.have.first_missing(at) else {
                at = self.have.size();
                break None;
            };
            let held = usize::from(self.copies[piece as usize]) > doubted
                || self.neighbours.values().any(|neighbour| !neighbour.doubted() && neighbour.have.contains(piece));
            let elsewhere = held || seeding.elsewhere.contains(piece);
            if elsewhere || self.flights.comes(piece) {
                at = piece + 1;
            } else if self.chain.contains(piece) || self.flights.comes_from_origin(piece - 1) {
                at = piece;
                break Some(piece);
            } else {
                blocked.get_or_insert(piece);
                // What follows cannot be read either, up to the next piece before which the midstate is known.
                let known = self.chain_end > piece;
                let next = known.then(|| self.chain.beyond(&self.have, piece + 1).next()).flatten();
                at = next.unwrap_or(self.have.size());
            }
        };
        seeding.cursor = blocked.unwrap_or(at);
        seeding.bridge = blocked.map(|piece| piece - 1);
        found
    }

    fn end_lease(&mut self, company: bool) {
        let Some(seeding) = &mut self.seeding else { return };
        let read = self.have.is_full() || !self.wants;
        if !seeding.done && read && seeding.in_flight == 0 && (!company || seeding.sole.is_empty()) {
            seeding.done = true;
            self.outputs.push_back(Output::LeaseDone);
        }
    }

    pub(super) fn seed_patience(&self) -> Option<(Time, Why)> {
        let seeding = self.seeding.as_ref()?;
        let held_back = seeding.held_back_since.map(|since| since + seeding.patience(self.settings.patience));
        let waiting = !seeding.elsewhere.is_empty() && !self.have.is_full();
        let elsewhere = waiting.then(|| self.progress_at.max(seeding.appointed_at) + ELSEWHERE_PATIENCE);
        held_back.into_iter().chain(elsewhere).min().map(|at| (at, Why::SeedPatience))
    }

    pub(super) fn lose_patience(&mut self, now: Time) {
        let pieces = self.settings.patience;
        let Some(seeding) = &mut self.seeding else { return };
        if seeding.held_back_since.is_some_and(|since| since + seeding.patience(pieces) <= now) {
            seeding.held_back_since = Some(now);
            seeding.pass = true;
            seeding.impatience += 1;
        }
        // Those who were said to have the rest have not come: it is read after all.
        let quiet_since = self.progress_at.max(seeding.appointed_at);
        if !seeding.elsewhere.is_empty() && now.since(quiet_since) >= ELSEWHERE_PATIENCE {
            seeding.elsewhere = PieceSet::none_of(&self.layout);
            seeding.cursor = 0;
        }
    }
}

#[cfg(test)]
mod tests;
