//! What the owner of a node is told.

use shoal_proto::{NodeId, coordination::Coordination};

/// Something that happened on the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all events are messages")]
pub enum Event {
    /// A member said something. May come twice or out of order, and is never one of a stranger's.
    Message {
        /// Who; myself for what I sent to myself.
        from: NodeId,
        /// What.
        message: Coordination,
    },
    /// Which peers are here now: admitted, connected and answering. I am not among them.
    View {
        /// In the order of their ids.
        live: Vec<NodeId>,
    },
    /// How far the search for others has come.
    Readiness(Readiness),
    /// Something that was sent did not arrive, or nobody knows whether it did.
    Unreachable {
        /// To whom.
        node: NodeId,
    },
}

/// How far the search for others has come. Once it is ready it stays ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nobody has been found yet.
    Searching,
    /// A member let us in, everybody it led to was asked for more, and all that were found have been dialled.
    Joined {
        /// How many peers there were at that moment.
        peers: usize,
    },
    /// There is nobody to join: no bootstrap was named, or its name gave only this node's own address, three times over
    /// five seconds.
    NobodyThere,
    /// Nobody answered in time; the node goes on alone and keeps trying, and `Joined` may still follow.
    AloneAfterTimeout,
}

impl Readiness {
    /// Whether the node may begin its work.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        !matches!(self, Self::Searching)
    }
}
