//! A lease as its seed sees it.

use std::{collections::VecDeque, time::Duration};

use shoal_blob::PieceSet;
use shoal_proto::{Epoch, NodeId, SignedGrant};

use super::Settings;
use crate::Time;

/// No grant is believed to last longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Requests that may be under way without an answer.
const MOST_SENT: usize = 16;
/// A lease that has run out is asked for again for so long.
const LAPSE: Duration = Duration::from_secs(10);

/// Invariant: `until` is never later than the sending of an answered request plus the lease less the margin, so that
/// it ends before the coordinator gives the lease to another, whatever the network does in between.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) grant: SignedGrant,
    pub(super) elsewhere: PieceSet,
    /// Reading the origin is allowed until then; `None` before the first answer and after the lease ran out.
    until: Option<Time>,
    next_renewal: Time,
    round: u32,
    sent: VecDeque<(u32, Time)>,
    /// When the coordinator last spoke, or should have begun to.
    heard: Time,
    /// Whether its silence was acted upon.
    complained: bool,
}

impl Tenure {
    /// A lease that was just granted. One that it follows, of the same seed, goes on until its own end.
    pub(super) fn new(now: Time, grant: SignedGrant, elsewhere: PieceSet, before: Option<&Self>) -> Self {
        let until = before.and_then(|before| before.until);
        let round = before.map_or(0, |before| before.round);
        let sent = VecDeque::new();
        Self { grant, elsewhere, until, next_renewal: now, round, sent, heard: now, complained: false }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.grant.grant().epoch
    }

    pub(super) fn coordinator(&self) -> NodeId {
        self.epoch().coordinator
    }

    /// Whether the origin may be read.
    pub(super) const fn is_seeding(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it has begun under this epoch.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }

    /// The number of the request to send now, if it is time.
    pub(super) fn renew(&mut self, now: Time, settings: &Settings) -> Option<u32> {
        if now < self.next_renewal {
            return None;
        }
        self.round = self.round.wrapping_add(1);
        self.sent.push_back((self.round, now));
        if self.sent.len() > MOST_SENT {
            self.sent.pop_front();
        }
        // Before the first answer, nothing is lost by asking more often.
        self.next_renewal = now + if self.until.is_some() { settings.renew_every } else { settings.resend };
        Some(self.round)
    }

    /// A request was answered. Returns until when the lease goes on, and whether reading begins with it.
    pub(super) fn answered(&mut self, now: Time, round: u32, settings: &Settings) -> Option<(Time, bool)> {
        let at = self.sent.iter().position(|(sent, _)| *sent == round)?;
        let (_, sent) = self.sent.drain(..=at).next_back()?;
        (self.heard, self.complained) = (now, false);
        let until = sent + self.grant.grant().duration.min(LONGEST).saturating_sub(settings.margin);
        if until <= now {
            return None;
        }
        let begins = self.until.is_none();
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
        Some((until, begins))
    }

    /// Whether the lease has just run out.
    pub(super) fn runs_out(&mut self, now: Time) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            self.until = None;
        }
        over
    }

    /// Whether it ran out so long ago that it is not asked for any more.
    pub(super) fn is_given_up(&self, now: Time) -> bool {
        self.until.is_none() && now.since(self.heard) > LAPSE
    }

    /// Whether the coordinator has just been silent for too long.
    pub(super) fn is_silent(&mut self, now: Time, settings: &Settings) -> bool {
        let silent = !self.complained && self.silence_ends(settings).is_some_and(|at| at <= now);
        self.complained |= silent;
        silent
    }

    fn silence_ends(&self, settings: &Settings) -> Option<Time> {
        self.sent.front().filter(|_| !self.complained).map(|(_, sent)| *sent + settings.seed_silence)
    }

    /// When to look at it again: to renew, for silence, or because it runs out.
    pub(super) fn wake(&self, settings: &Settings) -> [Option<Time>; 3] {
        [Some(self.next_renewal), self.silence_ends(settings), self.until]
    }
}
