//! Pieces on the move: from the origin, and from node to node.

use std::time::Duration;

use shoal_blob::PieceIndex;
use shoal_swarm::{
    Time,
    trade::{Input, Source},
};

use crate::{
    fleet::{Event, Fleet, Upload},
    network::{NodeIndex, Parcel, Signal},
};

impl Fleet<'_> {
    pub(super) fn order(&mut self, node: NodeIndex, piece: PieceIndex) {
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

    pub(super) fn stored(&mut self, node: NodeIndex, piece: PieceIndex, from: Source) {
        let new = self.nodes[node as usize].swarm.as_ref().is_some_and(|swarm| !swarm.have().has(piece));
        if new {
            self.curve.copies[piece.get() as usize] += 1;
        } else {
            self.curve.duplicates += 1;
        }
        self.tell_swarm(node, Input::Stored { piece, from });
        self.advance(node);
    }

    pub(super) fn upload(&mut self, from: NodeIndex, to: NodeIndex, piece: PieceIndex, slot: u32) {
        self.check_uploads(from);
        let upload = Upload { from, to, lives: self.lives(from, to), piece: piece.get(), slot, dropped: false };
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

    pub(super) fn drop_upload(&mut self, token: u32) {
        let upload = &mut self.uploads[token as usize];
        upload.dropped = true;
        if self.network.withdraw(upload.from, token) {
            self.free_uploads.push(token);
        }
    }

    pub(super) fn pump(&mut self, node: NodeIndex) {
        let agenda = &mut self.agenda;
        self.network.pump(self.now, node, |at, signal| agenda.enter(at, Event::Signal(signal)));
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Pump(node) => {
                if self.nodes[node as usize].alive {
                    self.pump(node);
                }
            }
            Signal::Carried => self.pump(0),
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
        let Upload { from, lives, slot, dropped, .. } = self.uploads[token as usize];
        self.free_uploads.push(token);
        if dropped || self.life(from) != lives[0] {
            return;
        }
        self.nodes[from as usize].uploads.remove(&slot);
        self.tell_swarm(from, Input::Uploaded { slot, arrived });
    }
}
