//! What neighbours are told: what has come, what is gone.
//!
//! News rides along with what is said anyway: a Slot needs it to be answered, a Take or Pass tells the uploader what it
//! need not offer. Only to those that nothing is said to does it go alone, after a while.

use std::{collections::VecDeque, ops::Range};

use shoal_blob::PieceSet;
use shoal_proto::{
    NodeId,
    trade::{MAX_BATCH, Message},
};

use super::Swarm;
use crate::Time;

/// Pieces in the order in which they came.
///
/// Invariant: `pieces` has those numbered `first..first + pieces.len()`; whoever was told fewer than `first` is told by his
/// next Hello.
#[derive(Debug, Default)]
pub(super) struct News {
    pieces: VecDeque<u32>,
    first: u64,
    /// When all are told who were not told in passing.
    due: Option<Time>,
}

/// With no more pieces on their way than this, a node has room that nobody fills.
const IDLE: usize = 0;

impl News {
    pub(super) const fn due(&self) -> Option<Time> {
        self.due
    }

    /// The number that somebody has been told who knows everything.
    pub(super) fn told_all(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    fn since(&self, told: u64) -> impl Iterator<Item = u32> + '_ {
        self.pieces.iter().skip(usize::try_from(told.saturating_sub(self.first)).unwrap_or(usize::MAX)).copied()
    }
}

impl Swarm {
    pub(super) fn learn_chain(&mut self, boundaries: Range<u32>) {
        let pieces = self.layout.count();
        for boundary in boundaries.start..boundaries.end.min(self.chain.size()) {
            if self.chain.insert(boundary) && boundary < pieces {
                self.chain_end = self.chain_end.max(boundary);
            }
        }
    }

    pub(super) fn forget_chain(&mut self) {
        let pieces = self.layout.count();
        self.chain = PieceSet::empty(pieces + 1);
        self.chain.insert(0);
        self.chain.insert(pieces);
        self.chain_end = 0;
    }

    /// A piece has come to rest here: it is news for the neighbours.
    pub(super) fn note_news(&mut self, now: Time, piece: u32) {
        let idle = self.slots.uploading() <= self.settings.streams as usize;
        for neighbour in self.neighbours.values_mut() {
            if !neighbour.have.contains(piece) {
                neighbour.lacks += 1;
                // Whatever it passed on has come to it meanwhile, or it may want this, and the uplink runs dry.
                if neighbour.lacks == 1 || idle {
                    neighbour.barred_until = None;
                }
            }
        }
        self.news.pieces.push_back(piece);
        let gathered = match self.pace.median() {
            // One that gets nothing has to be heard of: whoever it passed thinks that it has no room.
            Some(median) if !self.have.is_full() && self.flights.awaited() > IDLE => {
                self.settings.batch.max(median * self.settings.batch_pieces)
            }
            _ => self.settings.batch,
        };
        let due = now + gathered;
        self.news.due = Some(self.news.due.map_or(due, |before| before.min(due)));
        if self.news.pieces.len() >= MAX_BATCH {
            self.announce();
        }
    }

    /// Tells a neighbour what it has not been told yet, and then this.
    pub(super) fn say_with_news(&mut self, to: NodeId, message: Message) {
        self.tell_news(to);
        self.say(to, message);
    }

    pub(super) fn tell_news(&mut self, to: NodeId) {
        let all = self.news.told_all();
        let queue = u16::try_from(self.flights.count() + self.slots.uploading()).unwrap_or(u16::MAX);
        let Some(neighbour) = self.neighbours.get_mut(&to).filter(|neighbour| neighbour.told < all) else { return };
        let mut pieces: Vec<u32> = self.news.since(neighbour.told).filter(|&piece| self.have.contains(piece)).collect();
        neighbour.told = all;
        pieces.sort_unstable();
        if !pieces.is_empty() {
            self.say(to, Message::Have { pieces, queue });
        }
    }

    /// Tells everybody.
    pub(super) fn announce(&mut self) {
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for node in nodes {
            self.tell_news(node);
        }
        self.news.first = self.news.told_all();
        self.news.pieces.clear();
        self.news.due = None;
    }

    pub(super) fn lost(&mut self, pieces: &[u32]) {
        let gone: Vec<u32> = pieces.iter().copied().filter(|&piece| self.have.remove(piece)).collect();
        for neighbour in self.neighbours.values_mut() {
            neighbour.lacks -= gone.iter().filter(|&&piece| !neighbour.have.contains(piece)).count() as u32;
        }
        self.readers.lost();
        let nodes: Vec<NodeId> = self.neighbours.keys().copied().collect();
        for batch in gone.chunks(MAX_BATCH) {
            for &node in &nodes {
                self.say(node, Message::Lost { pieces: batch.to_vec() });
            }
        }
        self.holders_changed();
    }
}
