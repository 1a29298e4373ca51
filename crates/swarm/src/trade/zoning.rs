//! Which pieces this node may bring into its zone.
//!
//! A link between zones is dear: each piece should cross it once. Every member ranks its zone's importers for each piece in
//! the same way, by the highest random weight (Thaler and Ravishankar 1998); the first may take the piece from abroad at once,
//! the second when the first has had time to, and in the end anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::seq::IndexedRandom;
use shoal_proto::NodeId;

use super::{Capacity, Swarm, neighbour::Neighbour};
use crate::Time;

/// What is known of the zone.
///
/// Invariant: `mine` is the part of `seen` that this node has to bring in.
#[derive(Debug, Default)]
pub(super) struct Zoning {
    importers: Vec<NodeId>,
    /// When a neighbour abroad was first seen to have a piece that this node lacks.
    seen: BTreeMap<u32, Time>,
    mine: BTreeSet<u32>,
}

impl Zoning {
    pub(super) fn set(&mut self, me: NodeId, importers: Vec<NodeId>) {
        self.importers = importers;
        self.mine = self.seen.keys().copied().filter(|&piece| self.rank(me, piece) == 0).collect();
    }

    /// Whether pieces may not just come from anywhere.
    pub(super) fn is_on(&self) -> bool {
        !self.importers.is_empty()
    }

    /// A neighbour abroad has a piece that this node lacks.
    fn saw(&mut self, now: Time, me: NodeId, piece: u32) {
        if self.seen.contains_key(&piece) {
            return;
        }
        self.seen.insert(piece, now);
        if self.rank(me, piece) == 0 {
            self.mine.insert(piece);
        }
    }

    pub(super) fn stored(&mut self, piece: u32) {
        self.seen.remove(&piece);
        self.mine.remove(&piece);
    }

    /// How many importers come before this node for a piece.
    fn rank(&self, me: NodeId, piece: u32) -> usize {
        let mine = weight(me, piece);
        let others =
            self.importers.iter().filter(|&&importer| importer != me && weight(importer, piece) > mine).count();
        if self.importers.contains(&me) { others } else { self.importers.len() }
    }
}

/// A number that looks random and is the same on all nodes. The mixing is that of splitmix64 (Steele, Lea and Flood 2014).
fn weight(node: NodeId, piece: u32) -> u64 {
    let head = node.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut mixed = head ^ u64::from(piece).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Swarm {
    /// A neighbour abroad has these pieces.
    pub(super) fn look_abroad(&mut self, now: Time, pieces: &[u32]) {
        for &piece in pieces.iter().filter(|&&piece| !self.have.contains(piece)) {
            self.zoning.saw(now, self.me, piece);
        }
    }

    /// Asks for the pieces that this node has to bring in, as far as it has room, and one at a time of each neighbour abroad:
    /// nobody there knows which these are.
    pub(super) fn call_abroad(&mut self, now: Time, capacity: &Capacity) {
        if !self.wants || self.zoning.mine.is_empty() {
            return;
        }
        let asked = self.neighbours.values().filter(|neighbour| neighbour.asked_at.is_some()).count();
        let mut room = self.most_in_flight(capacity).saturating_sub(self.flights.picked() + asked);
        for window in self.readers.windows(&self.have, self.settings.window) {
            let pieces: Vec<u32> = self.zoning.mine.range(window).copied().collect();
            for piece in pieces {
                if room == 0 {
                    return;
                }
                if self.flights.expects(piece) || !self.may_import(now, piece) {
                    continue;
                }
                let idle = |neighbour: &Neighbour| {
                    let sound = neighbour.abroad && !neighbour.shut_out(now) && !neighbour.doubted();
                    sound && neighbour.have.contains(piece) && neighbour.asked_at.is_none()
                };
                let holders = self.neighbours.iter().filter(|(_, neighbour)| idle(neighbour)).map(|(node, _)| *node);
                let holders: Vec<NodeId> = holders.collect();
                let Some(&node) = holders.choose(&mut self.rng) else { continue };
                if let Some(neighbour) = self.neighbours.get_mut(&node) {
                    neighbour.asked_at = Some(now);
                }
                self.call(now, node, piece);
                room -= 1;
            }
        }
    }

    /// When somebody else abroad may be asked, where those who were do not answer.
    pub(super) fn next_call_abroad(&self) -> Option<Time> {
        if self.zoning.mine.is_empty() {
            return None;
        }
        let patience = self.import_patience();
        self.neighbours.values().filter_map(|neighbour| Some(neighbour.asked_at? + patience)).min()
    }

    /// Those who do not answer are not waited for.
    pub(super) fn expire_calls_abroad(&mut self, now: Time) {
        let patience = self.import_patience();
        for neighbour in self.neighbours.values_mut() {
            neighbour.asked_at = neighbour.asked_at.filter(|&at| now < at + patience);
        }
    }

    fn import_patience(&self) -> Duration {
        self.deadlines().0
    }

    /// Whether a piece may be taken from a neighbour abroad.
    pub(super) fn may_import(&self, now: Time, piece: u32) -> bool {
        // The zone has it: it will come from there.
        if self.neighbours.values().any(|neighbour| !neighbour.abroad && neighbour.have.contains(piece)) {
            return false;
        }
        let [second, anybody] = self.settings.import_after;
        let waits = match self.zoning.rank(self.me, piece) {
            0 => return true,
            1 => second,
            _ => anybody,
        };
        let usual = self.pace.median().unwrap_or(self.settings.first_deadline);
        self.zoning.seen.get(&piece).is_some_and(|since| now.since(*since) >= usual * waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_agree_on_the_rank_and_share_the_work() {
        let nodes: Vec<NodeId> = (1..=16).map(|n| NodeId::from_bytes([n * 13; 32])).collect();
        let mut first = BTreeMap::new();
        let zoning = Zoning { importers: nodes.clone(), ..Zoning::default() };
        for piece in 0..1600 {
            let mut ranks: Vec<(usize, NodeId)> = nodes.iter().map(|&node| (zoning.rank(node, piece), node)).collect();
            ranks.sort_unstable();
            assert!(ranks.iter().map(|(rank, _)| *rank).eq(0..16));
            *first.entry(ranks[0].1).or_insert(0) += 1;
        }
        assert!(first.values().all(|&share| (50..200).contains(&share)), "{first:?}");
        assert_eq!(zoning.rank(NodeId::from_bytes([9; 32]), 1), 16, "one that is none comes last");
    }
}
