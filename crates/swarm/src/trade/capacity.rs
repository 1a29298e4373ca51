//! What all swarms of a node share: the slots of its uplink, and the bytes on their way in.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU64,
    time::Duration,
};

use shoal_blob::Digest;

use super::{Source, uplink::Uplink};
use crate::Time;

/// What the node's links may carry, in bytes a second; `None` is no limit but their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkLimits {
    /// Out.
    pub up: Option<NonZeroU64>,
    /// In, from neighbours; what comes from the origin is not meant.
    pub down: Option<NonZeroU64>,
}

/// The node's own limits, lent to one swarm at a time.
///
/// Invariant: `open` is the number of slots that swarms hold, `inflow` the bytes they have reserved and not released, `traded`
/// what of these comes from neighbours, `origin` what of them comes from the origin for each swarm, where that is anything.
#[derive(Debug)]
pub struct Capacity {
    streams: u32,
    open: u32,
    uplink: Uplink,
    inflow: u64,
    inflow_limit: u64,
    traded: u64,
    origin: BTreeMap<Digest, u64>,
    links: LinkLimits,
    /// Swarms that wanted a slot when none was free, in turn.
    waiting: VecDeque<(Digest, u32)>,
}

/// How many times an answer takes a slot is open without a byte of its piece on the uplink.
const ON_THE_WAY: f64 = 3.0;
/// However large the bandwidth-delay product, no more slots than this are open.
const MOST_SLOTS: u32 = 32;
/// Under a limit no more is promised, and no more is taken at a time, than passes in so long: the shortest deadline that
/// whoever waits for it has.
const SOON: Duration = Duration::from_millis(500);
/// But two pieces may always be on their way in, so that the next is there when one ends.
const LEAST_TRADED: u64 = 2;
/// Up to this limit one upload at a time fills the uplink, in bytes a second: the pause until the last byte of a piece is
/// acknowledged, on a near link, is a small part of the 40 ms that its bytes take.
const ONE_STREAM: u64 = 25_000_000;
/// On links with round trips beyond this it is not.
const NEAR: Duration = Duration::from_millis(2);
/// How many more a seed's offers may take.
pub const MORE_OFFERS: u32 = 3;

impl Capacity {
    /// `streams` uploads side by side fill the uplink; `inflow_limit` bytes may be on their way in, over all swarms.
    #[must_use]
    pub const fn new(streams: u32, inflow_limit: u64) -> Self {
        Self {
            streams,
            open: 0,
            uplink: Uplink::new(),
            inflow: 0,
            inflow_limit,
            traded: 0,
            origin: BTreeMap::new(),
            links: LinkLimits { up: None, down: None },
            waiting: VecDeque::new(),
        }
    }

    /// How many slots may be open for pieces of that size: `S + 1 + ceil(3 A u / s)`, so that the next request is here when
    /// the last byte leaves, also when somebody passes. `A` is how long answers to slots take, with all that waits before the
    /// links; it counts as part of a piece before any was seen. A slot is used for a piece only after one `A`, is free only
    /// when the last byte has been acknowledged, which is another, and of three answers one is that nothing is wanted.
    ///
    /// With a limit of the uplink no more than it serves soon: whoever is given a slot counts on it.
    #[must_use]
    pub fn slots(&self, piece_bytes: u32) -> u32 {
        self.filling(self.streams(), piece_bytes).min(self.served_soon(piece_bytes))
    }

    /// How many pieces that this node picked may be on their way to it: as many as it would have slots without a limit of its
    /// uplink.
    pub(super) fn flights(&self, piece_bytes: u32) -> u32 {
        self.filling(self.streams, piece_bytes)
    }

    fn filling(&self, streams: u32, piece_bytes: u32) -> u32 {
        let on_the_way =
            (ON_THE_WAY * self.uplink.answer().as_secs_f64() * self.rate() / f64::from(piece_bytes)).ceil();
        (streams + 1 + (on_the_way as u32).max(1)).min(MOST_SLOTS)
    }

    /// How many pieces the uplink's limit lets through soon, one at least.
    fn served_soon(&self, piece_bytes: u32) -> u32 {
        let served = self.links.up.map(|up| up.get() as f64 * SOON.as_secs_f64() / f64::from(piece_bytes));
        served.map_or(MOST_SLOTS + MORE_OFFERS, |served| (served as u32).max(1))
    }

    /// How many uploads side by side fill the uplink.
    fn streams(&self) -> u32 {
        let slow = self.links.up.is_some_and(|up| up.get() <= ONE_STREAM);
        if slow && self.uplink.rtt() <= NEAR { 1 } else { self.streams }
    }

    /// Bytes a second that the uplink carries, as far as is known.
    fn rate(&self) -> f64 {
        self.links.up.map_or(self.uplink.rate(), |up| self.uplink.rate().min(up.get() as f64))
    }

    /// Changes what the links may carry; what is under way stays.
    pub const fn set_links(&mut self, links: LinkLimits) {
        self.links = links;
    }

    /// How long it takes until all that may be on its way from neighbours is here, where the downlink has a limit.
    pub(super) fn coming(&self, piece_bytes: u32) -> Duration {
        let down = self.links.down.map(NonZeroU64::get);
        down.map_or(Duration::ZERO, |down| Duration::from_secs_f64(self.most_traded(piece_bytes) as f64 / down as f64))
    }

    /// How many bytes may be on their way from neighbours at a time: what arrives soon.
    fn most_traded(&self, piece_bytes: u32) -> u64 {
        let soon = self.links.down.map(|down| (down.get() as f64 * SOON.as_secs_f64()) as u64);
        soon.map_or(u64::MAX, |soon| soon.max(LEAST_TRADED * u64::from(piece_bytes)))
    }

    /// The bytes on their way in.
    #[must_use]
    pub const fn inflow(&self) -> u64 {
        self.inflow
    }

    /// The slots that swarms hold.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.open
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
        let slots = (self.slots(piece_bytes) + MORE_OFFERS).min(self.served_soon(piece_bytes));
        self.take_slot_of(digest, slots, piece_bytes)
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

    /// An upload begins, of a piece for somebody whose round trip is this.
    pub(super) fn upload_began(&mut self, now: Time, rtt: Duration) {
        self.uplink.reached(rtt);
        self.uplink.began(now);
    }

    /// An upload ends, or is given up: so many bytes have arrived.
    pub(super) fn upload_ended(&mut self, now: Time, bytes: u64) {
        self.uplink.ended(now, bytes);
    }

    /// A slot was answered, so long after it was given.
    pub(super) fn slot_answered(&mut self, span: Duration) {
        self.uplink.answered(span);
    }

    /// Reserves room for a piece of the origin on its way in. All that is read may have half of the limit, each swarm that reads
    /// the same part of it, and one piece in any case: a seed asks for more whenever a piece has come, and would leave nothing
    /// to others.
    pub(super) fn reserve_origin(&mut self, digest: &Digest, bytes: u64) -> bool {
        let own = self.origin.get(digest).copied().unwrap_or(0);
        let swarms = self.origin.len() as u64 + u64::from(own == 0);
        let fits = own == 0 || own + bytes <= self.inflow_limit / 2 / swarms;
        if fits {
            self.origin.insert(*digest, own + bytes);
            self.inflow += bytes;
        }
        fits
    }

    /// The same for a piece of a neighbour, of a blob whose pieces have `piece_bytes`: within the limit, but one is let through
    /// however small it is. More than the downlink brings soon would only hold up those who send it.
    pub(super) fn reserve_traded(&mut self, bytes: u64, piece_bytes: u32) -> bool {
        let has_room = self.inflow == 0 || self.inflow + bytes <= self.inflow_limit;
        let fits = has_room && self.traded + bytes <= self.most_traded(piece_bytes);
        if fits {
            self.inflow += bytes;
            self.traded += bytes;
        }
        fits
    }

    /// Gives back what was reserved for a piece from there.
    pub(super) fn release(&mut self, digest: &Digest, bytes: u64, from: Source) {
        debug_assert!(self.inflow >= bytes, "what is released was reserved");
        self.inflow = self.inflow.saturating_sub(bytes);
        match from {
            Source::Neighbour(_) => {
                debug_assert!(self.traded >= bytes, "what is released was reserved");
                self.traded = self.traded.saturating_sub(bytes);
            }
            Source::Origin => {
                let left = self.origin.get(digest).map_or(0, |own| own.saturating_sub(bytes));
                if left == 0 {
                    self.origin.remove(digest);
                } else {
                    self.origin.insert(*digest, left);
                }
            }
        }
    }

    /// The bytes on their way in from neighbours.
    pub(super) const fn traded(&self) -> u64 {
        self.traded
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
        uploads(&mut capacity, PIECE.into(), Duration::from_millis(10), Duration::from_millis(1));
        assert_eq!(capacity.slots(PIECE), 3, "nothing was answered yet");
        capacity.slot_answered(Duration::from_millis(20));
        assert_eq!(capacity.slots(PIECE), 2 + 6);
    }

    /// An upload of so many bytes, alone, to somebody so far away.
    fn uploads(capacity: &mut Capacity, bytes: u64, span: Duration, rtt: Duration) {
        capacity.upload_began(Time::ZERO, rtt);
        capacity.upload_ended(Time::after(span), bytes);
    }

    #[test]
    fn one_piece_always_fits() {
        let mut capacity = Capacity::new(1, 10);
        assert!(capacity.reserve_traded(100, PIECE));
        assert!(!capacity.reserve_traded(1, PIECE));
        assert!(capacity.reserve_origin(&A, 100));
        assert!(!capacity.reserve_origin(&A, 1));
        assert!(capacity.reserve_origin(&B, 1), "the first of another");
        capacity.release(&A, 100, NEIGHBOUR);
        capacity.release(&A, 100, Source::Origin);
        capacity.release(&B, 1, Source::Origin);
        assert!(capacity.reserve_traded(6, PIECE) && capacity.reserve_traded(4, PIECE));
        assert!(!capacity.reserve_traded(1, PIECE));
    }

    const NEIGHBOUR: Source = Source::Neighbour(shoal_proto::NodeId::from_bytes([1; 32]));

    #[test]
    fn swarms_that_read_the_origin_leave_room_to_each_other_and_to_trade() {
        let mut capacity = Capacity::new(1, 64);
        let many = |capacity: &mut Capacity, digest| (0..100).filter(|_| capacity.reserve_origin(digest, 1)).count();
        assert_eq!(many(&mut capacity, &A), 32);
        assert_eq!(many(&mut capacity, &B), 16, "what A has more than its part it gives back as its pieces come");
        (0..16).for_each(|_| capacity.release(&A, 1, Source::Origin));
        assert_eq!(many(&mut capacity, &A), 0);
        assert_eq!((0..100).filter(|_| capacity.reserve_traded(1, PIECE)).count(), 32);
        (0..16).for_each(|_| capacity.release(&B, 1, Source::Origin));
        assert_eq!(many(&mut capacity, &A), 16, "B reads no more");
    }

    const MBIT: u64 = 125_000;

    fn limited(up: u64, down: u64) -> Capacity {
        let mut capacity = Capacity::new(2, 64 << 20);
        capacity.set_links(LinkLimits { up: NonZeroU64::new(up * MBIT), down: NonZeroU64::new(down * MBIT) });
        capacity
    }

    #[test]
    fn a_capped_uplink_promises_no_more_than_it_serves_soon() {
        let offers = |mut capacity: Capacity| (0..20).filter(|_| capacity.take_slot_for_offer(&A, PIECE)).count();
        // At 10 Mbit/s a piece takes 0.8 s, at 40 a fifth of a second.
        for (mbit, streams, slots, most_offers) in
            [(0, 2, 4, 7), (10, 1, 1, 1), (40, 1, 2, 2), (200, 1, 3, 6), (1000, 2, 4, 7)]
        {
            let capacity = limited(mbit, 0);
            assert_eq!((capacity.streams(), capacity.slots(PIECE)), (streams, slots), "{mbit}");
            assert_eq!(capacity.flights(PIECE), 4, "what comes in is not capped");
            assert_eq!(offers(capacity), most_offers, "{mbit}");
        }
    }

    #[test]
    fn a_capped_uplink_counts_with_the_smaller_of_limit_and_what_was_seen() {
        let (ms, mut capacity) = (Duration::from_millis, limited(200, 0));
        // A burst went out faster than the limit.
        uploads(&mut capacity, 25_000_000, ms(100), ms(1));
        assert_eq!(capacity.rate(), 200.0 * MBIT as f64);
        // Receivers that are slow themselves.
        (0..100).for_each(|_| uploads(&mut capacity, 25_000_000, ms(10_000), ms(1)));
        assert!(capacity.rate() < 3e6, "{}", capacity.rate());
        assert_eq!(capacity.streams(), 1);
        // Far away, one at a time would leave it idle while the last byte is acknowledged.
        (0..100).for_each(|_| uploads(&mut capacity, 25_000_000, ms(1000), ms(80)));
        assert_eq!(capacity.streams(), 2);
        capacity.slot_answered(ms(80));
        assert_eq!(capacity.slots(PIECE), 2 + 1 + 6);
    }

    #[test]
    fn a_capped_downlink_takes_what_comes_soon_and_two_pieces_at_least() {
        let taken = |capacity: &mut Capacity| (0..100).filter(|_| capacity.reserve_traded(PIECE.into(), PIECE)).count();
        assert_eq!(taken(&mut limited(0, 0)), 64);
        assert_eq!(taken(&mut limited(0, 100)), 5);
        let mut capacity = limited(0, 10);
        assert_eq!(taken(&mut capacity), 2);
        assert_eq!(capacity.coming(PIECE).as_millis(), 1677);
        // What the origin sends comes over another link.
        assert!(capacity.reserve_origin(&A, PIECE.into()));
        capacity.release(&A, PIECE.into(), Source::Origin);
        assert_eq!(taken(&mut capacity), 0);
        capacity.release(&A, PIECE.into(), NEIGHBOUR);
        assert_eq!((taken(&mut capacity), capacity.inflow()), (1, 2 << 20));
        capacity.set_links(LinkLimits::default());
        assert_eq!((taken(&mut capacity), capacity.coming(PIECE)), (62, Duration::ZERO));
    }
}
