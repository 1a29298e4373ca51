//! Midstates of a blob, signed by the node that hashed it, and relayed so.

use serde::{Deserialize, Serialize};
use shoal_blob::{Algorithm, Digest, Midstate};

use crate::{Epoch, NodeId, NodeKey, Signature, SignatureError};

/// How many midstates a segment may have: the two of a piece, so that a segment fits the head of its stream.
pub const MAX_SEGMENT_STATES: usize = 2;

/// By what right a node signs midstates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// It is the seed of that lease, and hashed them while it read the origin.
    Lease(Epoch),
    /// It has closed the whole chain itself.
    Closed,
}

/// Consecutive midstates of one blob: a claim, until the chain is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// By what right it is signed.
    pub authority: Authority,
    /// The boundary of the first midstate.
    pub first: u32,
    /// The midstates, [`Algorithm::width`] bytes each.
    states: Vec<u8>,
}

/// A segment with its signer and signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSegment {
    segment: Segment,
    signer: NodeId,
    signature: Signature,
}

/// By whose word midstates are known, in so far as the receiver cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// The seed of that lease, whose name begins so: should there be two grants of one lease, the right one is found.
    Seed(Epoch, [u8; 8]),
    /// This node, which has closed the whole chain itself.
    Closer(NodeId),
}

/// A signed segment as it goes with a piece: without what its receiver knows, the blob and the seed of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    witness: Witness,
    first: u32,
    states: Vec<u8>,
    signature: Signature,
}

const KIND: &str = "segment";

impl Segment {
    /// The midstates from boundary `first` on.
    ///
    /// # Panics
    /// When there are more than [`MAX_SEGMENT_STATES`], or none.
    #[must_use]
    pub fn new(digest: Digest, length: u64, authority: Authority, first: u32, states: &[Midstate]) -> Self {
        assert!((1..=MAX_SEGMENT_STATES).contains(&states.len()), "a segment has 1 to {MAX_SEGMENT_STATES} midstates");
        let mut bytes = Vec::with_capacity(states.len() * digest.algorithm().width());
        for state in states {
            state.write_to(&mut bytes);
        }
        Self { digest, length, authority, first, states: bytes }
    }

    /// The midstates.
    #[must_use]
    pub fn states(&self) -> Vec<Midstate> {
        let algorithm: Algorithm = self.digest.algorithm();
        let states = self.states.chunks_exact(algorithm.width());
        states.filter_map(|bytes| Midstate::from_bytes(algorithm, bytes)).collect()
    }

    /// How many midstates there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        (self.states.len() / self.digest.algorithm().width()) as u32
    }

    /// The boundaries it covers.
    #[must_use]
    pub fn boundaries(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count())
    }

    /// Signs the segment.
    #[must_use]
    pub fn sign(self, key: &NodeKey) -> SignedSegment {
        SignedSegment { signer: key.id(), signature: key.sign(KIND, &self), segment: self }
    }
}

impl SignedSegment {
    /// The midstates, once the signature has been checked. Whether the signer may sign under that authority is for the
    /// caller, who knows the grants.
    ///
    /// # Errors
    /// [`SignatureError`] when the signer did not sign it, or its midstates are none, too many or cut short.
    pub fn check(&self) -> Result<&Segment, SignatureError> {
        let width = self.segment.digest.algorithm().width();
        let count = self.segment.states.len() / width;
        if !self.segment.states.len().is_multiple_of(width) || !(1..=MAX_SEGMENT_STATES).contains(&count) {
            return Err(SignatureError { kind: KIND, signer: self.signer });
        }
        self.signature.check(KIND, &self.segment, self.signer).map(|()| &self.segment)
    }

    /// The segment, unchecked: for one who signed it or has checked it before.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signer
    }

    /// The short form that goes with a piece.
    #[must_use]
    pub fn testimony(&self) -> Testimony {
        let Self { segment, signer, signature } = self;
        let witness = match segment.authority {
            Authority::Lease(epoch) => Witness::Seed(epoch, Witness::begins(*signer)),
            Authority::Closed => Witness::Closer(*signer),
        };
        Testimony { witness, first: segment.first, states: segment.states.clone(), signature: *signature }
    }
}

impl Witness {
    fn begins(seed: NodeId) -> [u8; 8] {
        *seed.as_bytes().first_chunk().expect("a name has 32 bytes")
    }
}

impl Testimony {
    /// What is testified of this blob. Nothing is checked.
    #[must_use]
    pub fn segment(&self, digest: Digest, length: u64) -> Segment {
        let authority = match self.witness {
            Witness::Seed(epoch, _) => Authority::Lease(epoch),
            Witness::Closer(_) => Authority::Closed,
        };
        Segment { digest, length, authority, first: self.first, states: self.states.clone() }
    }

    /// The segment as it was signed, to be checked, where its signer is known: `seed` says who was granted a lease.
    #[must_use]
    pub fn signed(
        &self,
        digest: Digest,
        length: u64,
        seed: impl FnOnce(&Epoch) -> Option<NodeId>,
    ) -> Option<SignedSegment> {
        let signer = match &self.witness {
            Witness::Seed(epoch, begins) => seed(epoch).filter(|seed| Witness::begins(*seed) == *begins)?,
            Witness::Closer(node) => *node,
        };
        Some(SignedSegment { segment: self.segment(digest, length), signer, signature: self.signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_segment_is_taken_whole_or_not_at_all() {
        let key = NodeKey::from_seed(&[3; 32]);
        let digest = Digest::Sha256([9; 32]);
        let states = [Midstate::Sha256([1; 8]), Midstate::Sha256([2; 8])];
        let signed = Segment::new(digest, 3 << 20, Authority::Closed, 1, &states).sign(&key);
        let bytes = postcard::to_stdvec(&signed).unwrap();
        let relayed: SignedSegment = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(relayed.check().unwrap().states(), states);
        assert_eq!(relayed.segment().boundaries(), 1..3);

        let mut forged = relayed.clone();
        forged.segment.first = 2;
        assert!(forged.check().is_err());
        let mut cut = relayed;
        cut.segment.states.pop();
        assert!(cut.check().is_err());
    }

    #[test]
    fn a_testimony_is_what_was_signed_of_the_receivers_own_blob() {
        let [seed, other] = [3, 4].map(|seed| NodeKey::from_seed(&[seed; 32]));
        let (digest, length) = (Digest::Sha256([9; 32]), 3 << 20);
        let epoch = Epoch { number: 1, coordinator: other.id() };
        let states = [Midstate::Sha256([1; 8])];
        for authority in [Authority::Lease(epoch), Authority::Closed] {
            let signed = Segment::new(digest, length, authority, 1, &states).sign(&seed);
            let bytes = postcard::to_stdvec(&signed.testimony()).unwrap();
            let testimony: Testimony = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(testimony.signed(digest, length, |_| Some(seed.id())), Some(signed.clone()));
            for (digest, length) in [(Digest::Sha256([8; 32]), length), (digest, length + 1)] {
                let wrong = testimony.signed(digest, length, |_| Some(seed.id())).unwrap();
                assert!(wrong.check().is_err(), "it says nothing of another blob");
            }
            let nobody = [None, Some(other.id())].map(|seed| testimony.signed(digest, length, |_| seed));
            let expected = (authority == Authority::Closed).then_some(signed);
            assert_eq!(nobody, [expected.clone(), expected], "no grant is known, or another");
        }
    }

    #[test]
    fn a_testimony_is_short() {
        let key = NodeKey::from_seed(&[3; 32]);
        let authority = Authority::Lease(Epoch { number: 1, coordinator: key.id() });
        let states = [Midstate::Sha256([1; 8])];
        let signed = Segment::new(Digest::Sha256([9; 32]), 10 << 30, authority, 5000, &states).sign(&key);
        assert_eq!(postcard::to_stdvec(&signed).unwrap().len(), 203);
        assert_eq!(postcard::to_stdvec(&signed.testimony()).unwrap().len(), 141);
    }
}
