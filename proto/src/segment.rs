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
}
