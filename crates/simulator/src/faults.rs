//! What goes wrong, and how the nodes notice.

use std::time::Duration;

use rand::{RngExt, seq::SliceRandom};
use shoal_blob::PieceSet;

use crate::{
    checks::COST_OF_DEATH,
    fleet::{Event, Fleet},
    network::NodeIndex,
    scenario::{What, When, Whom},
};

/// A connection on the data plane ends when nothing has come for so long.
const IDLE: Duration = Duration::from_secs(10);
/// One that does nothing for so long, in milliseconds, may be taken for dead: its lease can end in that time.
const MISTAKEN_FOR_DEAD: u64 = 1000;
/// A machine that is gone is missed on the control plane after so long.
const MISSED: Duration = Duration::from_secs(15);

impl Fleet<'_> {
    pub(crate) fn enter_fault(&mut self, at: usize) {
        // Those that wait for the seed's progress are looked at when it reads.
        if let When::At(ms) = self.scenario.faults[at].when {
            self.agenda.enter(self.begun + Duration::from_millis(ms), Event::FaultAt(at));
        }
    }

    /// A piece has been read from the origin: faults that were waiting for it come.
    pub(crate) fn watch_reading(&mut self) {
        let read = self.origin.read.held();
        for at in 0..self.scenario.faults.len() {
            let When::Read(percent) = self.scenario.faults[at].when else { continue };
            if read == (self.layout.count() * percent).div_ceil(100).max(1) && self.origin.came_to(read) {
                self.agenda.enter(self.now, Event::FaultAt(at));
            }
        }
    }

    pub(crate) fn fault_at(&mut self, at: usize) {
        let fault = self.scenario.faults[at];
        let seed = (0..self.scenario.nodes).find(|&node| self.nodes[node as usize].lease.is_some());
        let coordinator = (0..self.scenario.nodes).find(|&node| self.nodes[node as usize].alive);
        let whom: Vec<NodeIndex> = match fault.whom {
            Whom::Seed => seed.into_iter().collect(),
            Whom::Coordinator => coordinator.into_iter().collect(),
            Whom::Node(node) => vec![node.min(self.scenario.nodes - 1)],
            Whom::All => (0..self.scenario.nodes).collect(),
            Whom::Percent(percent, within) => {
                let mut others: Vec<NodeIndex> =
                    (0..self.scenario.nodes).filter(|&node| Some(node) != seed && Some(node) != coordinator).collect();
                others.shuffle(&mut self.rng);
                others.truncate((self.scenario.nodes * percent / 100) as usize);
                for &node in &others {
                    let when = self.spread(0, within);
                    self.agenda.enter(when, Event::Fault { node, what: fault.what });
                }
                return;
            }
        };
        if let What::Parted(span) = fault.what {
            return self.part(span);
        }
        for node in whom {
            self.fault(node, fault.what);
        }
    }

    pub(crate) fn fault(&mut self, node: NodeIndex, what: What) {
        if !self.nodes[node as usize].alive {
            return;
        }
        match what {
            What::Dies { silent, back } => self.die(node, silent, back),
            What::Hangs(span) => {
                self.note("hangs", node, node, u32::MAX);
                if span >= MISTAKEN_FOR_DEAD {
                    self.lost(node);
                }
                self.nodes[node as usize].hit = true;
                self.nodes[node as usize].hangs_until = self.now + Duration::from_millis(span);
            }
            What::Slows(percent) => {
                self.nodes[node as usize].slow = true;
                let part = |rate: u64| (rate * u64::from(percent) / 100).max(1);
                self.network.set_rates(node, part(self.scenario.up), part(self.scenario.down));
            }
            What::Parted(span) => self.part(span),
        }
    }

    /// What this node alone has may have to be read again: of a seed what the limit of sole pieces lets it have, and what
    /// others had from it that are gone.
    fn lost(&mut self, node: NodeIndex) {
        let seeds = self.nodes[node as usize].lease.is_some();
        self.deaths[0] += u32::from(seeds);
        self.deaths[1] += 1;
        let mut alone = self.nodes[node as usize].held().clone();
        if alone.size() == 0 {
            return;
        }
        let mut at_seed = PieceSet::empty(alone.size());
        for (other, index) in self.nodes.iter().zip(0..) {
            if index == node || !other.alive || other.hangs_until > self.now || other.held().size() == 0 {
                continue;
            }
            let both: Vec<u32> = alone.iter().filter(|&piece| other.held().contains(piece)).collect();
            for piece in both {
                if other.lease.is_some() && !seeds {
                    at_seed.insert(piece);
                } else {
                    alone.remove(piece);
                }
            }
        }
        // The limit of sole pieces is for those that have company.
        if seeds && self.nodes[node as usize].neighbours() == 0 {
            let read = alone.held() + self.nodes[node as usize].reading.len() as u32;
            let limit = COST_OF_DEATH / u64::from(self.layout.piece_bytes());
            self.died_out += read.saturating_sub(limit as u32);
        }
        for piece in alone.iter() {
            if at_seed.contains(piece) {
                self.bereft.insert(piece);
            } else if !seeds || self.bereft.contains(piece) {
                self.died_out += 1;
            }
        }
    }

    fn die(&mut self, node: NodeIndex, silent: bool, back: Option<u64>) {
        self.note("dies", node, node, u32::MAX);
        self.lost(node);
        self.stop_reading(node);
        let this = &mut self.nodes[node as usize];
        this.hit = true;
        let peers: Vec<NodeIndex> = this.peers.keys().copied().collect();
        let life = this.life;
        self.awaits_no_more(node);
        for &peer in &peers {
            let event = Event::Disconnected { nodes: [peer, node], lives: [self.life(peer), life] };
            self.agenda.enter(self.now + IDLE, event);
        }
        for token in self.network.withdraw_all(node) {
            self.free_uploads.push(token);
        }
        let this = &mut self.nodes[node as usize];
        let held = this.held().clone();
        this.dies();
        let life = this.life;
        for piece in held.iter() {
            self.curve.copies[piece as usize] -= 1;
        }
        let notice = if silent { MISSED } else { 2 * self.network.latency() };
        for other in 0..self.scenario.nodes {
            if self.nodes[other as usize].view.contains(&node) {
                let at = self.now + notice + Duration::from_micros(self.rng.random_range(0..5000));
                self.agenda.enter(at, Event::Gone { node: other, gone: node, life });
            }
        }
        if let Some(back) = back {
            self.awaits(node);
            self.agenda.enter(self.now + Duration::from_millis(back), Event::Back(node));
        }
    }

    pub(crate) fn back(&mut self, node: NodeIndex) {
        self.note("back", node, node, u32::MAX);
        let (now, seed) = (self.now, self.rng.random());
        let this = &mut self.nodes[node as usize];
        this.restarts(now, seed, self.trade.streams);
        let held = this.disk.clone();
        for piece in held.iter() {
            self.curve.copies[piece as usize] += 1;
        }
        if held.size() > 0 && held.is_full() {
            self.awaits_no_more(node);
            // It serves what it has when it is asked.
            return self.meet_again(node);
        }
        self.meet_again(node);
        self.wants(node);
    }

    fn meet_again(&mut self, node: NodeIndex) {
        self.sees(node, u32::MAX);
        for other in 0..self.scenario.nodes {
            let near = self.nodes[node as usize].view.contains(&other);
            if near && self.reaches(node, other) && self.nodes[other as usize].view.insert(node) {
                let live = self.nodes[other as usize].view.iter();
                let live = live.filter(|&&third| self.reaches(other, third)).map(|&third| self.id(third)).collect();
                self.tell_coordinator(other, shoal_swarm::coordination::Input::View { live });
            }
        }
    }

    fn part(&mut self, span: u64) {
        self.note("parted", 0, 1, u32::MAX);
        (self.parted, self.sides_changed) = (true, self.now);
        self.agenda.enter(self.now + Duration::from_millis(span), Event::Healed);
        for node in 0..self.scenario.nodes {
            let cut = |other: &NodeIndex| !self.reaches(node, *other);
            let peers = self.nodes[node as usize].peers.iter().filter(|(other, _)| cut(other));
            // Which of its lives the connection leads to: it may have died since.
            let peers: Vec<(NodeIndex, u32)> = peers.map(|(&other, peer)| (other, peer.life)).collect();
            let view: Vec<NodeIndex> = self.nodes[node as usize].view.iter().copied().filter(cut).collect();
            for (peer, life) in peers {
                let event = Event::Disconnected { nodes: [node, peer], lives: [self.life(node), life] };
                self.agenda.enter(self.now + IDLE, event);
            }
            for gone in view {
                let at = self.now + MISSED;
                self.agenda.enter(at, Event::Gone { node, gone, life: self.life(gone) });
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.note("healed", 0, 1, u32::MAX);
        (self.parted, self.sides_changed) = (false, self.now);
        for node in 0..self.scenario.nodes {
            if self.nodes[node as usize].alive {
                self.sees(node, u32::MAX);
                self.dial(node);
            }
        }
    }
}
