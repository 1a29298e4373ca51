//! Connections between neighbours, as they come and go.

use shoal_swarm::trade::Input;

use crate::{
    fleet::{Event, Fleet},
    network::NodeIndex,
    node::Peer,
};

impl Fleet<'_> {
    /// A neighbour is one no longer.
    pub(super) fn part_from(&mut self, node: NodeIndex, other: NodeIndex) {
        self.nodes[node as usize].expected.retain(|(_, from)| *from != other);
        self.tell_swarm(node, Input::Left { node: self.id(other) });
    }

    pub(super) fn meet(&mut self, node: NodeIndex, other: NodeIndex) {
        if self.nodes[node as usize].peers.contains_key(&other) {
            let rtt = 2 * self.network.latency();
            self.tell_swarm(node, Input::Met { node: self.id(other), rtt });
        }
    }

    pub(crate) fn connected(&mut self, nodes: [NodeIndex; 2], lives: [u32; 2]) {
        let [one, other] = nodes;
        self.nodes[one as usize].dialling.remove(&other);
        if self.lives(one, other) != lives || !self.reaches(one, other) {
            return;
        }
        for (node, peer) in [(one, other), (other, one)] {
            // A connection to an earlier life gives way to the new one.
            let stale = self.nodes[node as usize].peers.get(&peer).map(|peer| peer.life);
            if let Some(life) = stale.filter(|life| *life != self.life(peer)) {
                self.disconnected([node, peer], [self.life(node), life]);
            }
            let life = self.life(peer);
            self.nodes[node as usize].peers.entry(peer).or_insert(Peer { life, ..Peer::default() });
        }
        for (node, peer) in [(one, other), (other, one)] {
            if self.nodes[node as usize].named.contains(&peer) {
                self.meet(node, peer);
            }
        }
    }

    pub(crate) fn disconnected(&mut self, [node, peer]: [NodeIndex; 2], lives: [u32; 2]) {
        let leads_to = self.nodes[node as usize].peers.get(&peer).map(|peer| peer.life);
        if self.life(node) != lives[0] || !self.nodes[node as usize].alive || leads_to != Some(lives[1]) {
            return;
        }
        let this = &mut self.nodes[node as usize];
        this.peers.remove(&peer);
        this.expected.retain(|(_, from)| *from != peer);
        self.tell_swarm(node, Input::Parted { node: self.id(peer) });
        self.dial(node);
    }

    /// Dials every named neighbour that is not connected.
    pub(crate) fn dial(&mut self, node: NodeIndex) {
        let at = self.now + 3 * self.network.latency();
        for other in self.nodes[node as usize].named.clone() {
            let this = &mut self.nodes[node as usize];
            if !this.peers.contains_key(&other) && this.dialling.insert(other) {
                let lives = self.lives(node, other);
                self.agenda.enter(at, Event::Connected { nodes: [node, other], lives });
            }
        }
    }
}
