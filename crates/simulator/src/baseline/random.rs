//! A random pull, as in Kraken: random connections, random pieces.
//!
//! The nodes, the seed among them, form a random graph in which each has ten connections (the union of five random circles,
//! in which a few coincide). A node keeps up to three requests open on each connection, for random pieces among those that
//! the neighbour has and that it has asked nobody for; uploaders serve in the order in which they were asked.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use shoal_blob::PieceSet;

use super::crowd::{Crowd, Plan, SEED};
use crate::{Scenario, network::NodeIndex};

/// Circles through all nodes, each of which gives a node two connections.
const CIRCLES: usize = 5;
/// Requests that may be open on a connection.
const OPEN: u32 = 3;

/// One node's side of a connection.
#[derive(Debug)]
struct Connection {
    to: NodeIndex,
    open: u32,
    /// What the neighbour has got, until it is drawn; some of it may have been asked of others since.
    offers: Vec<u32>,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Mesh {
    connections: Vec<Vec<Connection>>,
    /// By node: what it has or has asked for.
    claimed: Vec<PieceSet>,
    rng: Xoshiro256PlusPlus,
}

impl Mesh {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(scenario.seed);
        let mut connections: Vec<Vec<Connection>> = (0..scenario.nodes).map(|_| Vec::new()).collect();
        let mut circle: Vec<NodeIndex> = (0..scenario.nodes).collect();
        for _ in 0..CIRCLES {
            circle.shuffle(&mut rng);
            for (at, &one) in circle.iter().enumerate() {
                let other = circle[(at + 1) % circle.len()];
                if one != other && connections[one as usize].iter().all(|known| known.to != other) {
                    for (from, to) in [(one, other), (other, one)] {
                        connections[from as usize].push(Connection { to, open: 0, offers: Vec::new() });
                    }
                }
            }
        }
        let mut claimed = vec![PieceSet::empty(scenario.pieces); scenario.nodes as usize];
        claimed[SEED as usize] = PieceSet::full(scenario.pieces);
        Self { connections, claimed, rng }
    }

    fn place(&self, of: NodeIndex, to: NodeIndex) -> usize {
        self.connections[of as usize].iter().position(|connection| connection.to == to).unwrap_or_default()
    }

    /// Asks for as much as may be asked for on a connection.
    fn ask(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex, place: usize) {
        let connection = &mut self.connections[node as usize][place];
        while connection.open < OPEN && !connection.offers.is_empty() {
            let drawn = self.rng.random_range(0..connection.offers.len());
            let piece = connection.offers.swap_remove(drawn);
            if self.claimed[node as usize].insert(piece) {
                connection.open += 1;
                crowd.send(connection.to, node, piece);
            }
        }
    }
}

impl Plan for Mesh {
    fn stored(&mut self, crowd: &mut Crowd<'_>, node: NodeIndex, piece: u32, of: Option<NodeIndex>) {
        if let Some(of) = of {
            let place = self.place(node, of);
            self.connections[node as usize][place].open -= 1;
            self.ask(crowd, node, place);
        }
        for at in 0..self.connections[node as usize].len() {
            let other = self.connections[node as usize][at].to;
            if !self.claimed[other as usize].contains(piece) {
                let place = self.place(other, node);
                self.connections[other as usize][place].offers.push(piece);
                self.ask(crowd, other, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_ten_connections_or_a_few_less() {
        let mesh = Mesh::new(&Scenario::flash(200, 1));
        let counts: Vec<usize> = mesh.connections.iter().map(Vec::len).collect();
        assert!(counts.iter().all(|&count| (8..=10).contains(&count)), "{counts:?}");
        assert!(counts.iter().sum::<usize>() > 1950);
    }
}
