//! The invariants of a run: looked at where something happens, and over the whole fleet now and then.

use std::time::Duration;

use shoal_proto::trade::Message;
use shoal_swarm::{
    coordination::Member,
    trade::{MORE_OFFERS, Swarm},
};

use crate::{fleet::Fleet, network::NodeIndex, scenario::Begin};

/// Leases of two sides that have met must have come down to one after so long.
const MET: Duration = Duration::from_secs(20);
/// A node is woken at most so often in one moment.
const MOST_WOKEN: u32 = 1000;
/// What a seed's death may cost of the origin, in bytes.
pub(crate) const COST_OF_DEATH: u64 = 64 << 20;

impl Fleet<'_> {
    /// No piece is announced that is not stored.
    pub(crate) fn check_said(&mut self, node: NodeIndex, message: &Message) {
        let held = self.nodes[node as usize].held();
        let stray = match message {
            Message::Have { pieces, .. } => pieces.iter().copied().find(|&piece| !held.contains(piece)),
            Message::Hello(hello) => hello.have.iter().find(|&piece| !held.contains(piece)),
            Message::Offer { piece, .. } => Some(*piece).filter(|&piece| !held.contains(piece)),
            _ => None,
        };
        if let Some(piece) = stray {
            self.broke(format!("node {node} announces piece {piece}, which it does not have"));
        }
    }

    /// Only who holds a lease reads the origin.
    pub(crate) fn check_may_read(&mut self, node: NodeIndex) {
        let until = self.nodes[node as usize].member.as_ref().and_then(Member::seeds_until);
        if until.is_none_or(|until| until <= self.now) {
            self.broke(format!("node {node} reads the origin without a lease"));
        }
    }

    /// Never two valid leases in one connected fleet.
    pub(crate) fn check_leases(&mut self, node: NodeIndex) {
        if self.now.since(self.sides_changed) < MET && self.sides_changed > self.begun {
            return;
        }
        if self.nodes[node as usize].member.as_ref().and_then(Member::seeds_until).is_none_or(|until| until <= self.now)
        {
            return;
        }
        let other = (0..self.scenario.nodes).find(|&other| {
            let this = &self.nodes[other as usize];
            let until = this.member.as_ref().and_then(Member::seeds_until);
            other != node && self.reaches(node, other) && this.lease.is_some() && until.is_some_and(|at| at > self.now)
        });
        if let Some(other) = other {
            self.broke(format!("nodes {node} and {other} both hold the lease"));
        }
    }

    /// No deadline is named that cannot be met: time would stand still, and a real node's core be taken.
    pub(crate) fn check_woken(&mut self, node: NodeIndex) {
        let (at, times) = &mut self.nodes[node as usize].woken;
        *times = if *at == self.now { *times + 1 } else { 0 };
        *at = self.now;
        if *times > MOST_WOKEN {
            self.broke(format!("node {node} wants to be woken at once, again and again"));
        }
    }

    /// So many slots the node may open now.
    pub(crate) fn count_slots(&mut self, node: NodeIndex) {
        let piece_bytes = self.layout.piece_bytes();
        let this = &mut self.nodes[node as usize];
        let more = if this.lease.is_some() { MORE_OFFERS } else { 0 };
        this.most_slots = this.most_slots.max(this.capacity.slots(piece_bytes) + more);
    }

    /// Uploads never exceed the slots. Those that were opened while there were more of them, by a seed or when the uplink
    /// seemed to be faster, may be taken and run on: nobody promised to close them.
    pub(crate) fn check_uploads(&mut self, node: NodeIndex) {
        self.count_slots(node);
        let this = &self.nodes[node as usize];
        let slots = this.most_slots;
        let running = this.swarm.as_ref().map_or(0, |swarm| swarm.state().uploading);
        if running > slots {
            self.broke(format!("node {node} has {running} uploads in {slots} slots"));
        }
    }

    /// What the origin may have sent by now.
    pub(crate) fn promise(&self) -> u64 {
        let sides = if self.sides_changed > self.begun { 2 } else { 1 };
        // What only those had that died, and what they had just been given and nobody had heard of.
        let unheard_of = 2 * self.deaths[1].saturating_sub(self.deaths[0]);
        let lost = u64::from(self.died_out + unheard_of) * u64::from(self.layout.piece_bytes());
        // Where messages are lost or nodes fail, leases lapse: the piece that is being sent then is sent in vain, and what is on
        // the wire.
        let trouble = self.scenario.loss > 0.0 || !self.scenario.faults.is_empty();
        let wire = self.scenario.reading_rate() * 2 * self.scenario.latency_us / 1_000_000;
        let in_vain = u64::from(self.layout.piece_bytes()) + wire;
        let lapsed = if trouble { u64::from(self.lapses) * in_vain } else { 0 };
        // Nodes that know nobody yet may be granted a lease each.
        let cold = if self.scenario.begin == Begin::Cold { COST_OF_DEATH } else { 0 };
        self.layout.length() * sides + u64::from(self.deaths[0]) * COST_OF_DEATH + lost + lapsed + cold
    }

    /// The whole fleet.
    pub(crate) fn sweep(&mut self) {
        if self.origin.sent > self.promise() {
            let (sent, promise) = (self.origin.sent, self.promise());
            self.broke(format!("the origin has sent {sent} bytes of at most {promise}"));
        }
        for node in 0..self.scenario.nodes {
            let this = &self.nodes[node as usize];
            if this.lease.is_some() {
                self.check_leases(node);
            }
            let this = &self.nodes[node as usize];
            let Some(state) = this.swarm.as_ref().map(Swarm::state) else { continue };
            let most = 2 * (this.capacity.slots(self.layout.piece_bytes()) + 4);
            let origin = this.reading.len() as u32;
            if state.in_flight > most + origin {
                self.broke(format!("node {node} has {} pieces on their way, of {most}", state.in_flight));
            }
        }
    }

    pub(crate) fn sample(&mut self) {
        let whole = self.nodes.iter().filter(|node| node.alive && node.held().size() > 0 && node.held().is_full());
        let complete = whole.count() as u32;
        self.curve.sample(self.now.since(self.begun).as_secs_f64(), complete);
    }
}
