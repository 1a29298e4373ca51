//! Which pieces this node may bring into its zone.
//!
//! A link between zones is dear: each piece should cross it once. Every member ranks its zone's importers for each piece in
//! the same way, by the highest random weight (Thaler and Ravishankar 1998); the first may take the piece from abroad at once,
//! the second when the first has had time to, and in the end anybody.

use std::collections::BTreeMap;

use shoal_proto::{NodeId, trade::Message};

use super::Swarm;
use crate::Time;

/// What is known of the zone.
#[derive(Debug, Default)]
pub(super) struct Zoning {
    importers: Vec<NodeId>,
    /// When a neighbour abroad was first seen to have a piece that this node lacks.
    seen: BTreeMap<u32, Time>,
}

impl Zoning {
    pub(super) fn set(&mut self, importers: Vec<NodeId>) {
        self.importers = importers;
    }

    /// Whether pieces may not just come from anywhere.
    pub(super) fn is_on(&self) -> bool {
        !self.importers.is_empty()
    }

    /// A neighbour abroad has a piece that this node lacks; returns whether that is news.
    fn saw(&mut self, now: Time, piece: u32) -> bool {
        if self.seen.contains_key(&piece) {
            return false;
        }
        self.seen.insert(piece, now);
        true
    }

    pub(super) fn stored(&mut self, piece: u32) {
        self.seen.remove(&piece);
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
    /// A neighbour abroad has these pieces: those that this node has to bring in, it asks for.
    pub(super) fn look_abroad(&mut self, now: Time, from: NodeId, pieces: &[u32]) {
        let mut wanted = None;
        for &piece in pieces.iter().filter(|&&piece| !self.have.contains(piece)) {
            let mine = self.zoning.saw(now, piece) && self.zoning.is_on() && self.zoning.rank(self.me, piece) == 0;
            if mine && wanted.is_none() && !self.flights.comes(piece) {
                wanted = Some(piece);
            }
        }
        if let Some(piece) = wanted {
            self.say(from, Message::Want { piece });
        }
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
        let zoning = Zoning { importers: nodes.clone(), seen: BTreeMap::new() };
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
