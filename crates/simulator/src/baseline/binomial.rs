//! The binomial pipeline on a hypercube (P. Ganesan and M. Seshadri, *On Cooperative Content Distribution and the Price of
//! Barter*, 2005): as fast as whole pieces can be, when everybody is equal and nothing goes wrong.
//!
//! The nodes stand at the corners of a hypercube of as many dimensions as it takes, the seed alone at its corner. In round
//! `t` all exchange along dimension `t mod L`: each corner sends the last piece that it has and the other lacks; the seed
//! has one piece more in each round. For a number of nodes that is no power of two, some corners are shared by two, which
//! are as one to the others: in a round the one sends out what the pair has to send, while the other takes in what comes,
//! and gives the first an earlier piece that it lacks. So each node sends at most one piece in a round and gets at most one.
//!
//! A round begins when all pieces of the one before have arrived, and the seed has read what it is to send.

use shoal_blob::PieceSet;

use super::crowd::{Crowd, Plan, SEED};
use crate::{Scenario, network::NodeIndex};

/// One piece that a node sends in a round.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: NodeIndex,
    to: NodeIndex,
    piece: u32,
}

/// The round that is under way.
#[derive(Debug)]
pub(super) struct Pipeline {
    rounds: Rounds,
    /// What is to be sent next; nothing at the end.
    next: Vec<Step>,
    /// What has not arrived.
    open: usize,
}

impl Pipeline {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut rounds = Rounds::new(scenario);
        Self { next: rounds.next(), rounds, open: 0 }
    }
}

impl Plan for Pipeline {
    fn stored(&mut self, crowd: &mut Crowd<'_>, _: NodeIndex, _: u32, of: Option<NodeIndex>) {
        self.open -= usize::from(of.is_some());
        if self.open == 0 && self.next.iter().all(|step| crowd.held(step.from).contains(step.piece)) {
            let round = std::mem::take(&mut self.next);
            self.open = round.len();
            self.next = self.rounds.next();
            for Step { from, to, piece } in round {
                crowd.send(from, to, piece);
            }
        }
    }
}

/// The rounds, one after another.
#[derive(Debug)]
struct Rounds {
    dimensions: u32,
    pieces: u32,
    round: u32,
    /// By corner: its nodes, one or two.
    corners: Vec<Vec<NodeIndex>>,
    /// By node.
    held: Vec<PieceSet>,
}

impl Rounds {
    fn new(scenario: &Scenario) -> Self {
        let dimensions = scenario.nodes.ilog2();
        let corners = 1 << dimensions;
        // The first to be shared is the last corner: the seed's never is, as there are less than twice as many nodes.
        let second = |corner: u32| Some(2 * corners - 1 - corner).filter(|&node| node < scenario.nodes);
        Self {
            dimensions,
            pieces: scenario.pieces,
            round: 0,
            corners: (0..corners).map(|corner| std::iter::once(corner).chain(second(corner)).collect()).collect(),
            held: vec![PieceSet::empty(scenario.pieces); scenario.nodes as usize],
        }
    }

    /// What is sent in the next round; nothing when all have all.
    fn next(&mut self) -> Vec<Step> {
        if self.round < self.pieces {
            self.held[SEED as usize].insert(self.round);
        }
        let across = if self.dimensions == 0 { 0 } else { 1 << (self.round % self.dimensions) };
        let unions: Vec<PieceSet> = self.corners.iter().map(|corner| self.union(corner)).collect();
        let sends: Vec<Option<u32>> =
            (0..unions.len()).map(|corner| self.last_lacking(&unions[corner], &unions[corner ^ across])).collect();
        let senders: Vec<Option<NodeIndex>> =
            sends.iter().zip(&self.corners).map(|(piece, corner)| self.sender(corner, (*piece)?)).collect();
        let mut steps = Vec::new();
        for (at, corner) in self.corners.iter().enumerate() {
            // What comes goes to the one that does not send, or else to the one that has less.
            let comes = sends[at ^ across].zip(senders[at ^ across]);
            let others = corner.iter().copied().filter(|&node| corner.len() == 1 || senders[at] != Some(node));
            let receiver = others.min_by_key(|&node| self.held[node as usize].held());
            let busy = comes.and_then(|(piece, from)| {
                let to = receiver?;
                steps.push(Step { from, to, piece });
                Some(to)
            });
            if let &[one, two] = corner.as_slice() {
                for (from, to) in [(one, two), (two, one)] {
                    if senders[at] != Some(from)
                        && busy != Some(to)
                        && let Some(piece) = self.first_lacking(from, to)
                    {
                        steps.push(Step { from, to, piece });
                    }
                }
            }
        }
        for step in &steps {
            self.held[step.to as usize].insert(step.piece);
        }
        self.round += 1;
        steps
    }

    fn union(&self, corner: &[NodeIndex]) -> PieceSet {
        let mut union = PieceSet::empty(self.pieces);
        for &node in corner {
            union.union_with(&self.held[node as usize]);
        }
        union
    }

    /// The last piece that the ones have and the others lack.
    fn last_lacking(&self, ones: &PieceSet, others: &PieceSet) -> Option<u32> {
        if !others.lacks_any_of(ones) {
            return None;
        }
        (0..self.pieces.min(self.round + 1)).rev().find(|&piece| ones.contains(piece) && !others.contains(piece))
    }

    /// The first piece that one has and the other lacks.
    fn first_lacking(&self, one: NodeIndex, other: NodeIndex) -> Option<u32> {
        let (one, other) = (&self.held[one as usize], &self.held[other as usize]);
        if other.lacks_any_of(one) { one.iter().find(|&piece| !other.contains(piece)) } else { None }
    }

    /// Which node of a corner sends a piece: of two that have it, the one that has less, and is given something meanwhile.
    fn sender(&self, corner: &[NodeIndex], piece: u32) -> Option<NodeIndex> {
        let having = corner.iter().copied().filter(|&node| self.held[node as usize].contains(piece));
        having.min_by_key(|&node| self.held[node as usize].held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(nodes: u32, pieces: u32) -> u32 {
        let mut rounds = Rounds::new(&Scenario::flash(nodes, pieces));
        while !rounds.next().is_empty() {}
        assert!(rounds.held.iter().all(PieceSet::is_full));
        rounds.round - 1
    }

    #[test]
    fn a_power_of_two_takes_as_many_rounds_as_nobody_can_beat() {
        for dimensions in 1..8 {
            assert_eq!(count(1 << dimensions, 50), 50 - 1 + dimensions);
        }
    }

    #[test]
    fn any_other_number_takes_two_more_at_most() {
        for nodes in 3_u32..130 {
            let rounds = count(nodes, 50);
            assert!(rounds <= 50 - 1 + nodes.next_power_of_two().ilog2() + 2, "{nodes} nodes: {rounds}");
        }
    }

    #[test]
    fn nobody_sends_or_gets_two_pieces_in_a_round_or_what_it_has() {
        let mut rounds = Rounds::new(&Scenario::flash(23, 40));
        loop {
            let (before, round) = (rounds.held.clone(), rounds.round);
            let steps = rounds.next();
            if steps.is_empty() {
                break;
            }
            for step in &steps {
                let read = step.from == SEED && step.piece == round;
                assert!(read || before[step.from as usize].contains(step.piece));
                assert!(!before[step.to as usize].contains(step.piece));
            }
            for node in 0..23 {
                assert!(steps.iter().filter(|step| step.from == node).count() <= 1);
                assert!(steps.iter().filter(|step| step.to == node).count() <= 1);
            }
        }
    }
}
