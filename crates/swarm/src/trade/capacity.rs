//! What all swarms of a node share: the slots of its uplink, and the bytes on their way in.

use std::{collections::VecDeque, time::Duration};

use shoal_blob::Digest;

/// The node's own limits, lent to one swarm at a time.
///
/// Invariant: `open` is the number of slots that swarms hold, `inflow` the bytes they have reserved and not released.
#[derive(Debug)]
pub struct Capacity {
    streams: u32,
    open: u32,
    /// Bytes a second that the uplink was seen to carry while busy.
    rate: f64,
    rtt: Duration,
    inflow: u64,
    inflow_limit: u64,
    /// Swarms that wanted a slot when none was free, in turn.
    waiting: VecDeque<(Digest, u32)>,
}

/// However large the bandwidth-delay product, no more slots than this are open.
const MOST_SLOTS: u32 = 32;
/// How many more a seed's offers may take.
pub const MORE_OFFERS: u32 = 3;

impl Capacity {
    /// `streams` uploads side by side fill the uplink; `inflow_limit` bytes may be on their way in, over all swarms.
    #[must_use]
    pub const fn new(streams: u32, inflow_limit: u64) -> Self {
        Self { streams, open: 0, rate: 0.0, rtt: Duration::ZERO, inflow: 0, inflow_limit, waiting: VecDeque::new() }
    }

    /// How many slots may be open for pieces of that size: `S + 1 + ceil(2 RTT u / s)`, so that the next request is here
    /// when the last byte leaves, also when somebody passes. A round trip counts as part of a piece before any was seen.
    #[must_use]
    pub fn slots(&self, piece_bytes: u32) -> u32 {
        let on_the_way = (2.0 * self.rtt.as_secs_f64() * self.rate / f64::from(piece_bytes)).ceil();
        (self.streams + 1 + (on_the_way as u32).max(1)).min(MOST_SLOTS)
    }

    /// The bytes on their way in.
    #[must_use]
    pub const fn inflow(&self) -> u64 {
        self.inflow
    }

    /// Changes the limit of bytes on their way in; what is under way stays.
    pub const fn set_inflow_limit(&mut self, bytes: u64) {
        self.inflow_limit = bytes;
    }

    /// The swarm whose turn it is to take a slot, if one is free. Call after every input, until there is none.
    pub fn next_turn(&mut self) -> Option<Digest> {
        let (digest, piece_bytes) = *self.waiting.front()?;
        if self.open >= self.slots(piece_bytes) {
            return None;
        }
        self.waiting.pop_front();
        Some(digest)
    }

    /// Forgets a swarm that has ended.
    pub fn forget(&mut self, digest: &Digest) {
        self.waiting.retain(|(waiting, _)| waiting != digest);
    }

    /// Takes a slot if one is free and nobody has waited longer; otherwise the swarm waits its turn.
    pub(super) fn take_slot(&mut self, digest: &Digest, piece_bytes: u32) -> bool {
        self.take_slot_of(digest, self.slots(piece_bytes), piece_bytes)
    }

    /// The same for the offer of a piece that nobody else has: the whole fleet waits for the seed's uplink, which must find
    /// something to send also while those it has offered something are busy.
    pub(super) fn take_slot_for_offer(&mut self, digest: &Digest, piece_bytes: u32) -> bool {
        self.take_slot_of(digest, self.slots(piece_bytes) + MORE_OFFERS, piece_bytes)
    }

    fn take_slot_of(&mut self, digest: &Digest, slots: u32, piece_bytes: u32) -> bool {
        let nobody_before = self.waiting.front().is_none_or(|(first, _)| first == digest);
        if self.open < slots && nobody_before {
            self.forget(digest);
            self.open += 1;
            return true;
        }
        if !self.waiting.iter().any(|(waiting, _)| waiting == digest) {
            self.waiting.push_back((*digest, piece_bytes));
        }
        false
    }

    pub(super) fn free_slot(&mut self) {
        debug_assert!(self.open > 0, "a slot is freed once");
        self.open = self.open.saturating_sub(1);
    }

    /// What an upload has shown of the uplink. Smoothed over about eight uploads.
    pub(super) fn learn(&mut self, bytes: u64, span: Duration, rtt: Duration) {
        let seen = f64::from(self.streams) * bytes as f64 / span.as_secs_f64().max(1e-6);
        self.rate = if self.rate == 0.0 { seen } else { self.rate + (seen - self.rate) / 8.0 };
        self.rtt = if self.rtt.is_zero() { rtt } else { (self.rtt * 7 + rtt) / 8 };
    }

    /// Reserves room for bytes on their way in. One piece is always let through, however small the limit.
    pub(super) const fn reserve(&mut self, bytes: u64) -> bool {
        let fits = self.inflow == 0 || self.inflow + bytes <= self.inflow_limit;
        if fits {
            self.inflow += bytes;
        }
        fits
    }

    pub(super) fn release(&mut self, bytes: u64) {
        debug_assert!(self.inflow >= bytes, "what is released was reserved");
        self.inflow = self.inflow.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest::Sha256([1; 32]);
    const B: Digest = Digest::Sha256([2; 32]);
    const PIECE: u32 = 1 << 20;

    #[test]
    fn slots_go_round() {
        let mut capacity = Capacity::new(1, 0);
        assert!((0..3).all(|_| capacity.take_slot(&A, PIECE)));
        assert!(!capacity.take_slot(&B, PIECE));
        assert!(!capacity.take_slot(&A, PIECE));
        assert_eq!(capacity.next_turn(), None);
        capacity.free_slot();
        assert!(!capacity.take_slot(&A, PIECE), "B has waited longer");
        assert!(capacity.take_slot(&B, PIECE));
        capacity.free_slot();
        assert_eq!(capacity.next_turn(), Some(A));
    }

    #[test]
    fn slots_grow_with_bandwidth_times_delay() {
        let mut capacity = Capacity::new(1, 0);
        assert_eq!(capacity.slots(PIECE), 3);
        capacity.learn(u64::from(PIECE), Duration::from_millis(10), Duration::from_millis(20));
        assert_eq!(capacity.slots(PIECE), 2 + 4);
    }

    #[test]
    fn one_piece_always_fits() {
        let mut capacity = Capacity::new(1, 10);
        assert!(capacity.reserve(100));
        assert!(!capacity.reserve(1));
        capacity.release(100);
        assert!(capacity.reserve(6) && capacity.reserve(4) && !capacity.reserve(1));
    }
}
