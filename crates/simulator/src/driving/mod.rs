//! Driving the state machines as the daemon does: what happened goes in, what they decide is done.

mod connecting;
mod coordinating;
mod moving;
mod trading;
mod waking;

use shoal_blob::PieceSet;
use shoal_proto::{
    Visibility,
    coordination::{Coordination, Holding, Probe, ToCoordinator},
};
use shoal_swarm::{
    coordination::{Member, MemberInput, Settings},
    trade::{Input, ReaderId, Swarm},
};

use crate::{fleet::Fleet, network::NodeIndex};

const READER: ReaderId = ReaderId(0);
const SWARM: usize = 0;
const MEMBER: usize = 1;
const COORDINATOR: usize = 2;

impl Fleet<'_> {
    pub(crate) fn probe(&self) -> Probe {
        Probe { length: self.layout.length(), visibility: Visibility::Public }
    }

    /// A client of this node wants the blob.
    pub(crate) fn wants(&mut self, node: NodeIndex) {
        let now = self.now;
        let this = &mut self.nodes[node as usize];
        if !this.alive || !this.awaited {
            return;
        }
        this.wants = true;
        this.asked_at.get_or_insert(now);
        self.pursue(node);
        let found = self.probe();
        if self.nodes[node as usize].disk.size() > 0 {
            self.tell_member(node, MemberInput::Known(found));
        }
        self.tell_member(node, MemberInput::Wanted { can_seed: true });
    }

    fn pursue(&mut self, node: NodeIndex) {
        let (id, digest) = (self.id(node), self.digest);
        self.nodes[node as usize].member.get_or_insert_with(|| Member::new(id, digest, Settings::default()));
    }

    fn open_swarm(&mut self, node: NodeIndex) {
        let (now, seed) = (self.now, rand::RngExt::random(&mut self.rng));
        let pieces = self.layout.count();
        let this = &mut self.nodes[node as usize];
        if this.swarm.is_some() {
            return;
        }
        let have = std::mem::replace(&mut this.disk, PieceSet::empty(0));
        let have = if have.size() == 0 { PieceSet::none_of(&self.layout) } else { have };
        let mut chain = PieceSet::empty(pieces + 1);
        for piece in have.iter() {
            chain.insert(piece);
            chain.insert(piece + 1);
        }
        let zone = format!("zone-{}", this.zone);
        let me = this.id;
        let swarm = Swarm::new(now, me, self.digest, self.layout, self.trade.clone(), zone, seed).holding(have, &chain);
        this.swarm = Some(swarm);
        let (wants, named, importers) = (this.wants, this.named.clone(), this.importers.clone());
        let early = std::mem::take(&mut this.early);
        self.tell_swarm(node, Input::Importers(importers));
        for other in named {
            self.meet(node, other);
        }
        for (from, message) in early {
            self.hear(from, node, message);
        }
        if wants {
            self.tell_swarm(node, Input::Wants(true));
            self.advance(node);
        }
        let lease = self.nodes[node as usize].lease.as_ref().map(|(_, elsewhere)| elsewhere.clone());
        if let Some(elsewhere) = lease {
            self.tell_swarm(node, Input::Appointed { elsewhere });
        }
    }

    /// The reader goes on to the first piece that is not here.
    fn advance(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        let Some(swarm) = this.swarm.as_ref().filter(|_| this.wants || this.done_at.is_some()) else { return };
        let before = this.reader;
        let next = swarm.have().first_missing(before).and_then(|next| self.layout.piece(next));
        if let Some(piece) = next {
            if this.done_at.is_some() {
                return;
            }
            this.reader = piece.get();
            let lag = self.origin.frontier().saturating_sub(this.reader);
            if this.reader != before && !this.late {
                self.curve.lagged(lag);
            }
            if this.reader != before || before == 0 || self.scenario.readers_at.iter().any(|(who, _)| *who == node) {
                self.tell_swarm(node, Input::ReaderAt { reader: READER, piece });
            }
        } else {
            this.reader = self.layout.count();
            self.tell_swarm(node, Input::ReaderGone { reader: READER });
        }
    }

    fn complete(&mut self, node: NodeIndex) {
        let now = self.now;
        let found = self.probe();
        let this = &mut self.nodes[node as usize];
        this.done_at.get_or_insert(now);
        self.awaits_no_more(node);
        self.note("complete", node, node, u32::MAX);
        self.tell_member(node, MemberInput::Completed);
        let holdings = vec![Holding { digest: self.digest, found }];
        let message = ToCoordinator::Announce { holdings, addresses: self.addresses(node), zone: self.zone(node) };
        let closest = (0..self.scenario.nodes).find(|&other| other == node || self.reaches(node, other));
        self.write(node, closest.unwrap_or(node), Coordination::ToCoordinator(message));
    }
}
