//! A static tree, as in Dragonfly: each node has its parents, and keeps them.
//!
//! The nodes come one after another, the seed first. Each gets up to three parents, at random among those before it that
//! take another child; a node takes three, as many as its uplink can feed when each child pulls a third from it. A node
//! keeps two requests open: each to the parent with the shortest queue of those that have anything it lacks, for a random
//! piece of that. So the pieces are striped over the parents, and a parent that is behind costs nothing but its part.
//!
//! Where Dragonfly leaves a choice, this is the one that suits it best with 512 nodes. With more children the uplinks near
//! the seed are short of time, with more requests open the queues are long. And when pieces are taken in order, all children
//! of a node ask it for the same ones, and have nothing to give each other: that takes nearly twice the time.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use shoal_blob::PieceSet;

use super::crowd::{Crowd, Plan, SEED};
use crate::{Scenario, network::NodeIndex};

/// Parents a node has, where there are so many before it.
const PARENTS: usize = 3;
/// Children a node takes.
const CHILDREN: usize = 3;
/// Pieces that a node pulls at a time.
const OPEN: u32 = 2;

/// What a node gets of one parent.
#[derive(Debug)]
struct Branch {
    parent: NodeIndex,
    /// What the parent has got, until it is drawn; some of it may have been asked of others since.
    offers: Vec<u32>,
}

/// All nodes, in the order in which they came.
#[derive(Debug)]
pub(super) struct Tree {
    branches: Vec<Vec<Branch>>,
    children: Vec<Vec<NodeIndex>>,
    /// By node: what it has or has asked for.
    claimed: Vec<PieceSet>,
    /// By node: how many pieces it has asked for that have not come.
    open: Vec<u32>,
    rng: Xoshiro256PlusPlus,
}

impl Tree {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let nodes = scenario.nodes as usize;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(scenario.seed);
        let (mut branches, mut children) = (vec![Vec::new()], vec![Vec::new(); nodes]);
        let mut free = vec![SEED];
        for node in SEED + 1..scenario.nodes {
            let (chosen, _) = free.partial_shuffle(&mut rng, PARENTS);
            branches.push(chosen.iter().map(|&parent| Branch { parent, offers: Vec::new() }).collect());
            for &mut parent in chosen {
                children[parent as usize].push(node);
            }
            free.retain(|&parent| children[parent as usize].len() < CHILDREN);
            free.push(node);
        }
        let mut claimed = vec![PieceSet::empty(scenario.pieces); nodes];
        claimed[SEED as usize] = PieceSet::full(scenario.pieces);
        Self { branches, children, claimed, open: vec![0; nodes], rng }
    }

    /// Asks for as much as a node may pull at a time.
    fn ask(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex) {
        let at = node as usize;
        while self.open[at] < OPEN {
            let claimed = &mut self.claimed[at];
            for branch in &mut self.branches[at] {
                branch.offers.retain(|&piece| !claimed.contains(piece));
            }
            let useful = self.branches[at].iter_mut().filter(|branch| !branch.offers.is_empty());
            let Some(branch) = useful.min_by_key(|branch| crowd.queue(branch.parent)) else { return };
            let drawn = self.rng.random_range(0..branch.offers.len());
            let piece = branch.offers.swap_remove(drawn);
            claimed.insert(piece);
            self.open[at] += 1;
            crowd.send(branch.parent, node, piece);
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
                let mut branches = self.branches[child as usize].iter_mut();
                if let Some(branch) = branches.find(|branch| branch.parent == node) {
                    branch.offers.push(piece);
                }
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
        for (node, branches) in tree.branches.iter().enumerate().skip(1) {
            assert!(branches.iter().all(|branch| (branch.parent as usize) < node));
            assert!((1..=PARENTS).contains(&branches.len()));
        }
        assert!(tree.children.iter().all(|children| children.len() <= CHILDREN));
    }
}
