//! Driving the swarms: what happened goes in, what they decide is done.

use shoal_blob::{Digest, PieceIndex};
use shoal_proto::{
    NodeId, PieceHeader, SignedSegment, Testimony,
    coordination::{Refusal, Returned},
    trade::{Lacks, Letter, Message},
};
use shoal_swarm::trade::{Fault, Input, Output, SlotId, Source};
use shoal_transfer::{IncomingPiece, UploadError};
use tokio::sync::mpsc;

use super::{
    Engine,
    pursuit::{Body, Reader},
};
use crate::node::{
    mailbox::Told,
    reading::{self, Order, Reading},
    receiving,
};

/// Everything that swarms are told and decide is logged under this name, at the level `trace`.
const TRADE: &str = "shoal_trade";

impl Engine {
    /// Tells a swarm what happened and does what it decides, and gives the others their turn.
    pub(super) fn tell_swarm(&mut self, digest: Digest, input: Input) {
        self.inputs.push_back((digest, input));
        self.settle();
    }

    /// Tells the swarms what they have not been told yet, in the order in which it happened.
    pub(super) fn settle(&mut self) {
        while let Some((digest, input)) = self.inputs.pop_front() {
            let now = self.clock.now();
            let Some(body) = self.pursuits.get_mut(&digest).and_then(|pursuit| pursuit.body_mut()) else { continue };
            tracing::trace!(target: TRADE, %digest, ?input);
            body.swarm.handle(now, input, &mut self.capacity);
            let mut outputs = Vec::new();
            outputs.extend(std::iter::from_fn(|| body.swarm.poll()));
            let mut letters = Vec::new();
            for output in outputs {
                tracing::trace!(target: TRADE, %digest, ?output);
                self.perform(digest, output, &mut letters);
            }
            self.post(digest, &mut letters);
            while let Some(next) = self.capacity.next_turn() {
                self.inputs.push_back((next, Input::Turn));
            }
        }
    }

    /// Does what a swarm decided in one step. What it says is gathered, a letter for each neighbour.
    fn perform(&mut self, digest: Digest, output: Output, letters: &mut Vec<(NodeId, Vec<Message>)>) {
        match output {
            Output::Send { to, message } => {
                let at = letters.iter().position(|(whom, _)| *whom == to).unwrap_or_else(|| {
                    letters.push((to, Vec::new()));
                    letters.len() - 1
                });
                let words = &mut letters[at].1;
                if matches!(message, Message::Slot { .. } | Message::Offer { .. }) {
                    words.extend(self.untold_grants(digest, to));
                }
                words.push(message);
            }
            Output::FetchOrigin { piece } => self.order(digest, piece),
            Output::CancelOrigin => {
                if let Some(body) = self.body_mut(&digest) {
                    body.stop_reading();
                }
            }
            Output::Expect { piece, from, .. } => {
                if let Some(body) = self.body_mut(&digest) {
                    body.expected.insert((piece.get(), from));
                }
            }
            Output::Abandon { piece, from } => {
                if let Some(body) = self.body_mut(&digest) {
                    body.expected.remove(&(piece.get(), from));
                    if let Some(task) = body.receiving.remove(&(piece.get(), from)) {
                        task.abort();
                    }
                }
            }
            Output::Upload { to, piece, slot, lacks } => self.upload(digest, to, piece, slot, lacks),
            Output::CancelUpload { slot } => {
                if let Some(task) = self.body_mut(&digest).and_then(|body| body.uploads.remove(&slot)) {
                    task.abort();
                }
                self.inputs.push_back((digest, Input::Uploaded { slot, arrived: false }));
            }
            Output::ShutOut { node, span } => {
                self.metrics.pieces_refused.with_label_values(&["wrong_bytes"]).inc();
                tracing::warn!(%digest, peer = %node, ?span, "a peer sent wrong bytes or midstates and is shut out of this swarm");
            }
            Output::Orphaned => {
                self.post(digest, letters);
                tracing::debug!(%digest, "no neighbour that may be taken from has what is missing here");
                self.tell_member(digest, shoal_swarm::coordination::MemberInput::Orphaned);
            }
            Output::LeaseDone => {
                self.post(digest, letters);
                self.return_lease(digest, Returned::Done);
            }
            Output::Complete => self.complete(digest),
        }
    }

    pub(super) fn body_mut(&mut self, digest: &Digest) -> Option<&mut Body> {
        self.pursuits.get_mut(digest)?.body_mut()
    }

    /// Says something to a connected peer; to one that is gone, nothing.
    pub(super) fn say(&self, to: NodeId, digest: Digest, message: Message) {
        self.say_all(to, digest, vec![message]);
    }

    fn say_all(&self, to: NodeId, digest: Digest, messages: Vec<Message>) {
        let Some(peer) = self.peers.get(&to) else { return };
        if let Err(error) = peer.send(&Letter { digest, messages }) {
            tracing::debug!(peer = %to, %error, "a letter was not queued");
        }
    }

    /// Sends what was gathered: before anything is done that may lead to further steps, which may say more.
    fn post(&self, digest: Digest, letters: &mut Vec<(NodeId, Vec<Message>)>) {
        for (to, messages) in letters.drain(..) {
            self.say_all(to, digest, messages);
        }
    }

    /// The leases that a neighbour must be told of to check what it may take.
    fn untold_grants(&mut self, digest: Digest, to: NodeId) -> Vec<Message> {
        self.body_mut(&digest).map(|body| body.book.untold_grants(to)).unwrap_or_default()
    }

    /// Orders a piece from the origin, beginning to read where nobody does yet.
    fn order(&mut self, digest: Digest, piece: PieceIndex) {
        let mut settings = self.limits.runs;
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        let (Some(lease), Some(repository)) = (&pursuit.lease, pursuit.repositories.first()) else { return };
        let (epoch, repository) = (lease.epoch, repository.clone());
        let Some(body) = pursuit.body_mut() else { return };
        body.read_under = Some(epoch);
        if body.reading.is_none() {
            // Runs of whole pieces: what is in flight is bounded by the swarm already.
            settings.in_flight = settings.in_flight.max(u64::from(body.shelf.layout().piece_bytes()));
            let reading = Reading {
                origins: self.origins.clone(),
                repository,
                settings,
                shelf: body.shelf.clone(),
                id: self.readings,
                mailbox: self.mailbox.clone(),
            };
            let (orders, inbox) = mpsc::unbounded_channel();
            let task = tokio::spawn(reading::read(reading, inbox)).abort_handle();
            body.reading = Some(Reader { id: self.readings, orders, task });
            self.readings += 1;
        }
        let (from, to) = (body.book.midstate(piece.get()), body.book.midstate(piece.get() + 1));
        if let Some(reader) = &body.reading {
            let _ = reader.orders.send(Order { piece, from, to });
        }
    }

    fn upload(&mut self, digest: Digest, to: NodeId, piece: PieceIndex, slot: SlotId, lacks: Lacks) {
        let key = self.key.clone();
        let mailbox = self.mailbox.clone();
        let sent = self.metrics.bytes_to_peers.clone();
        let peer = self.peers.get(&to).cloned();
        let Some(body) = self.body_mut(&digest) else { return };
        let book = &body.book;
        let (Some(peer), Some(link), Some(proof)) = (peer, book.link(piece), book.proof(piece, lacks, &key)) else {
            tracing::debug!(%digest, %piece, peer = %to, "a piece cannot be sent with what proves its midstates");
            self.inputs.push_back((digest, Input::Uploaded { slot, arrived: false }));
            return;
        };
        let proof = proof.iter().map(SignedSegment::testimony).collect();
        let header = PieceHeader { piece: piece.get(), link: link.fingerprint(), proof };
        let blob = body.shelf.blob().clone();
        let bytes = body.shelf.layout().byte_range(piece);
        let length = bytes.end - bytes.start;
        let task = tokio::spawn(async move {
            let source = move |range: std::ops::Range<u64>| {
                let range = bytes.start + range.start..bytes.start + range.end;
                blob.read_bytes(range).map_err(std::io::Error::other)
            };
            let outcome = peer.upload(digest, header, length, source).await;
            let arrived = match outcome {
                Ok(()) => {
                    sent.inc_by(length);
                    true
                }
                Err(error) => {
                    tracing::debug!(%digest, %piece, peer = %to, %error, "an upload did not end well");
                    if let UploadError::Source { .. } | UploadError::Head { .. } | UploadError::Unnamed { .. } = error {
                        // The stream may never have begun: the peer must not wait for it.
                        let message = Message::Refuse { slot, piece: piece.get() };
                        let _ = peer.send(&Letter { digest, messages: vec![message] });
                    }
                    false
                }
            };
            mailbox.tell(Told::Uploaded { digest, slot, arrived });
        });
        if let Some(body) = self.body_mut(&digest) {
            body.uploads.insert(slot, task.abort_handle());
        }
    }

    /// A peer begins to send a piece: taken when it was asked of that peer and can be checked.
    pub(super) fn take(&mut self, incoming: IncomingPiece) {
        let (from, digest, number) = (incoming.from(), incoming.digest(), incoming.header().piece);
        let mailbox = self.mailbox.clone();
        let wanted = self.body_mut(&digest).and_then(|body| {
            let expected = body.expected.remove(&(number, from));
            body.shelf.layout().piece(number).filter(|_| expected)
        });
        let Some(piece) = wanted else {
            incoming.refuse(shoal_transfer::Refusal::Unwanted);
            return;
        };
        let learnt = self.learn_proof(digest, from, &incoming.header().proof);
        let Some(body) = self.body_mut(&digest) else { return };
        match learnt.and_then(|()| body.book.link(piece).ok_or(Fault::Broken)) {
            Ok(link) => {
                let task = tokio::spawn(receiving::receive(incoming, body.shelf.clone(), piece, link, mailbox));
                body.receiving.insert((piece.get(), from), task.abort_handle());
            }
            Err(fault) => {
                incoming.refuse(shoal_transfer::Refusal::NoMidstates);
                let from = Source::Neighbour(from);
                self.inputs.push_back((digest, Input::Missed { piece, from, fault }));
            }
        }
    }

    /// Takes over the midstates at the head of a piece's stream, before the piece is looked at.
    fn learn_proof(&mut self, digest: Digest, from: NodeId, proof: &[Testimony]) -> Result<(), Fault> {
        for testimony in proof {
            let Some(body) = self.body_mut(&digest) else { return Ok(()) };
            match body.book.hear(testimony) {
                Ok((boundaries, record)) => {
                    if let Some(record) = record {
                        self.write_claim(digest, &record);
                    }
                    self.inputs.push_back((digest, Input::Chained { boundaries }));
                }
                Err(rejected) => {
                    self.metrics.pieces_refused.with_label_values(&["chain"]).inc();
                    tracing::warn!(peer = %from, %digest, %rejected, "midstates were not taken, nor their piece");
                    return Err(if rejected.blames_the_sender() { Fault::WrongBytes } else { Fault::Broken });
                }
            }
        }
        Ok(())
    }

    /// A piece has been verified and stored.
    pub(super) fn stored(&mut self, digest: Digest, piece: &shoal_blob::VerifiedPiece, from: Source) {
        let key = self.key.clone();
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        pursuit.rest = None;
        let Some(body) = pursuit.body_mut() else { return };
        let lease = body.read_under.filter(|_| from == Source::Origin);
        if let Source::Neighbour(node) = from {
            body.receiving.remove(&(piece.index().get(), node));
        }
        match body.book.close(piece, lease, &key) {
            Ok(record) => {
                let boundary = piece.index().get() + 1;
                if let Some(record) = record {
                    self.write_claim(digest, &record);
                }
                match from {
                    Source::Origin => self.metrics.pieces_verified_from_origin.inc(),
                    Source::Neighbour(_) => self.metrics.pieces_verified_from_peers.inc(),
                }
                self.inputs.push_back((digest, Input::Chained { boundaries: boundary..boundary + 1 }));
                self.tell_swarm(digest, Input::Stored { piece: piece.index(), from });
                if let Some(body) = self.body_mut(&digest) {
                    body.shelf.arrived();
                }
            }
            Err(conflict) => {
                tracing::warn!(%digest, piece = %piece.index(), %conflict, "a piece was checked under another chain");
                let mut forgotten = shoal_blob::PieceSet::none_of(body.shelf.layout());
                forgotten.insert(piece.index().get());
                let _ = body.shelf.blob().forget(&forgotten);
                let piece = piece.index();
                self.tell_swarm(digest, Input::Missed { piece, from, fault: Fault::Broken });
            }
        }
    }

    pub(super) fn missed(&mut self, digest: Digest, piece: PieceIndex, from: Source, fault: Fault) {
        if let (Some(body), Source::Neighbour(node)) = (self.body_mut(&digest), from) {
            body.receiving.remove(&(piece.get(), node));
        }
        self.tell_swarm(digest, Input::Missed { piece, from, fault });
    }

    /// Appends to the sidecar. Short: it is synced with the pieces that come after it.
    pub(super) fn write_claim(&mut self, digest: Digest, record: &[u8]) {
        let Some(body) = self.body_mut(&digest) else { return };
        if let Err(error) = body.shelf.blob().append_claim(record) {
            tracing::warn!(%digest, %error, "a claim could not be written; after a crash its pieces are read again");
        }
    }

    /// Every piece is stored: the chain is proven, synced, and only then is the last piece given out.
    pub(super) fn complete(&mut self, digest: Digest) {
        let mailbox = self.mailbox.clone();
        let Some(body) = self.body_mut(&digest) else { return };
        let Some(proof) = body.book.prove() else {
            tracing::error!(%digest, "all pieces are here and a link of the chain is open");
            return;
        };
        let blob = body.shelf.blob().clone();
        tokio::task::spawn_blocking(move || {
            let outcome = blob.complete(&proof);
            mailbox.tell(Told::Completed { digest, outcome });
        });
    }

    /// The origin cannot be read on under this lease.
    pub(super) fn origin_failed(&mut self, digest: Digest, refusal: Refusal) {
        if let Some(body) = self.body_mut(&digest) {
            body.stop_reading();
        }
        self.return_lease(digest, Returned::Refused(refusal));
        if refusal == Refusal::WrongBytes {
            self.fall(digest);
        }
    }

    /// The last link did not close: every claim falls, and with them what was verified under them.
    fn fall(&mut self, digest: Digest) {
        let Some(body) = self.body_mut(&digest) else { return };
        let held = body.swarm.have().clone();
        body.book.fall();
        body.read_under = None;
        let blob = body.shelf.blob();
        if let Err(error) = blob.forget(&held).and_then(|()| blob.replace_claims(&[])) {
            tracing::error!(%digest, %error, "pieces of a fallen chain could not be withdrawn");
        }
        self.inputs.push_back((digest, Input::ChainFell));
        self.tell_swarm(digest, Input::Lost { pieces: held.iter().collect() });
    }
}
