//! Driving the state machines as the daemon does: what happened goes in, what they decide is done.

use std::time::Duration;

use shoal_blob::{PieceIndex, PieceSet};
use shoal_proto::{
    Visibility,
    coordination::{Coordination, Holding, Probe, Refusal, Returned, ToCoordinator},
    trade::Message,
};
use shoal_swarm::{
    Time,
    coordination::{
        Input as CoordinatorInput, Member, MemberInput, MemberOutput, Output as CoordinatorOutput, Own, Settings,
        for_coordinator, for_member, unclaimed,
    },
    trade::{Input, Output, ReaderId, Source, Swarm},
};

use crate::{
    fleet::{Event, Fleet, MOST_NAMED, Upload},
    network::{NodeIndex, Parcel, Signal},
    node::{INFLOW, Peer},
    weight,
};

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
                self.curve.lags.push(lag);
            }
            if this.reader != before || before == 0 || self.scenario.readers_at.iter().any(|(who, _)| *who == node) {
                self.tell_swarm(node, Input::ReaderAt { reader: READER, piece });
            }
        } else {
            this.reader = self.layout.count();
            self.tell_swarm(node, Input::ReaderGone { reader: READER });
        }
    }

    pub(crate) fn tell_swarm(&mut self, node: NodeIndex, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now;
            let this = &mut self.nodes[node as usize];
            let Some(swarm) = this.swarm.as_mut() else { return };
            swarm.handle(now, input, &mut this.capacity);
            let mut letters: Vec<(NodeIndex, Message, Vec<Message>, weight::Letter)> = Vec::new();
            while let Some(output) = self.nodes[node as usize].swarm.as_mut().and_then(Swarm::poll) {
                self.perform(node, output, &mut letters, &mut inputs);
            }
            for (to, first, rest, letter) in letters {
                self.post(node, to, first, rest, letter);
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
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[SWARM] = this.swarm.as_ref().and_then(Swarm::poll_timeout).map(|(at, _)| at);
        self.set_wake(node);
    }

    /// Sends what one neighbour is told in one go.
    fn post(&mut self, from: NodeIndex, to: NodeIndex, first: Message, rest: Vec<Message>, letter: weight::Letter) {
        let Some(peer) = self.nodes[from as usize].peers.get(&to).copied() else { return };
        let bytes = letter.bytes(&self.digest, peer.named);
        let bytes = bytes + weight::datagrams(bytes);
        let arrives = self.network.control(self.now, from, to, bytes, peer.stream);
        if let Some(peer) = self.nodes[from as usize].peers.get_mut(&to) {
            (peer.stream, peer.named) = (arrives, true);
        }
        let lives = self.lives(from, to);
        self.agenda.enter(arrives, Event::Trade { from, to, lives, first, rest });
    }

    fn perform(
        &mut self,
        node: NodeIndex,
        output: Output,
        letters: &mut Vec<(NodeIndex, Message, Vec<Message>, weight::Letter)>,
        inputs: &mut std::collections::VecDeque<Input>,
    ) {
        match output {
            Output::Send { to, message } => {
                let to = self.of(to);
                self.check_said(node, &message);
                let grant = matches!(message, Message::Slot { .. } | Message::Offer { .. })
                    .then(|| self.introduce_lease(node, to))
                    .flatten();
                let begun = letters.iter().position(|(whom, ..)| *whom == to);
                let mut letter = begun.map_or_else(weight::Letter::default, |at| letters[at].3);
                grant.iter().chain([&message]).for_each(|message| letter.add(message));
                match begun {
                    Some(at) => {
                        letters[at].2.push(message);
                        letters[at].3 = letter;
                    }
                    None => letters.push((to, message, Vec::new(), letter)),
                }
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
                inputs.push_back(Input::Uploaded { slot, moved: None });
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
        (peer.told.replace(epoch) != Some(epoch)).then(|| Message::Grant(grant.clone()))
    }

    fn order(&mut self, node: NodeIndex, piece: PieceIndex) {
        let bytes = u64::from(self.layout.piece_len(piece));
        self.check_may_read(node);
        let latency = self.network.latency();
        let (_, down) = self.network.rates(node);
        let read = self.origin.order(self.now + latency, piece.get(), bytes, down);
        let this = &mut self.nodes[node as usize];
        this.reading.push(read);
        let reads = this.reads;
        let (piece, ends) = (piece.get(), read.ends + latency);
        self.agenda.enter(read.begins + latency, Event::Comes { node, reads, piece, ends });
    }

    /// The first byte of a piece comes from the origin: only now does it take the node's downlink, for what was cancelled
    /// before must not. While the downlink is taken the origin waits, as flow control makes it.
    pub(crate) fn comes(&mut self, node: NodeIndex, reads: u32, piece: u32, ends: Time) {
        let Some(index) = self.layout.piece(piece).filter(|_| self.nodes[node as usize].reads == reads) else { return };
        let latency = self.network.latency();
        let behind = self.network.downlink_free(node).since(self.now + 2 * latency);
        let open = &mut self.nodes[node as usize].reading;
        if let Some(at) = open.iter().position(|read| read.piece == piece) {
            if open[at].begins + latency <= self.now && behind > Duration::ZERO {
                self.origin.waits(&mut open[at..], behind);
            }
            let read = open[at];
            let (begins, ends) = (read.begins + latency, read.ends + latency);
            if begins > self.now {
                self.agenda.enter(begins, Event::Comes { node, reads, piece, ends });
                return;
            }
        }
        let bytes = u64::from(self.layout.piece_len(index));
        let arrives = self.network.receive(self.now, node, bytes).max(ends);
        self.agenda.enter(arrives, Event::Read { node, reads, piece });
    }

    pub(crate) fn stop_reading(&mut self, node: NodeIndex) {
        let bytes = self.layout.piece_bytes().into();
        let this = &mut self.nodes[node as usize];
        this.reads += 1;
        let open = std::mem::take(&mut this.reading);
        self.origin.broke_off(self.now, &open, bytes);
    }

    pub(crate) fn read(&mut self, node: NodeIndex, reads: u32, piece: u32) {
        let this = &mut self.nodes[node as usize];
        if this.reads != reads || !this.alive {
            return;
        }
        this.reading.retain(|read| read.piece != piece);
        if let Some(piece) = self.layout.piece(piece) {
            self.origin.done(piece.get(), u64::from(self.layout.piece_len(piece)));
            self.note("read", node, node, piece.get());
            self.stored(node, piece, Source::Origin);
        }
        self.watch_reading();
    }

    fn stored(&mut self, node: NodeIndex, piece: PieceIndex, from: Source) {
        let new = self.nodes[node as usize].swarm.as_ref().is_some_and(|swarm| !swarm.have().has(piece));
        if new {
            self.curve.copies[piece.get() as usize] += 1;
        } else {
            self.curve.duplicates += 1;
        }
        self.tell_swarm(node, Input::Stored { piece, from });
        self.advance(node);
    }

    fn upload(&mut self, from: NodeIndex, to: NodeIndex, piece: PieceIndex, slot: u32) {
        self.check_uploads(from);
        let upload =
            Upload { from, to, lives: self.lives(from, to), piece: piece.get(), slot, began: self.now, dropped: false };
        let token = if let Some(free) = self.free_uploads.pop() {
            self.uploads[free as usize] = upload;
            free
        } else {
            self.uploads.push(upload);
            (self.uploads.len() - 1) as u32
        };
        self.nodes[from as usize].uploads.insert(slot, token);
        let bytes = u64::from(self.layout.piece_len(piece));
        self.network.send(from, Parcel { to, bytes, token });
        self.pump(from);
    }

    fn drop_upload(&mut self, token: u32) {
        let upload = &mut self.uploads[token as usize];
        upload.dropped = true;
        if self.network.withdraw(upload.from, token) {
            self.free_uploads.push(token);
        }
    }

    fn pump(&mut self, node: NodeIndex) {
        let agenda = &mut self.agenda;
        let mut begun = Vec::new();
        self.network.pump(self.now, node, |at, signal| match signal {
            Signal::Begun { token } => begun.push(token),
            other => agenda.enter(at, Event::Signal(other)),
        });
        for token in begun {
            self.uploads[token as usize].began = self.now;
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Pump(node) => {
                if self.nodes[node as usize].alive {
                    self.pump(node);
                }
            }
            Signal::Begun { .. } => {}
            Signal::Arrived { token } => {
                let Upload { from, to, lives, piece, dropped, .. } = self.uploads[token as usize];
                if dropped || !self.reaches(from, to) || self.lives(from, to) != lives {
                    // A sender that is alive finds out when the connection ends, or has given up already.
                    self.free_uploads.push(token);
                    return;
                }
                let expected = self.nodes[to as usize].expected.remove(&(piece, from));
                let back = self.now + self.network.latency();
                self.agenda.enter(back, Event::Uploaded { upload: token, arrived: expected });
                if let Some(index) = self.layout.piece(piece).filter(|_| expected) {
                    self.note("arrived", from, to, piece);
                    let source = Source::Neighbour(self.id(from));
                    self.stored(to, index, source);
                }
            }
        }
    }

    pub(crate) fn uploaded(&mut self, token: u32, arrived: bool) {
        let Upload { from, lives, piece, slot, began, dropped, .. } = self.uploads[token as usize];
        self.free_uploads.push(token);
        if dropped || self.life(from) != lives[0] {
            return;
        }
        self.nodes[from as usize].uploads.remove(&slot);
        let bytes = self.layout.piece(piece).map_or(0, |piece| u64::from(self.layout.piece_len(piece)));
        let moved = arrived.then(|| (bytes, self.now.since(began)));
        self.tell_swarm(from, Input::Uploaded { slot, moved });
    }

    fn complete(&mut self, node: NodeIndex) {
        let now = self.now;
        let found = self.probe();
        let this = &mut self.nodes[node as usize];
        this.done_at.get_or_insert(now);
        self.awaits_no_more(node);
        self.curve.complete += 1;
        self.note("complete", node, node, u32::MAX);
        self.tell_member(node, MemberInput::Completed);
        let holdings = vec![Holding { digest: self.digest, found }];
        let message = ToCoordinator::Announce { holdings, addresses: self.addresses(node), zone: self.zone(node) };
        let closest = (0..self.scenario.nodes).find(|&other| other == node || self.reaches(node, other));
        self.write(node, closest.unwrap_or(node), Coordination::ToCoordinator(message));
    }

    fn addresses(&self, node: NodeIndex) -> Vec<std::net::SocketAddr> {
        vec![std::net::SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 5051))]
    }

    fn zone(&self, node: NodeIndex) -> String {
        format!("zone-{}", self.nodes[node as usize].zone)
    }

    fn return_lease(&mut self, node: NodeIndex, reason: Returned) {
        let this = &mut self.nodes[node as usize];
        if this.lease.is_none() {
            return;
        }
        let reason = if reason == Returned::Done && !this.held().is_full() { Returned::Unwanted } else { reason };
        self.end_lease(node);
        self.tell_member(node, MemberInput::LeaseReturned(reason));
    }

    fn end_lease(&mut self, node: NodeIndex) {
        self.nodes[node as usize].lease = None;
        self.stop_reading(node);
        self.tell_swarm(node, Input::Dismissed);
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
        if matches!(message, Message::Hello(_)) {
            self.meet(to, from);
        }
        let from = self.id(from);
        self.tell_swarm(to, Input::Heard { from, message });
    }

    /// A neighbour is one no longer.
    fn part_from(&mut self, node: NodeIndex, other: NodeIndex) {
        let mut letter = weight::Letter::default();
        letter.add(&Message::Bye);
        self.post(node, other, Message::Bye, Vec::new(), letter);
        self.nodes[node as usize].expected.retain(|(_, from)| *from != other);
        self.tell_swarm(node, Input::Parted { node: self.id(other) });
    }

    fn meet(&mut self, node: NodeIndex, other: NodeIndex) {
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

    /// A message of the control plane.
    pub(crate) fn heard(&mut self, from: NodeIndex, to: NodeIndex, message: Coordination) {
        let sender = self.id(from);
        match message {
            Coordination::ToCoordinator(message) => {
                self.tell_coordinator(to, CoordinatorInput::Told { from: sender, message });
            }
            Coordination::ToMember(message) => {
                if let Some(input) = for_coordinator(sender, &message) {
                    self.tell_coordinator(to, input);
                }
                if for_member(&message).is_none() {
                    return;
                }
                if self.nodes[to as usize].member.is_some() {
                    self.tell_member(to, MemberInput::Told { from: sender, message });
                } else if let Some(answer) = unclaimed(&message) {
                    self.write(to, from, Coordination::ToCoordinator(answer));
                }
            }
        }
    }

    fn write(&mut self, from: NodeIndex, to: NodeIndex, message: Coordination) {
        if from != to && !self.reaches(from, to) {
            let (life, at) = (self.life(to), self.now + 2 * self.network.latency());
            // A kernel answers for a process that is gone; nobody does for one that was cut off.
            if !self.nodes[to as usize].alive {
                self.agenda.enter(at, Event::Gone { node: from, gone: to, life });
            }
            return;
        }
        let bytes = if from == to { 0 } else { weight::coordination(&message) };
        if let Some(at) = self.network.datagram(self.now, from, to, bytes) {
            let (lives, message) = (self.lives(from, to), Box::new(message));
            self.agenda.enter(at, Event::Coordination { from, to, lives, message });
        }
    }

    pub(crate) fn tell_coordinator(&mut self, node: NodeIndex, input: CoordinatorInput) {
        if !self.nodes[node as usize].alive {
            return;
        }
        let now = self.now;
        self.nodes[node as usize].coordinator.handle(now, input);
        while let Some(output) = self.nodes[node as usize].coordinator.poll() {
            match output {
                CoordinatorOutput::Tell { to, message } => {
                    self.write(node, self.of(to), Coordination::ToMember(message));
                }
                CoordinatorOutput::Answer { to, message } => {
                    self.write(node, self.of(to), Coordination::ToCoordinator(message));
                }
                CoordinatorOutput::Know { to, digest, grant } => {
                    let holding =
                        self.nodes[node as usize].held().size() > 0 && self.nodes[node as usize].held().is_full();
                    let holding = holding.then(|| self.probe());
                    let (addresses, zone) = (self.addresses(node), self.zone(node));
                    let message = ToCoordinator::Know { digest, grant, holding, addresses, zone };
                    self.write(node, self.of(to), Coordination::ToCoordinator(message));
                }
                CoordinatorOutput::Note(_) => {}
            }
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[COORDINATOR] = this.coordinator.poll_timeout().map(|(at, _)| at);
        self.set_wake(node);
    }

    pub(crate) fn tell_member(&mut self, node: NodeIndex, input: MemberInput) {
        let now = self.now;
        let (addresses, zone) = (self.addresses(node), self.zone(node));
        let Some(member) = self.nodes[node as usize].member.as_mut() else { return };
        member.handle(now, input);
        loop {
            let this = &mut self.nodes[node as usize];
            let Some(member) = this.member.as_mut() else { break };
            let held = this.swarm.as_ref().map_or(&this.disk, Swarm::have);
            let Some(output) = member.poll(now, Own { held, addresses: &addresses, zone: &zone }) else { break };
            self.obey(node, output);
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[MEMBER] = this.member.as_ref().and_then(Member::poll_timeout).map(|(at, _)| at);
        self.set_wake(node);
    }

    fn obey(&mut self, node: NodeIndex, output: MemberOutput) {
        let life = self.life(node);
        let round_trip = 2 * self.network.latency();
        match output {
            // What a node is connected to answers at once; a walk takes a few round trips.
            MemberOutput::FindCoordinator => self.agenda.enter(self.now + 2 * round_trip, Event::Found { node, life }),
            MemberOutput::Send { to, message } => self.write(node, self.of(to), Coordination::ToCoordinator(message)),
            MemberOutput::Found(found) => {
                self.nodes[node as usize].found = Some(found);
                self.open_swarm(node);
            }
            MemberOutput::Neighbours(list) => {
                let named =
                    list.into_iter().take(MOST_NAMED).map(|one| self.of(one.node)).filter(|&other| other != node);
                let named: std::collections::BTreeSet<NodeIndex> = named.collect();
                let before = std::mem::replace(&mut self.nodes[node as usize].named, named.clone());
                for &other in before.difference(&named) {
                    self.part_from(node, other);
                }
                for other in named {
                    self.meet(node, other);
                }
                self.dial(node);
            }
            MemberOutput::Importers(nodes) => {
                self.nodes[node as usize].importers.clone_from(&nodes);
                self.tell_swarm(node, Input::Importers(nodes));
            }
            MemberOutput::ProbeOrigin => self.agenda.enter(self.now + 2 * round_trip, Event::Probed { node, life }),
            MemberOutput::BecomeSeed { grant, elsewhere, .. } => {
                self.note("seed", node, node, u32::MAX);
                self.nodes[node as usize].lease = Some((grant.grant().epoch, elsewhere.clone()));
                self.check_leases(node);
                self.tell_swarm(node, Input::Appointed { elsewhere });
            }
            MemberOutput::ExtendLease { grant, .. } => {
                if let Some((epoch, _)) = &mut self.nodes[node as usize].lease {
                    *epoch = grant.grant().epoch;
                }
                self.check_leases(node);
            }
            MemberOutput::StopSeeding(_) => {
                self.note("stops", node, node, u32::MAX);
                self.lapses += 1;
                self.end_lease(node);
            }
            MemberOutput::NewGrant(grant) => self.tell_coordinator(node, CoordinatorInput::Learnt(grant)),
            MemberOutput::Fail(_) => {
                self.note("fails", node, node, u32::MAX);
                let this = &mut self.nodes[node as usize];
                this.failed = true;
                // With some refused, others are only told so after so many that the coordinator believes it of all.
                let known = this.refused || self.origin.probes <= self.scenario.refused;
                self.awaits_no_more(node);
                if !known {
                    self.broke(format!("node {node} was told that the blob cannot be read, and it can"));
                }
            }
            MemberOutput::Doubted { .. } => {}
        }
    }

    pub(crate) fn found_closest(&mut self, node: NodeIndex, life: u32) {
        if self.life(node) != life {
            return;
        }
        // A walk finds those who live, through whomever it knows.
        let known = |other: &NodeIndex| match self.scenario.begin {
            crate::scenario::Begin::Cold if self.now.since(self.begun).as_millis() < 1000 => {
                self.nodes[node as usize].view.contains(other)
            }
            _ => true,
        };
        let near = (0..self.scenario.nodes).filter(|&other| self.reaches(node, other)).filter(known).take(20);
        let closest = near.map(|other| self.id(other)).collect();
        self.tell_member(node, MemberInput::CoordinatorsFound { closest });
    }

    pub(crate) fn probed(&mut self, node: NodeIndex, life: u32) {
        if self.life(node) == life {
            let answers = self.origin.asked();
            self.nodes[node as usize].refused |= !answers;
            let outcome = if answers { Ok(self.probe()) } else { Err(Refusal::Unauthorized) };
            self.tell_member(node, MemberInput::Probed(outcome));
        }
    }

    pub(crate) fn gone(&mut self, node: NodeIndex, gone: NodeIndex, life: u32) {
        // It may be back, or the network whole, before anybody has missed it.
        if self.life(gone) != life || self.reaches(node, gone) {
            return;
        }
        let id = self.id(gone);
        self.tell_coordinator(node, CoordinatorInput::Unreachable { node: id });
        if self.nodes[node as usize].view.remove(&gone) {
            // Discovery has noticed too. Those that it has not missed yet stay in what it says.
            let live = self.nodes[node as usize].view.iter().map(|&other| self.id(other)).collect();
            self.tell_coordinator(node, CoordinatorInput::View { live });
        }
        self.tell_member(node, MemberInput::Unreachable { node: id });
    }

    fn set_wake(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        let Some(at) = this.wakes.into_iter().flatten().min().filter(|_| this.alive) else { return };
        let at = at.max(self.now);
        if this.wake_at.is_none_or(|before| before > at) {
            this.wake_at = Some(at);
            self.agenda.enter(at, Event::Wake(node));
        }
    }

    pub(crate) fn wake(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        if !this.alive || this.wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        this.wake_at = None;
        self.check_woken(node);
        self.time_out(node);
        self.set_wake(node);
    }

    /// A node that did nothing for a while looks at the clock before it looks at what has come meanwhile.
    pub(crate) fn catch_up(&mut self, node: NodeIndex) {
        let this = &self.nodes[node as usize];
        if this.alive && this.hangs_until == self.now && this.wakes.iter().flatten().any(|at| *at < self.now) {
            self.time_out(node);
        }
    }

    fn time_out(&mut self, node: NodeIndex) {
        let now = self.now;
        let this = &mut self.nodes[node as usize];
        let due = this.wakes.map(|at| at.is_some_and(|at| at <= now));
        // The member first: a lease that has run out must end before the swarm orders anything under it.
        if due[MEMBER] {
            self.tell_member(node, MemberInput::TimeOut);
        }
        if due[SWARM] {
            self.tell_swarm(node, Input::TimeOut);
        }
        if due[COORDINATOR] {
            self.tell_coordinator(node, CoordinatorInput::TimeOut);
        }
    }
}
