//! Whom a node serves, and how many at a time.

use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::trade::Hello;

use super::*;
use crate::trade::{Input, Settings};

const PIECES: u32 = 8;
const NEIGHBOURS: u8 = 6;

/// How many slots a node gives out that has so many pieces, to neighbours that have none.
fn slots_of_one_that_has(held: u32) -> usize {
    let layout = Layout::with_piece_bytes(u64::from(PIECES) << 20, 1 << 20).unwrap();
    let (me, digest) = (NodeId::from_bytes([1; 32]), Digest::Sha256([7; 32]));
    let (mut have, mut chain) = (PieceSet::empty(PIECES), PieceSet::empty(PIECES + 1));
    for piece in 0..held {
        have.insert(piece);
        chain.insert(piece + 1);
    }
    let swarm = Swarm::new(Time::ZERO, me, digest, layout, Settings::default(), String::new(), 1);
    let mut swarm = swarm.holding(have, &chain);
    let mut capacity = Capacity::new(8, 64 << 20);
    let mut tell = |input| swarm.handle(Time::ZERO, input, &mut capacity);
    tell(Input::Wants(true));
    for neighbour in 0..NEIGHBOURS {
        let node = NodeId::from_bytes([2 + neighbour; 32]);
        tell(Input::Met { node, rtt: Duration::from_millis(1) });
        let (have, zone) = (PieceSet::empty(PIECES), String::new());
        let hello = Hello { length: layout.length(), have, wants: true, zone };
        tell(Input::Heard { from: node, message: Message::Hello(hello) });
    }
    let said = std::iter::from_fn(|| swarm.poll());
    said.filter(|output| matches!(output, Output::Send { message: Message::Slot { .. }, .. })).count()
}

#[test]
fn one_that_has_few_pieces_serves_few_at_a_time() {
    let slots = [0, 1, 2, 3, PIECES].map(slots_of_one_that_has);
    assert_eq!(slots, [0, 2, 3, 4, NEIGHBOURS.into()], "as many as it has pieces and one more, and all in the end");
}
