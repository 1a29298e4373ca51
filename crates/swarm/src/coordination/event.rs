//! What goes into a [`Coordinator`](super::Coordinator) and what comes out.

use shoal_blob::Digest;
use shoal_proto::{
    Epoch, NodeId, SignedGrant,
    coordination::{Refusal, Returned, ToCoordinator, ToMember},
};

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message to this node as a coordinator, perhaps from itself.
    Told {
        /// Who says it, as the connection proves.
        from: NodeId,
        /// What.
        message: ToCoordinator,
    },
    /// Another coordinator asks what this node knows: [`ToMember::Ask`].
    Asked {
        /// Who asks.
        from: NodeId,
        /// The blob.
        digest: Digest,
    },
    /// Another coordinator made this node a standby: [`ToMember::Keep`].
    Entrusted {
        /// Who asks.
        from: NodeId,
        /// The lease to remember.
        grant: SignedGrant,
    },
    /// Some node knows of one that is closer to a digest: [`ToMember::NotMine`].
    Pointed {
        /// The blob.
        digest: Digest,
        /// The closer node.
        closer: NodeId,
    },
    /// A member of this node learnt of a lease; it is remembered for whoever asks.
    Learnt(SignedGrant),
    /// The nodes that are live now; this one may be among them.
    View {
        /// All of them.
        live: Vec<NodeId>,
    },
    /// A node cannot be reached, or its connection ended.
    Unreachable {
        /// Who.
        node: NodeId,
    },
    /// The time that `poll_timeout` gave has come.
    TimeOut,
}

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this to a member, perhaps on this very node.
    Tell {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToMember,
    },
    /// Send this to another coordinator.
    Answer {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToCoordinator,
    },
    /// Send [`ToCoordinator::Know`]: look up whether the node holds the blob complete, and add its addresses and zone.
    Know {
        /// To whom.
        to: NodeId,
        /// The blob.
        digest: Digest,
        /// The highest lease that this node knows.
        grant: Option<SignedGrant>,
    },
    /// Nothing to be done: for the log and the metrics.
    Note(Note),
}

/// What a coordinator did, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum Note {
    /// A lease was granted.
    Granted { digest: Digest, epoch: Epoch, seed: NodeId },
    /// A lease of another coordinator was taken over, for the same seed.
    TookOver { digest: Digest, from: Epoch, seed: NodeId },
    /// A seed did not renew.
    Expired { digest: Digest, epoch: Epoch, seed: NodeId },
    /// A seed gave its lease back.
    Returned { digest: Digest, epoch: Epoch, seed: NodeId, reason: Returned },
    /// A lease of this coordinator gave way to a higher one.
    Yielded { digest: Digest, epoch: Epoch, to: Epoch },
    /// A node cannot read the origin.
    Refused { digest: Digest, node: NodeId, refusal: Refusal },
    /// All readers of a digest were told that it cannot be read.
    Failed { digest: Digest, refusal: Refusal },
    /// The members of a digest were sent to a closer node.
    HandedOver { digest: Digest, to: NodeId },
    /// A message was dropped because a limit is reached.
    Full { digest: Digest, limit: &'static str },
}

/// What a deadline is for, the most telling one where several fall together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Others were asked what they know of a digest.
    Answers,
    /// A member asks its origin.
    Probe,
    /// Members were asked what they have.
    Reports,
    /// Standbys store a grant.
    Standbys,
    /// A lease must be confirmed or ends.
    Lease,
    /// A digest rests after a failure.
    Rest,
    /// Members must be told of other neighbours.
    Notice,
    /// What is old must be forgotten.
    Sweep,
}
