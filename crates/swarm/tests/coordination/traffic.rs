//! What the nodes of the pretended network do with a lease and with their neighbours: the bytes, in short.

use shoal_proto::coordination::Returned;
use shoal_swarm::{Time, coordination::MemberInput};

use super::net::{Net, PIECES, STEP, ms};

impl Net {
    /// Seeds read on; members copy from their neighbours.
    pub(crate) fn step(&mut self) {
        for node in self.seeds() {
            let reads = ((self.now.since(Time::ZERO).as_millis() / STEP.as_millis()) as u64).is_multiple_of(self.pause);
            for _ in 0..if reads { self.rate.0 } else { 0 } {
                let Some((_, elsewhere)) = &self.nodes[node].seeding else { break };
                let held = &self.nodes[node].held;
                let next = (0..PIECES).find(|piece| !held.contains(*piece) && !elsewhere.contains(*piece));
                let Some(piece) = next else { break };
                self.read[piece as usize] += 1;
                self.nodes[node].held.insert(piece);
                self.check_complete(node);
            }
            let Some((_, elsewhere)) = &self.nodes[node].seeding else { continue };
            let mine = &self.nodes[node].held;
            let copied = |piece| self.nodes.iter().filter(|n| n.alive && n.held.contains(piece)).count() > 1;
            let done = (0..PIECES).all(|piece| elsewhere.contains(piece) || (mine.contains(piece) && copied(piece)));
            let alone = self.nodes.iter().filter(|n| n.alive && n.wants).count() <= 1 && self.complete(node);
            if done || alone {
                self.nodes[node].seeding = None;
                self.tell_member(node, MemberInput::LeaseReturned(Returned::Done));
            }
        }
        for node in 0..self.nodes.len() {
            if !self.nodes[node].alive || !self.nodes[node].wants || self.complete(node) {
                continue;
            }
            for other in self.nodes[node].neighbours.clone() {
                let other = self.by_id[&other];
                if !self.reaches(node, other) || !self.nodes[other].gives {
                    continue;
                }
                let theirs = self.nodes[other].held.clone();
                let missing: Vec<_> =
                    theirs.iter().filter(|piece| !self.nodes[node].held.contains(*piece)).take(self.rate.1).collect();
                if !missing.is_empty() {
                    self.nodes[node].fed = self.now;
                }
                for piece in missing {
                    self.nodes[node].held.insert(piece);
                }
            }
            self.check_complete(node);
            let seeds = self.nodes[node].seeding.is_some();
            if !seeds && !self.complete(node) && self.now.since(self.nodes[node].fed) > ms(2000) {
                self.nodes[node].fed = self.now;
                self.tell_member(node, MemberInput::Orphaned);
            }
        }
    }

    fn check_complete(&mut self, node: usize) {
        if self.complete(node) && self.nodes[node].wants {
            self.nodes[node].wants = false;
            self.tell_member(node, MemberInput::Completed);
            let closest = *self.nodes[node].view.iter().next().unwrap();
            self.announce(node, closest);
        }
    }
}
