//! What a swarm says is done, and what its neighbours say it hears.

use std::collections::VecDeque;

use shoal_proto::{coordination::Returned, trade::Message};
use shoal_swarm::{
    coordination::{Member, MemberInput},
    trade::{Input, Output, Swarm},
};

use super::SWARM;
use crate::{
    fleet::{Event, Fleet},
    network::NodeIndex,
    node::INFLOW,
    weight,
};

/// What one neighbour is told in one go.
struct Letter {
    to: NodeIndex,
    words: Vec<Message>,
    weight: weight::Letter,
}

impl Fleet<'_> {
    pub(crate) fn tell_swarm(&mut self, node: NodeIndex, input: Input) {
        let mut next = Some(input);
        let mut inputs = VecDeque::new();
        let mut letters = Vec::new();
        while let Some(input) = next {
            let now = self.now;
            let this = &mut self.nodes[node as usize];
            let Some(swarm) = this.swarm.as_mut() else { return };
            swarm.handle(now, input, &mut this.capacity);
            while let Some(output) = self.nodes[node as usize].swarm.as_mut().and_then(Swarm::poll) {
                self.perform(node, output, &mut letters, &mut inputs);
            }
            for letter in letters.drain(..) {
                self.post(node, letter);
            }
            self.count_slots(node);
            let this = &mut self.nodes[node as usize];
            while this.capacity.next_turn().is_some() {
                inputs.push_back(Input::Turn);
            }
            let most = INFLOW.max(self.layout.piece_bytes().into());
            if this.capacity.inflow() > most {
                let what = format!("node {node} has {} bytes on their way in, of {most}", this.capacity.inflow());
                self.broke(what);
            }
            next = inputs.pop_front();
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[SWARM] = this.swarm.as_ref().and_then(Swarm::poll_timeout).map(|(at, _)| at);
        self.set_wake(node);
    }

    /// Sends what one neighbour is told in one go.
    fn post(&mut self, from: NodeIndex, Letter { to, words, weight }: Letter) {
        let Some(peer) = self.nodes[from as usize].peers.get_mut(&to) else { return };
        let bytes = weight.bytes(&self.digest, peer.named);
        let bytes = bytes + weight::datagrams(bytes);
        let arrives = self.network.control(self.now, from, to, bytes, peer.stream);
        (peer.stream, peer.named) = (arrives, true);
        let lives = self.lives(from, to);
        self.agenda.enter(arrives, Event::Trade { from, to, lives, letter: words });
    }

    fn perform(&mut self, node: NodeIndex, output: Output, letters: &mut Vec<Letter>, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Send { to, message } => {
                let to = self.of(to);
                self.check_said(node, &message);
                let grant = matches!(message, Message::Slot { .. } | Message::Offer { .. })
                    .then(|| self.introduce_lease(node, to))
                    .flatten();
                let at = letters.iter().position(|letter| letter.to == to).unwrap_or_else(|| {
                    let words = self.blank.pop().unwrap_or_default();
                    letters.push(Letter { to, words, weight: weight::Letter::default() });
                    letters.len() - 1
                });
                let Letter { words, weight, .. } = &mut letters[at];
                grant.iter().chain([&message]).for_each(|message| weight.add(message));
                words.push(message);
            }
            Output::FetchOrigin { piece } => self.order(node, piece),
            Output::CancelOrigin => self.stop_reading(node),
            Output::Expect { piece, from, .. } => {
                let from = self.of(from);
                self.nodes[node as usize].expected.insert((piece.get(), from));
            }
            Output::Abandon { piece, from } => {
                let from = self.of(from);
                self.nodes[node as usize].expected.remove(&(piece.get(), from));
            }
            Output::Upload { to, piece, slot, lacks } => {
                let to = self.of(to);
                self.network.count_control(self.heads.bytes(lacks));
                self.upload(node, to, piece, slot);
            }
            Output::CancelUpload { slot } => {
                if let Some(&upload) = self.nodes[node as usize].uploads.get(&slot) {
                    self.drop_upload(upload);
                }
                self.nodes[node as usize].uploads.remove(&slot);
                inputs.push_back(Input::Uploaded { slot, arrived: false });
            }
            Output::ShutOut { .. } => self.broke(format!("node {node} shut out a neighbour that did nothing wrong")),
            Output::Orphaned => {
                self.note("orphaned", node, node, u32::MAX);
                self.tell_member(node, MemberInput::Orphaned);
            }
            Output::LeaseDone => self.return_lease(node, Returned::Done),
            Output::Complete => self.complete(node),
        }
    }

    /// The grant that goes before the first slot under it: it is weighed, and not heard.
    fn introduce_lease(&mut self, node: NodeIndex, to: NodeIndex) -> Option<Message> {
        let this = &mut self.nodes[node as usize];
        let highest = this.member.as_ref().and_then(Member::highest);
        let (grant, peer) = (highest?, this.peers.get_mut(&to)?);
        let epoch = grant.grant().epoch;
        (peer.told.replace(epoch) != Some(epoch)).then(|| Message::Grant(Box::new(grant.clone())))
    }

    /// A neighbour says something.
    pub(crate) fn hear(&mut self, from: NodeIndex, to: NodeIndex, message: Message) {
        let this = &mut self.nodes[to as usize];
        if this.swarm.is_none() {
            if this.disk.size() > 0 && matches!(message, Message::Hello(_)) {
                self.pursue(to);
                self.open_swarm(to);
            } else if this.member.is_some() {
                this.early.push((from, message));
                return;
            } else {
                return;
            }
        }
        let id = self.id(from);
        if matches!(message, Message::Hello(_)) {
            let swarm = self.nodes[to as usize].swarm.as_ref();
            if !swarm.is_some_and(|swarm| swarm.has_left(self.now, &id)) {
                self.meet(to, from);
            }
        }
        self.tell_swarm(to, Input::Heard { from: id, message });
    }
}
