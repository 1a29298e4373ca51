//! By whose word the midstates of one blob are known, and who was told of the leases.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use shoal_blob::Conflict;
use shoal_proto::{Authority, Epoch, NodeId, SignatureError, SignedGrant, SignedSegment, trade::Message};

/// Why a peer's segment or grant was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("it is about another blob or another length")]
    OtherBlob,
    #[error("its signer is not the seed of any lease that is known here")]
    NoAuthority,
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl Rejected {
    /// Whether whoever passed it on must have known that it is not to be taken.
    pub(super) const fn blames_the_sender(&self) -> bool {
        match self {
            Self::Signature(_) | Self::OtherBlob => true,
            // It may know another lease, and nobody can say yet which midstate is right.
            Self::NoAuthority | Self::Conflict(_) => false,
        }
    }
}

/// Grants, and the segments that were signed by their right.
///
/// Invariant: every segment was signed by the seed of a grant that is here too, or by one who had closed the chain.
#[derive(Default)]
pub(super) struct Papers {
    grants: BTreeMap<Epoch, SignedGrant>,
    segments: Vec<SignedSegment>,
    /// Which segment covers a boundary.
    by_boundary: HashMap<u32, usize>,
    /// The leases under which they were signed.
    signed_under: BTreeSet<Epoch>,
    told: HashSet<(NodeId, Epoch)>,
}

impl Papers {
    pub(super) fn knows_lease(&self, epoch: &Epoch) -> bool {
        self.grants.contains_key(epoch)
    }

    pub(super) fn keep_grant(&mut self, grant: SignedGrant) {
        self.grants.insert(grant.grant().epoch, grant);
    }

    /// Whether a node may sign midstates by that right.
    pub(super) fn may_sign(&self, signer: NodeId, authority: Authority) -> bool {
        match authority {
            Authority::Closed => true,
            Authority::Lease(epoch) => self.seed(&epoch) == Some(signer),
        }
    }

    /// Who was granted that lease.
    pub(super) fn seed(&self, epoch: &Epoch) -> Option<NodeId> {
        self.grants.get(epoch).map(|grant| grant.grant().seed)
    }

    pub(super) fn keep(&mut self, segment: SignedSegment) {
        for boundary in segment.segment().boundaries() {
            self.by_boundary.entry(boundary).or_insert(self.segments.len());
        }
        if let Authority::Lease(epoch) = segment.segment().authority {
            self.signed_under.insert(epoch);
        }
        self.segments.push(segment);
    }

    /// The segment that has the midstate at a boundary.
    pub(super) fn at(&self, boundary: u32) -> Option<&SignedSegment> {
        self.by_boundary.get(&boundary).map(|&at| &self.segments[at])
    }

    /// Drops all that was signed; the leases stay.
    pub(super) fn drop_segments(&mut self) {
        *self = Self { grants: std::mem::take(&mut self.grants), ..Self::default() };
    }

    /// What to say to a neighbour before it may take a piece: the grants under which the midstates here were signed, each
    /// once.
    pub(super) fn untold_grants(&mut self, to: NodeId) -> Vec<Message> {
        let Self { grants, signed_under, told, .. } = self;
        let untold = signed_under.iter().filter(|&&epoch| told.insert((to, epoch)));
        untold.filter_map(|epoch| Some(Message::Grant(Box::new(grants.get(epoch)?.clone())))).collect()
    }

    /// A neighbour is gone, or begins anew: it may know nothing any longer.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.told.retain(|(told, _)| *told != node);
    }
}
