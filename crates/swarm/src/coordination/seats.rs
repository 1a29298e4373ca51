//! The members of one swarm, as its coordinator knows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use shoal_proto::{NodeId, coordination::Join};

use crate::Time;

/// How long the name of a zone may be, in bytes; the rest is cut off.
const MAX_ZONE: usize = 64;
/// How many addresses of a node are told on.
const MAX_ADDRESSES: usize = 8;

/// How a node is reached: shared by all that one message of it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) zone: String,
}

impl Contact {
    /// What a node says of itself, cut to its limits.
    pub(super) fn new(mut addresses: Vec<SocketAddr>, mut zone: String) -> Arc<Self> {
        addresses.truncate(MAX_ADDRESSES);
        addresses.shrink_to_fit();
        let cut = (0..=MAX_ZONE.min(zone.len())).rev().find(|at| zone.is_char_boundary(*at)).unwrap_or(0);
        zone.truncate(cut);
        Arc::new(Self { addresses, zone })
    }
}

/// One member.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) contact: Arc<Contact>,
    /// It wants what it has not.
    pub(super) wants: bool,
    /// It could read the origin.
    pub(super) can_seed: bool,
    /// It was refused, or did not answer: not a candidate until it has left and come again.
    pub(super) barred: bool,
    /// The blob's length in bytes, where it knows it and its visibility: to probe it costs nothing then.
    pub(super) length: Option<u64>,
    /// Pieces come into its zone through it.
    pub(super) importer: bool,
    /// It has some piece.
    pub(super) has_some: bool,
    /// It has every piece.
    pub(super) complete: bool,
    /// Its place in the order of joining.
    pub(super) order: u64,
    /// When it last joined.
    pub(super) heard: Time,
    /// With whom it trades; mutual.
    pub(super) links: BTreeSet<NodeId>,
    /// Complete holders outside the swarm that it was told of.
    pub(super) sources: Vec<NodeId>,
    /// How many members it was told that there are.
    pub(super) told_members: u32,
    /// How often in a row it found no holder although the members together have everything.
    complaints: u8,
    complained: Time,
}

/// All members of a swarm.
///
/// Invariant: `zones` has exactly the members, by their zones; the three counts are those of the seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: BTreeMap<NodeId, Seat>,
    zones: BTreeMap<String, BTreeSet<NodeId>>,
    next_order: u64,
    wanting: usize,
    having: usize,
    complete: usize,
}

impl Seats {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Whether anybody wants what he has not.
    pub(super) const fn any_wants(&self) -> bool {
        self.wanting > 0
    }

    /// Whether anybody has a piece.
    pub(super) const fn any_has(&self) -> bool {
        self.having > 0
    }

    /// Whether anybody has all.
    pub(super) const fn any_complete(&self) -> bool {
        self.complete > 0
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Seat> {
        self.seats.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Seat)> {
        self.seats.iter().map(|(node, seat)| (*node, seat))
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.seats.keys().copied().collect()
    }

    /// For what no count or zone depends on.
    pub(super) fn links_mut(&mut self, node: &NodeId) -> Option<&mut BTreeSet<NodeId>> {
        self.seats.get_mut(node).map(|seat| &mut seat.links)
    }

    pub(super) const fn zones(&self) -> &BTreeMap<String, BTreeSet<NodeId>> {
        &self.zones
    }

    /// The first member at or after a name, going round: with a random name, a random member.
    pub(super) fn cyclic_from(&self, from: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.seats.range(from..).chain(self.seats.range(..from)).map(|(node, _)| *node)
    }

    /// Seats a member, or notes what it says anew; returns whether it is new. `complete` is whether it has every piece.
    pub(super) fn join(&mut self, now: Time, node: NodeId, join: Join, complete: bool) -> bool {
        let contact = Contact::new(join.addresses, join.zone);
        let old = self.take(&node);
        let new = old.is_none();
        let mut seat = old.unwrap_or_else(|| {
            self.next_order += 1;
            Seat {
                contact: contact.clone(),
                wants: false,
                can_seed: false,
                barred: false,
                length: None,
                importer: false,
                has_some: false,
                complete: false,
                order: self.next_order,
                heard: now,
                links: BTreeSet::new(),
                sources: Vec::new(),
                told_members: 0,
                complaints: 0,
                complained: now,
            }
        });
        if *seat.contact != *contact {
            seat.contact = contact;
        }
        seat.wants = join.wants && !complete;
        seat.can_seed = join.can_seed;
        seat.length = join.length;
        seat.has_some = !join.held.is_empty();
        seat.complete = complete;
        seat.heard = now;
        self.put(node, seat);
        new
    }

    /// Takes a member away, with its links: the others still have theirs to it.
    pub(super) fn take(&mut self, node: &NodeId) -> Option<Seat> {
        let seat = self.seats.remove(node)?;
        self.wanting -= usize::from(seat.wants);
        self.having -= usize::from(seat.has_some);
        self.complete -= usize::from(seat.complete);
        if let Some(zone) = self.zones.get_mut(&seat.contact.zone) {
            zone.remove(node);
            if zone.is_empty() {
                self.zones.remove(&seat.contact.zone);
            }
        }
        Some(seat)
    }

    fn put(&mut self, node: NodeId, seat: Seat) {
        self.wanting += usize::from(seat.wants);
        self.having += usize::from(seat.has_some);
        self.complete += usize::from(seat.complete);
        self.zones.entry(seat.contact.zone.clone()).or_default().insert(node);
        self.seats.insert(node, seat);
    }

    /// Pieces come into this member's zone through it.
    pub(super) fn set_importer(&mut self, node: &NodeId) {
        if let Some(seat) = self.seats.get_mut(node) {
            seat.importer = true;
        }
    }

    /// This member will not be chosen as the seed until it has left and come again.
    pub(super) fn bar(&mut self, node: &NodeId) {
        if let Some(seat) = self.seats.get_mut(node) {
            seat.barred = true;
        }
    }

    /// Counts a complaint of a member; returns how many there are, none longer than `memory` after the one before.
    pub(super) fn complain(&mut self, now: Time, node: &NodeId, memory: Duration) -> u8 {
        self.seats.get_mut(node).map_or(0, |seat| {
            let in_a_row = if now.since(seat.complained) <= memory { seat.complaints } else { 0 };
            (seat.complaints, seat.complained) = (in_a_row.saturating_add(1), now);
            seat.complaints
        })
    }

    /// Notes how many members a member is told of.
    pub(super) fn told_members(&mut self, node: &NodeId, members: u32) {
        if let Some(seat) = self.seats.get_mut(node) {
            seat.told_members = members;
        }
    }

    /// Lets `choose` keep or change the holders that a member was told of.
    pub(super) fn with_sources(&mut self, node: &NodeId, choose: impl FnOnce(&mut Vec<NodeId>)) {
        if let Some(seat) = self.seats.get_mut(node) {
            choose(&mut seat.sources);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_cut() {
        let contact = Contact::new(vec!["10.0.0.1:1".parse().unwrap(); 100], "é".repeat(500));
        assert_eq!((contact.addresses.len(), contact.zone.len()), (8, 64));
        assert_eq!(Contact::new(vec![], format!("a{}", "é".repeat(500))).zone.len(), 63, "no half characters");
    }
}
