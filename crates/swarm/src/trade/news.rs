//! What neighbours are told: the midstates, what has come, what is gone.

use std::ops::Range;

use shoal_blob::PieceSet;
use shoal_proto::{
    NodeId,
    trade::{MAX_BATCH, Message},
};

use super::{Output, Swarm};
use crate::Time;

impl Swarm {
    pub(super) fn learn_chain(&mut self, boundaries: Range<u32>, from: Option<NodeId>) {
        let mut sender = from.and_then(|node| self.neighbours.get_mut(&node));
        for boundary in boundaries.start..boundaries.end.min(self.chain.size()) {
            self.chain.insert(boundary);
            if let Some(sender) = &mut sender {
                sender.chain.insert(boundary);
            }
        }
    }

    pub(super) fn forget_chain(&mut self) {
        let pieces = self.layout.count();
        self.chain = PieceSet::empty(pieces + 1);
        self.chain.insert(0);
        self.chain.insert(pieces);
        for neighbour in self.neighbours.values_mut() {
            neighbour.chain = PieceSet::empty(pieces + 1);
        }
    }

    /// Sends a neighbour the midstates around these ascending pieces that it does not have.
    pub(super) fn send_chain(&mut self, to: NodeId, pieces: &[u32]) {
        let Some(neighbour) = self.neighbours.get_mut(&to) else { return };
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for boundary in pieces.iter().flat_map(|&piece| [piece, piece + 1]) {
            if boundary > 0 && boundary < self.layout.count() && neighbour.chain.insert(boundary) {
                match ranges.last_mut() {
                    Some(last) if last.end == boundary => last.end += 1,
                    _ => ranges.push(boundary..boundary + 1),
                }
            }
        }
        self.outputs.extend(ranges.into_iter().map(|boundaries| Output::SendChain { to, boundaries }));
    }

    /// A piece has come to rest here: it is news for the neighbours.
    pub(super) fn note_news(&mut self, now: Time, piece: u32) {
        for neighbour in self.neighbours.values_mut() {
            if !neighbour.have.contains(piece) {
                neighbour.lacks += 1;
                neighbour.barred_until = None;
            }
        }
        self.news.push(piece);
        self.announce_at.get_or_insert(now + self.settings.batch);
        if self.news.len() >= MAX_BATCH {
            self.announce();
        }
    }

    pub(super) fn announce(&mut self) {
        self.announce_at = None;
        let mut pieces = std::mem::take(&mut self.news);
        pieces.sort_unstable();
        if pieces.is_empty() {
            return;
        }
        let queue = u16::try_from(self.flights.count() + self.slots.uploading()).unwrap_or(u16::MAX);
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for node in nodes {
            self.send_chain(node, &pieces);
            self.say(node, Message::Have { pieces: pieces.clone(), queue });
        }
    }

    pub(super) fn lost(&mut self, pieces: &[u32]) {
        let gone: Vec<u32> = pieces.iter().copied().filter(|&piece| self.have.remove(piece)).collect();
        self.news.retain(|piece| !gone.contains(piece));
        for neighbour in self.neighbours.values_mut() {
            neighbour.lacks = self.have.iter().filter(|&piece| !neighbour.have.contains(piece)).count() as u32;
        }
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for batch in gone.chunks(MAX_BATCH) {
            for &node in &nodes {
                self.say(node, Message::Lost { pieces: batch.to_vec() });
            }
        }
        self.holders_changed();
    }
}
