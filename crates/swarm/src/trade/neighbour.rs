//! What is known of one neighbour.

use std::time::Duration;

use shoal_blob::PieceSet;

use crate::Time;

/// One neighbour of this swarm.
///
/// Invariant: `lacks` is the number of pieces that this node has and the neighbour has not.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// Whether its Hello has come: until then it is not traded with.
    pub(super) greeted: bool,
    /// What it has.
    pub(super) have: PieceSet,
    pub(super) wants: bool,
    /// How long a piece takes to come to it, by its news; smoothed over about eight of them.
    pub(super) pace: Option<Duration>,
    /// When it last had any.
    pub(super) news_at: Option<Time>,
    /// It is in another zone.
    pub(super) abroad: bool,
    /// How much of this node's news it has been told.
    pub(super) told: u64,
    pub(super) lacks: u32,
    pub(super) rtt: Duration,
    /// How loaded it says it is.
    pub(super) queue: u16,
    /// It passed on a slot: no further one until something changes, or until then.
    pub(super) barred_until: Option<Time>,
    /// Slots in a row that it let lapse.
    pub(super) lapses: u32,
    /// It was asked for a piece then, and has said nothing since.
    pub(super) called_at: Option<Time>,
    /// An upload to it did not end in time, or it was asked for a piece, and it has said nothing since.
    pub(super) silent: bool,
    /// A reader of its waits for this piece.
    pub(super) urgent: Option<u32>,
    /// It is abroad, was asked for a slot then, and may still give one.
    pub(super) asked_at: Option<Time>,
    /// Slots of mine that it has not answered.
    pub(super) unanswered: u32,
    /// Pieces of mine on their way to it.
    pub(super) uploads: u32,
    /// Deadlines it has missed in a row.
    pub(super) strikes: u32,
    /// By how much longer than usual it is waited for, and since when.
    patience: (u32, Time),
    /// How often it has been demoted or shut out.
    pub(super) demotions: u32,
    /// Until when it is taken from only for want of others.
    pub(super) demoted_until: Option<Time>,
    /// It sent wrong bytes: until when nothing of it is taken.
    pub(super) shut_until: Option<Time>,
}

/// No neighbour is waited for longer than so many times the usual.
const MOST_PATIENCE: u32 = 64;

impl Neighbour {
    /// One of which nothing is known: it lacks all that this node has.
    pub(super) fn new(mine: &PieceSet, rtt: Duration) -> Self {
        Self {
            greeted: false,
            have: PieceSet::empty(mine.size()),
            wants: false,
            pace: None,
            news_at: None,
            abroad: false,
            told: 0,
            lacks: mine.held(),
            rtt,
            queue: 0,
            barred_until: None,
            lapses: 0,
            called_at: None,
            silent: false,
            urgent: None,
            asked_at: None,
            unanswered: 0,
            uploads: 0,
            strikes: 0,
            patience: (1, Time::ZERO),
            demotions: 0,
            demoted_until: None,
            shut_until: None,
        }
    }

    /// So many pieces have come to it since its last news.
    pub(super) fn learn_pace(&mut self, now: Time, pieces: u32) {
        if pieces == 0 {
            return;
        }
        if let Some(before) = self.news_at.replace(now) {
            let seen = now.since(before) / pieces;
            self.pace = Some(self.pace.map_or(seen, |pace| (pace * 7 + seen) / 8));
        }
    }

    /// By how much longer than usual a piece of its may take before it is given up.
    pub(super) const fn patience(&self) -> u32 {
        self.patience.0
    }

    /// A piece that was awaited since then was given up. The next gets twice as long: else one that has become slow would
    /// send for ever what is cancelled before it arrives, and nobody would learn how slow it is (as Karn and Partridge 1987
    /// for TCP). What began before the last such lesson teaches nothing new.
    pub(super) fn was_given_up(&mut self, now: Time, since: Time) {
        if since >= self.patience.1 {
            self.patience = ((self.patience.0 * 2).min(MOST_PATIENCE), now);
        }
    }

    /// A piece has come.
    pub(super) fn kept_its_word(&mut self) {
        self.patience.0 = (self.patience.0 / 2).max(1);
    }

    pub(super) fn demoted(&self, now: Time) -> bool {
        self.demoted_until.is_some_and(|until| now < until)
    }

    pub(super) fn barred(&self, now: Time) -> bool {
        self.barred_until.is_some_and(|until| now < until)
    }

    pub(super) fn shut_out(&self, now: Time) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }

    /// Whether it may be gone: it has answered neither two slots nor an upload nor a call. What it has does not count as a copy then.
    pub(super) const fn doubted(&self) -> bool {
        self.silent || self.lapses >= 2
    }

    /// Whether it has anything that this node, which has `mine`, has not.
    pub(super) const fn has_more_than(&self, mine: &PieceSet) -> bool {
        let both = mine.held() - self.lacks;
        self.have.held() > both
    }

    /// Whether a slot could be of use to it. Who is abroad knows what has to come from here, and asks for it.
    pub(super) fn may_get_slot(&self, now: Time) -> bool {
        let served = self.greeted && self.wants && self.lacks > 0 && self.unanswered == 0 && !self.silent;
        served && (!self.abroad || self.urgent.is_some()) && !self.barred(now) && !self.shut_out(now)
    }
}
