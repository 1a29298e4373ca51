//! Who trades with whom: a random graph in which nearly all members have the same number of links.
//!
//! A newcomer takes links where others have some to spare, its own zone first, two at least outside it. Where nobody has,
//! it steps into existing ones: a-b becomes a-newcomer-b, which keeps everybody's number and cuts nobody off.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};
use shoal_proto::NodeId;

use super::{seats::Seats, settings::Settings};

/// How many members in a row are looked at for one link before the search is given up.
const LOOK: usize = 32;

/// Gives a member its links. Returns the others whose links have changed.
pub(super) fn link(seats: &mut Seats, node: NodeId, settings: &Settings, rng: &mut impl Rng) -> BTreeSet<NodeId> {
    let mut weaver = Weaver { seats, settings, rng, changed: BTreeSet::new() };
    weaver.link(node);
    weaver.changed.remove(&node);
    weaver.changed
}

/// Cuts a member off, with its seat already taken, and mends what it leaves. Returns the others whose links have changed.
pub(super) fn unlink(
    seats: &mut Seats,
    node: NodeId,
    links: &BTreeSet<NodeId>,
    settings: &Settings,
    rng: &mut impl Rng,
) -> BTreeSet<NodeId> {
    let mut weaver = Weaver { seats, settings, rng, changed: links.clone() };
    for other in links {
        if let Some(theirs) = weaver.seats.links_mut(other) {
            theirs.remove(&node);
        }
    }
    for &other in links {
        if weaver.degree(other) < settings.links * 3 / 4 {
            weaver.link(other);
        }
    }
    weaver.changed
}

struct Weaver<'a, R> {
    seats: &'a mut Seats,
    settings: &'a Settings,
    rng: &'a mut R,
    changed: BTreeSet<NodeId>,
}

impl<R: Rng> Weaver<'_, R> {
    fn degree(&self, node: NodeId) -> usize {
        self.seats.get(&node).map_or(0, |seat| seat.links.len())
    }

    fn zone(&self, node: NodeId) -> &str {
        self.seats.get(&node).map_or("", |seat| &seat.contact.zone)
    }

    fn linked(&self, one: NodeId, other: NodeId) -> bool {
        self.seats.get(&one).is_some_and(|seat| seat.links.contains(&other))
    }

    fn abroad(&self, node: NodeId) -> usize {
        let Some(seat) = self.seats.get(&node) else { return 0 };
        seat.links.iter().filter(|other| self.zone(**other) != seat.contact.zone).count()
    }

    /// Whether half of its links lead abroad: the others are for its own zone, also for members that are yet to come.
    fn is_worldly(&self, node: NodeId) -> bool {
        self.seats.zones().len() > 1 && self.abroad(node) >= self.settings.links / 2
    }

    /// Whether too few of its links stay in its zone. The first of a zone is where all others link into it: without links
    /// at home it could pass on nothing that it brings in.
    fn lacks_home(&self, node: NodeId) -> bool {
        self.degree(node) - self.abroad(node) < self.settings.links / 2
    }

    fn leads_to(&self, node: NodeId, zone: &str) -> bool {
        self.seats.get(&node).is_some_and(|seat| seat.links.iter().any(|other| self.zone(*other) == zone))
    }

    fn join(&mut self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            if let Some(links) = self.seats.links_mut(&from) {
                links.insert(to);
            }
            self.changed.insert(from);
        }
    }

    fn cut(&mut self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            if let Some(links) = self.seats.links_mut(&from) {
                links.remove(&to);
            }
            self.changed.insert(from);
        }
    }

    fn link(&mut self, node: NodeId) {
        // Who has no seat gets no links, however often it is tried.
        if self.seats.get(&node).is_none() {
            return;
        }
        let zone = self.zone(node).to_owned();
        let want = self.settings.links.min(self.seats.len().saturating_sub(1));
        let foreign = self.seats.zones().len().saturating_sub(1);
        let importer = self.seats.get(&node).is_some_and(|seat| seat.importer);
        let abroad =
            if importer { foreign.min(want / 2).max(self.settings.links_abroad) } else { self.settings.links_abroad };
        while foreign > 0 && self.abroad(node) < abroad {
            let Some(other) = self.spare_abroad(node, &zone) else { break };
            self.join(node, other);
        }
        for within in [Some(&zone), None] {
            while self.degree(node) < want && (within.is_some() || !self.is_worldly(node)) {
                let Some(other) = self.spare(node, within) else { break };
                self.join(node, other);
            }
            // Nobody there has a link to spare: step into those that are there.
            for _ in 0..2 * want {
                if self.degree(node) + 1 < want && (within.is_some() || !self.is_worldly(node)) {
                    self.splice(node, within);
                }
            }
        }
    }

    fn random_name(&mut self) -> NodeId {
        NodeId::from_bytes(self.rng.random())
    }

    /// A random member with a link to spare, in one zone or anywhere.
    fn spare(&mut self, node: NodeId, zone: Option<&String>) -> Option<NodeId> {
        let from = self.random_name();
        let fits = |other: &NodeId| {
            let crosses = self.zone(*other) != self.zone(node);
            *other != node
                && !self.linked(node, *other)
                && (self.degree(*other) < self.settings.most_links || !crosses && self.lacks_home(*other))
                && !(crosses && self.is_worldly(*other))
        };
        match zone {
            None => self.seats.cyclic_from(from).take(LOOK).find(fits),
            Some(zone) => {
                let members = self.seats.zones().get(zone)?;
                members.range(from..).chain(members.range(..from)).take(LOOK).copied().find(fits)
            }
        }
    }

    fn spare_abroad(&mut self, node: NodeId, home: &str) -> Option<NodeId> {
        let count = self.seats.zones().len();
        let start = self.rng.random_range(0..count);
        let mut zones: Vec<String> = self
            .seats
            .zones()
            .keys()
            .cycle()
            .skip(start)
            .take(count.min(LOOK))
            .filter(|z| *z != home)
            .cloned()
            .collect();
        // First where it has no link yet.
        zones.sort_by_key(|zone| self.leads_to(node, zone));
        zones.iter().find_map(|zone| self.spare(node, Some(zone))).or_else(|| {
            // Every link abroad is taken: one more there is better than a zone that is cut off.
            if self.abroad(node) >= self.settings.links_abroad {
                return None;
            }
            let from = self.random_name();
            let there = zones.iter().filter_map(|zone| {
                let members = self.seats.zones().get(zone)?;
                members.range(from..).chain(members.range(..from)).copied().find(|other| !self.linked(node, *other))
            });
            there.min_by_key(|other| self.degree(*other))
        })
    }

    /// Puts the member between two that are linked and of which one, at least, is in the zone.
    fn splice(&mut self, node: NodeId, zone: Option<&String>) {
        let from = self.random_name();
        let one = match zone {
            None => self.seats.cyclic_from(from).find(|other| *other != node),
            Some(zone) => self.seats.zones().get(zone).and_then(|members| {
                members.range(from..).chain(members.range(..from)).find(|other| **other != node).copied()
            }),
        };
        let Some(one) = one else { return };
        let from = self.random_name();
        let Some(seat) = self.seats.get(&one) else { return };
        let Some(&other) = seat.links.range(from..).chain(seat.links.range(..from)).next() else { return };
        let taken = other == node || self.linked(node, one) || self.linked(node, other);
        let crosses = self.zone(one) != self.zone(other);
        let needed = crosses && [one, other].iter().any(|end| self.abroad(*end) <= self.settings.links_abroad);
        let leads_abroad = crosses && zone.is_some();
        if !taken && !needed && !leads_abroad {
            self.cut(one, other);
            self.join(one, node);
            self.join(node, other);
        }
    }
}
