//! Messages on their way out: a lane for each node, so that one that does not answer holds up no other.
//!
//! Invariant: at most [`WINDOW`] messages of a lane are under way; what waits is bounded in number and in bytes.

use std::collections::{HashMap, VecDeque};

use libp2p::request_response::OutboundRequestId;
use shoal_proto::NodeId;

/// How many messages to one node may be under way.
pub(crate) const WINDOW: usize = 32;
const MOST_WAITING: usize = 8192;
const MOST_BYTES: usize = 32 << 20;

#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Vec<u8>>,
}

/// All lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<NodeId, Lane>,
    requests: HashMap<OutboundRequestId, NodeId>,
    waiting: usize,
    bytes: usize,
}

impl Lanes {
    /// Queues a frame. Gives it back when too much waits already.
    pub(crate) fn push(&mut self, to: NodeId, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.waiting >= MOST_WAITING || self.bytes + frame.len() > MOST_BYTES {
            return Err(frame);
        }
        self.waiting += 1;
        self.bytes += frame.len();
        self.lanes.entry(to).or_default().waiting.push_back(frame);
        Ok(())
    }

    /// The next frame that may leave to a node.
    pub(crate) fn pop(&mut self, to: NodeId) -> Option<Vec<u8>> {
        let lane = self.lanes.get_mut(&to).filter(|lane| lane.under_way < WINDOW)?;
        let frame = lane.waiting.pop_front()?;
        self.waiting -= 1;
        self.bytes -= frame.len();
        Some(frame)
    }

    pub(crate) fn left(&mut self, to: NodeId, request: OutboundRequestId) {
        self.lanes.entry(to).or_default().under_way += 1;
        self.requests.insert(request, to);
    }

    /// A request has ended, well or not. Returns whose it was.
    pub(crate) fn ended(&mut self, request: OutboundRequestId) -> Option<NodeId> {
        let node = self.requests.remove(&request)?;
        if let Some(lane) = self.lanes.get_mut(&node) {
            lane.under_way -= 1;
        }
        self.tidy(node);
        Some(node)
    }

    /// Drops what waits for a node that cannot be reached. Returns how many messages that was.
    pub(crate) fn give_up(&mut self, node: NodeId) -> usize {
        let Some(lane) = self.lanes.get_mut(&node) else { return 0 };
        let dropped = std::mem::take(&mut lane.waiting);
        self.waiting -= dropped.len();
        self.bytes -= dropped.iter().map(Vec::len).sum::<usize>();
        self.tidy(node);
        dropped.len()
    }

    fn tidy(&mut self, node: NodeId) {
        if self.lanes.get(&node).is_some_and(|lane| lane.under_way == 0 && lane.waiting.is_empty()) {
            self.lanes.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_given_up_whole() {
        let (a, b) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut lanes = Lanes::default();
        let big = || vec![0; MOST_BYTES / 4];
        for _ in 0..4 {
            lanes.push(a, big()).unwrap();
        }
        assert!(lanes.push(b, vec![0]).is_err());
        assert!(lanes.pop(b).is_none());
        assert_eq!(lanes.pop(a).map(|frame| frame.len()), Some(MOST_BYTES / 4));
        assert_eq!(lanes.give_up(a), 3);
        for _ in 0..MOST_WAITING {
            lanes.push(b, vec![0]).unwrap();
        }
        assert!(lanes.push(b, vec![0]).is_err());
        assert_eq!(lanes.give_up(b), MOST_WAITING);
        assert!(lanes.lanes.is_empty());
    }
}
