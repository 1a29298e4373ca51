//! What the members of a swarm and the coordinator of its digest say to each other.
//!
//! Every message is one way and may be lost; whoever waits for an answer asks again. A node that is its own coordinator
//! says the same things to itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shoal_blob::{Digest, PieceSet};

use crate::{Epoch, NodeId, SignedGrant, Visibility};

/// How many holdings one announcement may have.
pub const MAX_HOLDINGS: usize = 1024;
/// How many neighbours one answer may have.
pub const MAX_NEIGHBOURS: usize = 64;

/// How many importers a zone may have.
pub const MAX_IMPORTERS: usize = 16;

/// A message of this plane: what is said, and to which of the two roles that every node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coordination {
    /// To the coordinator.
    ToCoordinator(ToCoordinator),
    /// To a member, or to a node that might have become one.
    ToMember(ToMember),
}

/// What a node says to the coordinator of a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// I am in the swarm of this digest; said again every 2 s while it lives.
    Join(Join),
    /// The answer to [`ToMember::Probe`].
    Probed {
        /// The blob.
        digest: Digest,
        /// What the origin said.
        outcome: Result<Probe, Refusal>,
    },
    /// I hold the lease and go on: said each second.
    Renew {
        /// The blob.
        digest: Digest,
        /// My lease.
        epoch: Epoch,
        /// How many pieces I have.
        held: u32,
        /// Which request this is, counted by me: the answer names it, so that I know from which sending to count.
        round: u32,
    },
    /// I give the lease back.
    Return {
        /// The blob.
        digest: Digest,
        /// My lease.
        epoch: Epoch,
        /// Why.
        reason: Returned,
    },
    /// The answer to [`ToMember::Survey`].
    Report {
        /// The blob.
        digest: Digest,
        /// What I have of it.
        held: PieceSet,
    },
    /// No neighbour of mine has pieces that I want.
    Orphaned {
        /// The blob.
        digest: Digest,
    },
    /// I am no longer in the swarm.
    Leave {
        /// The blob.
        digest: Digest,
    },
    /// I hold these blobs, complete: said at start, on completion, when you become the closest, and every 5 minutes.
    Announce {
        /// At most [`MAX_HOLDINGS`].
        holdings: Vec<Holding>,
        /// Where my data plane is reached.
        addresses: Vec<SocketAddr>,
        /// Where I am; may be empty.
        zone: String,
    },
    /// I evicted a blob that I had announced.
    Dropped {
        /// The blob.
        digest: Digest,
    },
    /// The answer to [`ToMember::Ask`].
    Know {
        /// The blob.
        digest: Digest,
        /// The highest grant that I have seen.
        grant: Option<SignedGrant>,
        /// That I hold it complete.
        holding: Option<Probe>,
        /// Where my data plane is reached.
        addresses: Vec<SocketAddr>,
        /// Where I am; may be empty.
        zone: String,
    },
    /// The answer to [`ToMember::Keep`].
    Kept {
        /// The blob.
        digest: Digest,
        /// The lease that I keep in mind.
        epoch: Epoch,
    },
}

/// What the coordinator of a digest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMember {
    /// The answer to a Join; said again whenever something in it changes.
    Joined {
        /// The blob.
        digest: Digest,
        /// Its length in bytes and visibility, once some member has found them.
        found: Option<Probe>,
        /// With whom to trade, at most [`MAX_NEIGHBOURS`]; nothing where the Join said that it is known.
        neighbours: Option<Vec<Neighbour>>,
        /// The lease, where there is one and the Join did not say it.
        grant: Option<SignedGrant>,
        /// Who brings pieces into the member's zone, where there are several.
        importers: Option<Importers>,
        /// How many members there are: the more, the more rarely each of them joins again.
        members: u32,
    },
    /// I am not this digest's coordinator: that node is closer.
    NotMine {
        /// The blob.
        digest: Digest,
        /// Who should be asked.
        closer: NodeId,
    },
    /// Ask your origin how long the blob is: you are next to be the seed.
    Probe {
        /// The blob.
        digest: Digest,
    },
    /// You are the seed.
    Granted {
        /// The lease.
        grant: SignedGrant,
        /// What other members have: read only the rest. A set of size 0 takes over the lease that the seed has, and
        /// changes nothing in that.
        elsewhere: PieceSet,
    },
    /// Your lease goes on.
    Renewed {
        /// The lease, with a new duration from when you sent your Renew.
        grant: SignedGrant,
        /// Which of your requests this answers.
        round: u32,
    },
    /// You hold no lease of mine: stop reading the origin.
    Revoked {
        /// The blob.
        digest: Digest,
        /// The lease.
        epoch: Epoch,
    },
    /// Tell me what you have: a new seed will be appointed.
    Survey {
        /// The blob.
        digest: Digest,
    },
    /// Do you hold this blob, or know of a lease?
    Ask {
        /// The blob.
        digest: Digest,
    },
    /// Keep this grant in mind: you are a standby.
    Keep {
        /// The lease.
        grant: SignedGrant,
    },
    /// Nobody can read the blob at its origin: readers get an error.
    Failed {
        /// The blob.
        digest: Digest,
        /// What the last node that tried was told.
        refusal: Refusal,
    },
}

/// The members of one zone through which pieces come into it, ranked anew for each piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importers {
    /// Grows with each change: an older list is not taken for a newer one.
    pub version: u64,
    /// At most [`MAX_IMPORTERS`].
    pub nodes: Vec<NodeId>,
}

/// That a node is in a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes, where the node knows it of its own.
    pub length: Option<u64>,
    /// Whether it wants what it has not.
    pub wants: bool,
    /// Whether it could read the origin: it knows a repository that has the blob.
    pub can_seed: bool,
    /// What it has; an empty set of size 0 while the length is not known.
    pub held: PieceSet,
    /// Where its data plane is reached, at most 8.
    pub addresses: Vec<SocketAddr>,
    /// Where it is; may be empty.
    pub zone: String,
    /// The highest grant it has seen.
    pub highest: Option<SignedGrant>,
    /// The [`mark`] of the neighbours that it was told of last, so that they are not told again.
    pub neighbours: u64,
}

/// A number that tells lists of neighbours apart: who is in it, and how each is reached. FNV-1a over their form on the wire.
#[must_use]
pub fn mark(neighbours: &[Neighbour]) -> u64 {
    let bytes = postcard::to_stdvec(neighbours).unwrap_or_default();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a node found at its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The blob's length in bytes.
    pub length: u64,
    /// Whether the origin asked for a credential.
    pub visibility: Visibility,
}

/// Somebody to trade with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Who.
    pub node: NodeId,
    /// Where its data plane is reached.
    pub addresses: Vec<SocketAddr>,
}

/// A blob that a node holds complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes, and whether its origin asked for a credential; private where the holder does not know.
    pub found: Probe,
}

/// Why a node cannot read a blob at its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// 401.
    #[error("the origin wants a credential that this node does not have (401)")]
    Unauthorized,
    /// 403.
    #[error("the origin denies this node access (403)")]
    Forbidden,
    /// 404.
    #[error("the origin does not have it (404)")]
    NotFound,
    /// The origin cannot be reached, or answers with errors.
    #[error("the origin cannot be reached or fails")]
    Unavailable,
    /// No byte for 10 s.
    #[error("the origin sends nothing")]
    Stalled,
    /// The origin's bytes are not what the digest says.
    #[error("the origin's bytes do not match the digest")]
    WrongBytes,
    /// The node's own policy forbids asking this registry.
    #[error("this registry is not among those the node may ask")]
    NotConfigured,
    /// The node cannot take the blob: no room, or a broken disk.
    #[error("the node has no room for the blob")]
    NoRoom,
}

/// Why a seed gives its lease back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// Every piece has a second holder, or nobody else wants it.
    Done,
    /// Its clients went away, or it shuts down.
    Unwanted,
    /// It cannot read on.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Grant, NodeKey, codec};

    const DIGEST: Digest = Digest::Sha256([7; 32]);
    const LENGTH: u64 = 1 << 40;
    const PIECES: u32 = 65_536;

    fn addresses() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([10, 0, 1, 2], 5051))]
    }

    fn bytes(message: &Coordination) -> usize {
        codec::encode(message, codec::MAX_COORDINATION_BODY).unwrap().len()
    }

    /// What docs/scale.md reckons with: a blob of 1 TiB, nodes with one address and a zone of seven letters.
    #[test]
    fn what_is_said_of_a_tebibyte_weighs_so_much() {
        let key = NodeKey::from_seed(&[3; 32]);
        let epoch = Epoch { number: 1, coordinator: key.id() };
        let (visibility, duration) = (Visibility::Public, Duration::from_secs(3));
        let grant = Grant { digest: DIGEST, length: LENGTH, epoch, seed: key.id(), duration, visibility }.sign(&key);
        let set = |has: fn(&u32) -> bool| {
            let mut set = PieceSet::empty(PIECES);
            (0..PIECES).filter(has).for_each(|piece| {
                set.insert(piece);
            });
            set
        };
        let (half, odd) = (set(|piece| *piece < PIECES / 2), set(|piece| piece % 2 == 1));
        let join = |held: &PieceSet| {
            let join = Join {
                digest: DIGEST,
                length: Some(LENGTH),
                wants: true,
                can_seed: true,
                held: held.clone(),
                addresses: addresses(),
                zone: "rack-17".into(),
                highest: Some(grant.clone()),
                neighbours: u64::MAX / 3,
            };
            bytes(&Coordination::ToCoordinator(ToCoordinator::Join(join)))
        };
        assert_eq!((join(&PieceSet::full(PIECES)), join(&half), join(&odd)), (250, 5884, 10_492));
        let report = ToCoordinator::Report { digest: DIGEST, held: half };
        assert_eq!(bytes(&Coordination::ToCoordinator(report)), 5678);
        let joined = |count: u8, grant: Option<SignedGrant>| {
            let neighbour = |n| Neighbour { node: NodeId::from_bytes([n; 32]), addresses: addresses() };
            let neighbours = (count > 0).then(|| (0..count).map(neighbour).collect());
            let found = Some(Probe { length: LENGTH, visibility });
            bytes(&Coordination::ToMember(ToMember::Joined {
                digest: DIGEST,
                found,
                neighbours,
                grant,
                importers: None,
                members: 1000,
            }))
        };
        assert_eq!(
            (joined(0, None), joined(16, Some(grant.clone())), joined(24, Some(grant.clone()))),
            (53, 865, 1185)
        );
        assert_eq!(bytes(&Coordination::ToMember(ToMember::Survey { digest: DIGEST })), 40);
    }
}
