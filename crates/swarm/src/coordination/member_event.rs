//! What goes into a [`Member`](super::Member) and what comes out.

use std::net::SocketAddr;

use shoal_blob::PieceSet;
use shoal_proto::{
    Epoch, NodeId, SignedGrant,
    coordination::{Neighbour, Probe, Refusal, Returned, ToCoordinator, ToMember},
};

use crate::Time;

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum MemberInput {
    /// A reader wants the blob; said again when whether it could be read at the origin changes.
    Wanted {
        /// Whether this node knows a repository that has the blob and may ask its registry.
        can_seed: bool,
    },
    /// The blob's length and visibility, as the node has them from before: nobody need ask the origin for them again.
    Known(Probe),
    /// No reader wants it any more. The node stays in the swarm while it has pieces that others want.
    Unwanted,
    /// Every piece is here.
    Completed,
    /// A message from a coordinator, perhaps this very node's.
    Told {
        /// Who says it, as the connection proves.
        from: NodeId,
        /// What.
        message: ToMember,
    },
    /// The answer to [`MemberOutput::FindCoordinator`].
    CoordinatorsFound {
        /// The closest live nodes, in any order; this one need not be among them.
        closest: Vec<NodeId>,
    },
    /// The answer to [`MemberOutput::ProbeOrigin`].
    Probed(Result<Probe, Refusal>),
    /// This node gives its lease back, and has stopped reading.
    LeaseReturned(Returned),
    /// No neighbour has pieces that are wanted, for 2 s.
    Orphaned,
    /// A neighbour told of a lease.
    GrantSeen(SignedGrant),
    /// A node cannot be reached, or its connection ended.
    Unreachable {
        /// Who.
        node: NodeId,
    },
    /// The time that `poll_timeout` gave has come.
    TimeOut,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberOutput {
    /// Look up which live nodes are the closest to the digest; a cached answer will do.
    FindCoordinator,
    /// Send this to a coordinator, perhaps to this very node's.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToCoordinator,
    },
    /// The blob's length and visibility are known. Said again if the visibility turns out to be another.
    Found(Probe),
    /// Trade with these and no others; in place of those named before. Said again, it names those to meet that have taken
    /// leave.
    Neighbours(Vec<Neighbour>),
    /// Through these members pieces come into this node's zone; through anybody where there are none.
    Importers(Vec<NodeId>),
    /// Ask the origin how long the blob is, and answer [`MemberInput::Probed`].
    ProbeOrigin,
    /// Read the origin, until that time at most, except what is elsewhere.
    BecomeSeed {
        /// The lease, which signs with what is hashed under it.
        grant: SignedGrant,
        /// When to stop, unless [`MemberOutput::ExtendLease`] comes: checked before each range.
        until: Time,
        /// What other members have.
        elsewhere: PieceSet,
    },
    /// Go on until then.
    ExtendLease {
        /// The lease: a new epoch where another coordinator has taken it over.
        grant: SignedGrant,
        /// When to stop.
        until: Time,
    },
    /// Ask nothing more of the origin.
    StopSeeding(Stopped),
    /// A higher epoch than any before.
    NewGrant(SignedGrant),
    /// The blob cannot be read: give the readers this error. Nobody is wanting it from now on.
    Fail(Refusal),
    /// A message was dropped: for the log.
    Doubted {
        /// Who sent it.
        from: NodeId,
        /// Why.
        doubt: Doubt,
    },
}

/// Why a seed must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No renewal was answered in time. If one still is, [`MemberOutput::BecomeSeed`] comes again.
    Expired,
    /// The coordinator says so.
    Revoked,
    /// A higher epoch has another seed.
    Outranked {
        /// Which.
        by: Epoch,
    },
    /// Nobody here wants the blob.
    Unwanted,
}

/// Why a member does not believe a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The signature is not that of the coordinator it names, or the grant makes no sense.
    #[error("a grant that its coordinator did not sign, or that means nothing")]
    Unsound,
    /// The grant's coordinator is neither the one that was joined nor one of the three closest.
    #[error("a grant of node {coordinator}, which is not close enough to the digest to coordinate it")]
    Stranger {
        /// Who signed it.
        coordinator: NodeId,
    },
    /// The grant is for another digest, another seed, or from another node than its coordinator.
    #[error("a grant that is not for this node and blob")]
    Misdirected,
    /// The grant's epoch is below one that is known.
    #[error("a grant of epoch {} when epoch {} is out", old.number, known.number)]
    Old {
        /// The grant's epoch.
        old: Epoch,
        /// The highest known.
        known: Epoch,
    },
    /// The grant says another length than is known.
    #[error("a grant for {told} bytes of a blob of {known}")]
    Length {
        /// What it says.
        told: u64,
        /// What is known.
        known: u64,
    },
    /// The message comes from a node that coordinates nothing here.
    #[error("a message of a coordinator from a node that is none here")]
    NotCoordinator,
}

/// What a member says of its node, read at each poll.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// The pieces that are here; an empty set of size 0 while the length is not known.
    pub held: &'a PieceSet,
    /// Where the data plane is reached.
    pub addresses: &'a [SocketAddr],
    /// The node's zone; may be empty.
    pub zone: &'a str,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberWhy {
    /// Join again and look the coordinator up.
    Join,
    /// The coordinator has not answered.
    Silence,
    /// Renew the lease.
    Renew,
    /// The lease ends.
    Expiry,
}
