//! Events on their way to the owner.
//!
//! Invariant: states (view, readiness, who is unreachable) are never lost, only coalesced; messages are bounded in number
//! and in bytes, and the newest is dropped when there is no room.

use std::collections::{BTreeSet, VecDeque};

use shoal_proto::{NodeId, coordination::Coordination};

use crate::{Event, Readiness};

const MOST_BYTES: usize = 32 << 20;

/// Events that wait for room in the channel.
#[derive(Debug)]
pub(crate) struct Outbox {
    readiness: VecDeque<Readiness>,
    view: Option<Vec<NodeId>>,
    unreachable: BTreeSet<NodeId>,
    messages: VecDeque<(NodeId, Coordination, usize)>,
    bytes: usize,
    most_messages: usize,
}

impl Outbox {
    pub(crate) fn new(most_messages: usize) -> Self {
        Self {
            readiness: VecDeque::new(),
            view: None,
            unreachable: BTreeSet::new(),
            messages: VecDeque::new(),
            bytes: 0,
            most_messages,
        }
    }

    pub(crate) fn readiness(&mut self, readiness: Readiness) {
        self.readiness.push_back(readiness);
    }

    pub(crate) fn view(&mut self, live: Vec<NodeId>) {
        self.view = Some(live);
    }

    pub(crate) fn unreachable(&mut self, node: NodeId) {
        self.unreachable.insert(node);
    }

    /// Queues a message that came in with so many bytes. Returns whether there was room.
    pub(crate) fn message(&mut self, from: NodeId, message: Coordination, bytes: usize) -> bool {
        let room = self.messages.len() < self.most_messages && self.bytes + bytes <= MOST_BYTES;
        if room {
            self.bytes += bytes;
            self.messages.push_back((from, message, bytes));
        }
        room
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.readiness.is_empty() && self.view.is_none() && self.unreachable.is_empty() && self.messages.is_empty()
    }

    /// The next event. The view goes before the readiness that rests on it, and states before messages.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        if let Some(live) = self.view.take() {
            return Some(Event::View { live });
        }
        if let Some(readiness) = self.readiness.pop_front() {
            return Some(Event::Readiness(readiness));
        }
        if let Some(node) = self.unreachable.pop_first() {
            return Some(Event::Unreachable { node });
        }
        let (from, message, bytes) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some(Event::Message { from, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_blob::Digest;
    use shoal_proto::coordination::ToMember;

    #[test]
    fn states_coalesce_and_go_first_messages_are_bounded() {
        let node = NodeId::from_bytes([1; 32]);
        let message = || Coordination::ToMember(ToMember::Ask { digest: Digest::Sha256([4; 32]) });
        let mut outbox = Outbox::new(2);
        assert!(outbox.message(node, message(), 10) && outbox.message(node, message(), 10));
        assert!(!outbox.message(node, message(), 10));
        outbox.readiness(Readiness::Joined { peers: 1 });
        outbox.view(vec![]);
        outbox.view(vec![node]);
        outbox.unreachable(node);
        outbox.unreachable(node);
        let order: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
        assert!(matches!(
            &order[..],
            [Event::View { live }, Event::Readiness(_), Event::Unreachable { .. }, Event::Message { .. }, Event::Message { .. }]
                if live == &[node]
        ));
        assert!(outbox.is_empty());
        assert!(outbox.message(node, message(), MOST_BYTES) && !outbox.message(node, message(), 1));
    }
}
