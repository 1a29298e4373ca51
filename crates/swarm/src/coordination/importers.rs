//! Which members bring pieces into their zone.

use std::collections::BTreeMap;

use shoal_proto::{
    NodeId,
    coordination::{Importers, MAX_IMPORTERS},
};

use super::seats::Seats;

/// The importers of each zone: the first members that came, until they leave.
///
/// Invariant: each is a member of its zone. Whoever takes a seat away says so here before anything else is done.
#[derive(Debug, Default)]
pub(super) struct Imports {
    version: u64,
    zones: BTreeMap<String, Vec<NodeId>>,
}

impl Imports {
    /// A member has come. Returns whether it is an importer now and was none.
    pub(super) fn joined(&mut self, node: NodeId, zone: &str, wants: bool) -> bool {
        let list = self.zones.entry(zone.to_owned()).or_default();
        if !wants || list.len() >= MAX_IMPORTERS || list.contains(&node) {
            return false;
        }
        list.push(node);
        self.version += 1;
        true
    }

    /// A member has gone. Where it was an importer, returns who takes its place, if anybody can.
    pub(super) fn left(&mut self, node: NodeId, zone: &str, seats: &Seats) -> Option<Option<NodeId>> {
        let list = self.zones.get_mut(zone)?;
        let before = list.len();
        list.retain(|importer| *importer != node);
        if list.len() == before {
            return None;
        }
        let members = seats.zones().get(zone).into_iter().flatten();
        let next = members.copied().find(|&other| !list.contains(&other) && seats.get(&other).is_some_and(|s| s.wants));
        list.extend(next);
        if list.is_empty() {
            self.zones.remove(zone);
        }
        self.version += 1;
        Some(next)
    }

    /// Many members have gone at once: only those that still have a seat stay.
    pub(super) fn keep(&mut self, seats: &Seats) {
        self.zones.retain(|_, list| {
            list.retain(|node| seats.get(node).is_some());
            !list.is_empty()
        });
        self.version += 1;
    }

    /// Those of all zones.
    pub(super) fn all(&self) -> Vec<NodeId> {
        self.zones.values().flatten().copied().collect()
    }

    /// Those of a zone, where there are several zones.
    pub(super) fn of(&self, zone: &str, seats: &Seats) -> Option<Importers> {
        let several = seats.zones().len() > 1;
        let nodes = self.zones.get(zone).filter(|_| several)?;
        Some(Importers { version: self.version, nodes: nodes.clone() })
    }
}
