//! The pretended registry: one serial link, which counts what it sends.

use std::time::Duration;

use shoal_blob::PieceSet;
use shoal_swarm::Time;

use crate::{network::span, node::Read};

#[derive(Debug)]
pub(crate) struct Origin {
    rate: u64,
    free: Time,
    refuses: u32,
    /// Bytes that were sent.
    pub(crate) sent: u64,
    /// Requests for the length.
    pub(crate) probes: u32,
    /// What has been read at least once.
    pub(crate) read: PieceSet,
    frontier: u32,
    /// How many pieces had been read when faults were last looked for.
    came_to: u32,
}

impl Origin {
    pub(crate) fn new(rate: u64, refuses: u32, pieces: u32) -> Self {
        Self {
            rate,
            free: Time::ZERO,
            refuses,
            sent: 0,
            probes: 0,
            read: PieceSet::empty(pieces),
            frontier: 0,
            came_to: 0,
        }
    }

    /// A node asks for the length; whether it is answered.
    pub(crate) fn asked(&mut self) -> bool {
        self.probes += 1;
        self.probes > self.refuses
    }

    /// A seed orders a piece; what it cannot take as fast as that is not sent as fast.
    pub(crate) fn order(&mut self, from: Time, piece: u32, bytes: u64, down: u64) -> Read {
        let begins = self.free.max(from);
        self.free = begins + span(bytes, self.rate.min(down));
        Read { piece, begins, ends: self.free }
    }

    /// A node takes nothing for so long: what it has ordered from here on is sent so much later.
    pub(crate) fn waits(&mut self, open: &mut [Read], span: Duration) {
        let last = open.last().is_some_and(|read| read.ends == self.free);
        for read in open {
            (read.begins, read.ends) = (read.begins + span, read.ends + span);
        }
        if last {
            self.free = self.free + span;
        }
    }

    /// A piece has been sent whole.
    pub(crate) fn done(&mut self, piece: u32, bytes: u64) {
        self.sent += bytes;
        self.read.insert(piece);
        self.frontier = self.read.first_missing(self.frontier).unwrap_or(self.read.size());
    }

    /// A seed is gone, with these orders open: what was on its way was sent in part.
    pub(crate) fn broke_off(&mut self, now: Time, open: &[Read], bytes: u64) {
        for read in open {
            let all = read.ends.since(read.begins);
            let part = now.since(read.begins).min(all);
            if part > Duration::ZERO {
                self.sent += (bytes as f64 * part.as_secs_f64() / all.as_secs_f64()) as u64;
            }
        }
        if !open.is_empty() {
            self.free = self.free.min(now);
        }
    }

    /// Whether so many pieces have been read for the first time.
    pub(crate) fn came_to(&mut self, read: u32) -> bool {
        std::mem::replace(&mut self.came_to, read) != read
    }

    /// Up to which piece everything has been read.
    pub(crate) const fn frontier(&self) -> u32 {
        self.frontier
    }
}
