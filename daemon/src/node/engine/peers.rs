//! The data plane: who is connected, whom to dial, and what neighbours say.

use shoal_blob::Digest;
use shoal_proto::{NodeId, coordination::Neighbour, trade::Message};
use shoal_swarm::{coordination::MemberInput, trade::Input};
use shoal_transfer::{Event, Peer};

use super::{Engine, pursuit::Stage};
use crate::node::mailbox::Told;

impl Engine {
    pub(super) fn apply_transfer(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Connected(peer)) => self.connected(peer),
            Some(Event::Message { from, letter }) => {
                for message in letter.messages {
                    self.hear(from, letter.digest, message);
                }
            }
            Some(Event::Piece(incoming)) => self.take(incoming),
            Some(Event::Disconnected { node, why }) => {
                tracing::debug!(peer = %node, %why, "a peer is disconnected");
                self.disconnected(node);
            }
            Some(Event::Refused { addr, node, why }) => {
                tracing::warn!(%addr, ?node, %why, "somebody was not admitted to the data plane");
            }
            None => {}
        }
        self.settle();
    }

    fn connected(&mut self, peer: Peer) {
        let node = peer.node();
        self.dialling.remove(&node);
        self.peers.insert(node, peer);
        let shared: Vec<Digest> = self
            .pursuits
            .values()
            .filter(|pursuit| pursuit.neighbours.contains_key(&node))
            .map(|pursuit| pursuit.digest)
            .collect();
        for digest in shared {
            self.meet(digest, node);
        }
    }

    fn disconnected(&mut self, node: NodeId) {
        self.peers.remove(&node);
        let digests: Vec<Digest> = self.pursuits.keys().copied().collect();
        for digest in digests {
            if let Some(body) = self.body_mut(&digest) {
                body.book.forget(node);
                body.expected.retain(|(_, from)| *from != node);
            }
            self.tell_swarm(digest, Input::Parted { node });
        }
    }

    /// Begins to trade with a neighbour, if it is connected and the blob is open.
    pub(super) fn meet(&mut self, digest: Digest, node: NodeId) {
        if let Some(peer) = self.peers.get(&node) {
            let rtt = peer.rtt();
            self.tell_swarm(digest, Input::Met { node, rtt });
        }
    }

    /// The coordinator named the neighbours to trade with.
    pub(super) fn neighbours_named(&mut self, digest: Digest, neighbours: Vec<Neighbour>) {
        let me = self.key.id();
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        let nodes: Vec<NodeId> = neighbours.iter().map(|neighbour| neighbour.node).filter(|node| *node != me).collect();
        let named = neighbours.into_iter().filter(|neighbour| neighbour.node != me).map(|n| (n.node, n)).collect();
        let before = std::mem::replace(&mut pursuit.neighbours, named);
        for node in before.into_keys().filter(|node| !nodes.contains(node)) {
            self.part_from(digest, node);
        }
        for node in nodes {
            self.meet(digest, node);
        }
        self.redial();
    }

    /// A neighbour is one no longer: what is said to many costs more than it brings.
    fn part_from(&mut self, digest: Digest, node: NodeId) {
        if let Some(body) = self.body_mut(&digest) {
            body.expected.retain(|(_, from)| *from != node);
        }
        self.tell_swarm(digest, Input::Left { node });
    }

    /// Dials every neighbour that is not connected.
    pub(super) fn redial(&mut self) {
        let Some(planes) = &self.planes else { return };
        if self.draining {
            return;
        }
        for neighbour in self.pursuits.values().flat_map(|pursuit| pursuit.neighbours.values()) {
            let node = neighbour.node;
            if self.peers.contains_key(&node) || !self.dialling.insert(node) {
                continue;
            }
            let mut addresses = neighbour.addresses.clone();
            addresses.extend(planes.discovery.addresses(node));
            let (endpoint, mailbox) = (planes.endpoint.clone(), self.mailbox.clone());
            tokio::spawn(async move {
                if let Err(error) = endpoint.connect(node, &addresses).await {
                    tracing::warn!(peer = %node, ?addresses, %error, "a neighbour cannot be reached");
                    mailbox.tell(Told::Unreached { node });
                }
            });
        }
    }

    /// A neighbour says something about a blob.
    pub(super) fn hear(&mut self, from: NodeId, digest: Digest, message: Message) {
        if !self.pursuits.contains_key(&digest) {
            if !matches!(message, Message::Hello(_)) {
                return;
            }
            // A newcomer wants a blob that only rests here.
            if self.draining || self.store.blob(&digest).is_none() {
                self.say(from, digest, Message::Bye);
                return;
            }
            self.pursue(digest);
            self.admit(digest);
        }
        let now = self.clock.now();
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        match &mut pursuit.stage {
            Stage::Seeking if self.store.blob(&digest).is_some() => {
                pursuit.keep_early(from, message);
                self.admit(digest);
            }
            Stage::Seeking | Stage::Admitting => pursuit.keep_early(from, message),
            Stage::Open(body) => match message {
                Message::Grant(grant) => {
                    self.learn_grant(digest, &grant);
                    self.tell_member(digest, MemberInput::GrantSeen(*grant));
                }
                message => {
                    if matches!(message, Message::Hello(_)) {
                        // Whoever greets may have let the blob go since, and with it the grants that it was told of.
                        body.book.forget(from);
                        if !body.swarm.has_left(now, &from) {
                            self.meet(digest, from);
                        }
                    }
                    self.tell_swarm(digest, Input::Heard { from, message });
                }
            },
        }
    }
}
