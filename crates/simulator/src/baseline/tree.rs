//! A static tree, as in Dragonfly: each node has its parents, and keeps them.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use shoal_blob::PieceSet;

use super::crowd::{Crowd, Plan, SEED};
use crate::{Scenario, network::NodeIndex};

/// Parents a node has, where there are so many before it.
const PARENTS: usize = 3;
/// Children a node takes.
const CHILDREN: usize = 3;
/// Pieces that a node pulls at a time.
const OPEN: u32 = 4;

/// All nodes, in the order in which they came.
#[derive(Debug)]
pub(super) struct Tree {
    parents: Vec<Vec<NodeIndex>>,
    children: Vec<Vec<NodeIndex>>,
    /// By node: what its parents have got, the first piece first; some of it may have been asked for since.
    offers: Vec<BinaryHeap<Reverse<u32>>>,
    /// By node: what it has or has asked for.
    claimed: Vec<PieceSet>,
    open: Vec<u32>,
}

impl Tree {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let nodes = scenario.nodes as usize;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(scenario.seed);
        let (mut parents, mut children) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
        let mut free = vec![SEED];
        for node in SEED + 1..scenario.nodes {
            let (chosen, _) = free.partial_shuffle(&mut rng, PARENTS);
            let chosen = chosen.to_vec();
            for &parent in &chosen {
                children[parent as usize].push(node);
            }
            parents[node as usize] = chosen;
            free.retain(|&parent| children[parent as usize].len() < CHILDREN);
            free.push(node);
        }
        let mut claimed = vec![PieceSet::empty(scenario.pieces); nodes];
        claimed[SEED as usize] = PieceSet::full(scenario.pieces);
        Self { parents, children, offers: vec![BinaryHeap::new(); nodes], claimed, open: vec![0; nodes] }
    }

    /// Asks for as much as a node may pull at a time.
    fn ask(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex) {
        let at = node as usize;
        while self.open[at] < OPEN {
            let Some(Reverse(piece)) = self.offers[at].pop() else { return };
            if self.claimed[at].contains(piece) {
                continue;
            }
            let having = self.parents[at].iter().filter(|&&parent| crowd.held(parent).contains(piece));
            let Some(&parent) = having.min_by_key(|&&parent| crowd.queue(parent)) else { return };
            self.claimed[at].insert(piece);
            self.open[at] += 1;
            crowd.send(parent, node, piece);
        }
    }
}

impl Plan for Tree {
    fn stored(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex, piece: u32, of: Option<NodeIndex>) {
        if of.is_some() {
            self.open[node as usize] -= 1;
            self.ask(crowd, node);
        }
        for at in 0..self.children[node as usize].len() {
            let child = self.children[node as usize][at];
            if !self.claimed[child as usize].contains(piece) {
                self.offers[child as usize].push(Reverse(piece));
                self.ask(crowd, child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children_and_take_so_many() {
        let tree = Tree::new(&Scenario::flash(100, 1));
        for (node, parents) in tree.parents.iter().enumerate().skip(1) {
            assert!(parents.iter().all(|&parent| (parent as usize) < node));
            assert!(!parents.is_empty() && parents.len() <= PARENTS);
        }
        assert!(tree.children.iter().all(|children| children.len() <= CHILDREN));
    }
}
