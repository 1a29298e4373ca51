//! Which part of a node a message to a member is for.

use shoal_blob::Digest;
use shoal_proto::{
    NodeId,
    coordination::{Returned, ToCoordinator, ToMember},
};

use super::Input;

/// What this node's [`Coordinator`](super::Coordinator) must be told of a message. `NotMine` is for both.
#[must_use]
pub fn for_coordinator(from: NodeId, message: &ToMember) -> Option<Input> {
    match message {
        ToMember::Ask { digest } => Some(Input::Asked { from, digest: *digest }),
        ToMember::Keep { grant } => Some(Input::Entrusted { from, grant: grant.clone() }),
        ToMember::NotMine { digest, closer } => Some(Input::Pointed { digest: *digest, closer: *closer }),
        _ => None,
    }
}

/// The digest whose [`Member`](super::Member) a message is for.
#[must_use]
pub fn for_member(message: &ToMember) -> Option<Digest> {
    match message {
        ToMember::Ask { .. } | ToMember::Keep { .. } => None,
        ToMember::Granted { grant, .. } | ToMember::Renewed { grant, .. } => Some(grant.grant().digest),
        ToMember::Joined { digest, .. }
        | ToMember::NotMine { digest, .. }
        | ToMember::Probe { digest }
        | ToMember::Revoked { digest, .. }
        | ToMember::Survey { digest }
        | ToMember::Failed { digest, .. } => Some(*digest),
    }
}

/// What a node answers for a digest that it has no [`Member`](super::Member) for, so that nobody waits for it.
#[must_use]
pub fn unclaimed(message: &ToMember) -> Option<ToCoordinator> {
    match message {
        ToMember::Granted { grant, .. } | ToMember::Renewed { grant, .. } => {
            let (digest, epoch) = (grant.grant().digest, grant.grant().epoch);
            Some(ToCoordinator::Return { digest, epoch, reason: Returned::Unwanted })
        }
        ToMember::Joined { digest, .. } | ToMember::Probe { digest } | ToMember::Survey { digest } => {
            Some(ToCoordinator::Leave { digest: *digest })
        }
        ToMember::NotMine { .. }
        | ToMember::Revoked { .. }
        | ToMember::Ask { .. }
        | ToMember::Keep { .. }
        | ToMember::Failed { .. } => None,
    }
}
