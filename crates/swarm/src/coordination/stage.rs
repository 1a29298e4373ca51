//! How far the coordinator of a digest has come on the way to a lease.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use rand::rngs::Xoshiro256PlusPlus;
use shoal_blob::PieceSet;
use shoal_proto::{
    NodeId, NodeKey, SignedGrant,
    coordination::{Refusal, ToMember},
};

use super::{Note, Output, Remembered, Settings, Why, view::View};
use crate::Time;

/// At most one thing is under way for a digest, so at most one lease can come of it.
#[derive(Debug)]
pub(super) enum Stage {
    /// No lease, and nothing under way; a member that wants the blob begins it.
    Idle,
    /// Other nodes are asked whether they know of a lease or a holder.
    Asking {
        /// Who has been asked.
        asked: BTreeSet<NodeId>,
        /// Who of them has not answered.
        awaiting: BTreeSet<NodeId>,
        /// Answers are not enough before this: the set of live nodes has just changed.
        settled: Time,
        /// No longer than this.
        deadline: Time,
    },
    /// A member asks its origin how long the blob is.
    Probing {
        /// Who.
        node: NodeId,
        /// No longer than this.
        deadline: Time,
    },
    /// Members say what they have, so that a successor reads only the rest.
    Surveying(Survey),
    /// A grant is signed and its standbys store it.
    Securing {
        /// The lease.
        grant: SignedGrant,
        /// What its seed need not read.
        elsewhere: PieceSet,
        /// Standbys that have not confirmed.
        awaiting: BTreeSet<NodeId>,
        /// No longer than this.
        deadline: Time,
    },
    /// A seed holds the lease.
    Leased(Lease),
    /// No lease is needed: the members and the holders have everything. Only an orphan opens it again.
    Served,
    /// Too many nodes were refused: every reader gets this error until then.
    Resting {
        /// What the last node was told.
        refusal: Refusal,
        /// How long.
        until: Time,
    },
}

/// What the members have, as they say.
#[derive(Debug)]
pub(super) struct Survey {
    /// Who has not answered what it has.
    pub(super) awaiting: BTreeSet<NodeId>,
    /// Who has not answered whether it has everything.
    pub(super) asked: BTreeSet<NodeId>,
    /// What those have who did.
    pub(super) union: PieceSet,
    /// Answers are not enough before this, unless everybody was asked: members are still coming.
    pub(super) settled: Time,
    /// No longer than this.
    pub(super) deadline: Time,
    /// The seed whose lease has ended, the last to be chosen.
    pub(super) ended: Option<NodeId>,
    /// The member that finds no holder.
    pub(super) orphan: Option<NodeId>,
}

/// A lease that was granted.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) grant: SignedGrant,
    pub(super) elsewhere: PieceSet,
    /// When it was granted or last renewed: it is over `lease + margin` later.
    pub(super) granted: Time,
    /// The seed has renewed it, so it knows of it.
    pub(super) confirmed: bool,
    /// When to say it again, until it is confirmed.
    pub(super) resend: Time,
    /// How many pieces the seed had when it first renewed.
    pub(super) held: Option<u32>,
}

impl Lease {
    /// When nobody holds it any more.
    pub(super) fn end(&self, settings: &Settings) -> Time {
        self.granted + settings.lease + settings.margin
    }
}

impl Stage {
    /// When this stage must be looked at again, and why.
    pub(super) fn wake(&self, settings: &Settings) -> Option<(Time, Why)> {
        match self {
            Self::Idle | Self::Served => None,
            Self::Asking { awaiting, settled, deadline, .. } if awaiting.is_empty() => {
                Some(((*settled).min(*deadline), Why::Answers))
            }
            Self::Asking { deadline, .. } => Some((*deadline, Why::Answers)),
            Self::Probing { deadline, .. } => Some((*deadline, Why::Probe)),
            Self::Surveying(survey) => Some((survey.deadline, Why::Reports)),
            Self::Securing { deadline, .. } => Some((*deadline, Why::Standbys)),
            Self::Leased(lease) if lease.confirmed => Some((lease.end(settings), Why::Lease)),
            Self::Leased(lease) => Some((lease.end(settings).min(lease.resend), Why::Lease)),
            Self::Resting { until, .. } => Some((*until, Why::Rest)),
        }
    }

    /// The grant that is out or about to be.
    pub(super) const fn grant(&self) -> Option<&SignedGrant> {
        match self {
            Self::Securing { grant, .. } | Self::Leased(Lease { grant, .. }) => Some(grant),
            _ => None,
        }
    }
}

/// What the coordinator lends a case for one step.
pub(super) struct Desk<'a> {
    pub(super) now: Time,
    pub(super) started: Time,
    pub(super) key: &'a NodeKey,
    pub(super) me: NodeId,
    pub(super) settings: &'a Settings,
    pub(super) view: &'a View,
    pub(super) rng: &'a mut Xoshiro256PlusPlus,
    pub(super) remembered: &'a mut Remembered,
    pub(super) out: &'a mut VecDeque<Output>,
}

impl Desk<'_> {
    pub(super) fn tell(&mut self, to: NodeId, message: ToMember) {
        self.out.push_back(Output::Tell { to, message });
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push_back(Output::Note(note));
    }

    pub(super) fn within(&self, span: Duration) -> Time {
        self.now + span
    }

    /// Whether others may know of leases that this node does not; `changed` is when those around the digest last did.
    pub(super) fn is_new_here(&self, changed: Option<Time>) -> bool {
        self.now.since(self.started) < self.settings.young
            || changed.is_some_and(|at| self.now.since(at) < self.settings.restless)
    }
}
