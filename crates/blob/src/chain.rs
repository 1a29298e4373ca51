//! The list of a blob's midstates: first claimed, then proven.
//!
//! Anybody can make up a midstate and a piece that fits it, so a list is a *claim* until every link from the initial
//! value to the digest has been closed by a piece that was checked against it. Then SHA-256(blob) = digest, by definition,
//! without reading the blob a second time.

use std::ops::Range;

use crate::{Digest, Layout, Link, Midstate, PieceIndex, PieceSet, VerifiedPiece};

/// Midstates by boundary: boundary `i` lies before piece `i`, boundary `count` is the digest.
///
/// Invariant: the first and the last are always known; they are facts, not claims.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boundaries {
    digest: Digest,
    layout: Layout,
    /// `width` bytes a boundary, zeros where it is not known: 2 MiB for the 65,537 of a blob of 1 TB.
    states: Vec<u8>,
    known: PieceSet,
}

impl Boundaries {
    fn new(digest: Digest, layout: Layout) -> Self {
        let count = layout.count();
        let width = digest.algorithm().width();
        let mut this =
            Self { digest, layout, states: vec![0; (count as usize + 1) * width], known: PieceSet::empty(count + 1) };
        this.set(0, &Midstate::initial(digest.algorithm()));
        this.set(count, &Midstate::terminal(&digest));
        this
    }

    fn slot(&self, boundary: u32) -> Range<usize> {
        let width = self.digest.algorithm().width();
        let start = boundary as usize * width;
        start..start + width
    }

    fn get(&self, boundary: u32) -> Option<Midstate> {
        self.known
            .contains(boundary)
            .then(|| Midstate::from_bytes(self.digest.algorithm(), &self.states[self.slot(boundary)]))
            .flatten()
    }

    fn set(&mut self, boundary: u32, state: &Midstate) {
        let mut bytes = Vec::with_capacity(self.digest.algorithm().width());
        state.write_to(&mut bytes);
        let slot = self.slot(boundary);
        self.states[slot].copy_from_slice(&bytes);
        self.known.insert(boundary);
    }

    fn link(&self, piece: PieceIndex) -> Option<Link> {
        Some(Link { from: self.get(piece.get())?, to: self.get(piece.get() + 1)? })
    }
}

/// A list of midstates of which some may be missing and any may be a lie.
#[derive(Clone, Debug)]
pub struct ClaimedChain {
    boundaries: Boundaries,
    closed: PieceSet,
}

/// A list of midstates of which every link has been closed: the blob's bytes are what its digest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenChain(Boundaries);

/// A midstate that contradicts what the chain has at that boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the midstate at boundary {boundary} differs from the one that is known")]
pub struct Conflict {
    /// Where.
    pub boundary: u32,
}

impl ClaimedChain {
    /// A chain of which only the two ends are known.
    #[must_use]
    pub fn new(digest: Digest, layout: Layout) -> Self {
        let closed = PieceSet::none_of(&layout);
        Self { boundaries: Boundaries::new(digest, layout), closed }
    }

    /// The blob's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.boundaries.digest
    }

    /// How the blob is cut.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.boundaries.layout
    }

    /// The midstate at a boundary from 0 to the number of pieces, where one is known.
    #[must_use]
    pub fn midstate(&self, boundary: u32) -> Option<Midstate> {
        self.boundaries.get(boundary)
    }

    /// The boundaries whose midstates are known: a set of one more than there are pieces.
    #[must_use]
    pub const fn known(&self) -> &PieceSet {
        &self.boundaries.known
    }

    /// The link a piece must close, where both its midstates are known.
    #[must_use]
    pub fn link(&self, piece: PieceIndex) -> Option<Link> {
        self.boundaries.link(piece)
    }

    /// The first boundary, counted from 0 without a gap, whose midstate is *not* known; the number of pieces plus one when
    /// all are. A hasher that goes in order starts one before it.
    #[must_use]
    pub fn frontier(&self) -> u32 {
        let known = &self.boundaries.known;
        known.first_missing(0).unwrap_or(known.size())
    }

    /// Adds midstates for the boundaries from `first` on. Returns whether any of them was new.
    ///
    /// # Errors
    /// [`Conflict`] when one differs from what is known, or lies beyond the last boundary; nothing is added then.
    pub fn claim(&mut self, first: u32, states: &[Midstate]) -> Result<bool, Conflict> {
        let algorithm = self.digest().algorithm();
        for (boundary, state) in (u64::from(first)..).zip(states) {
            let boundary = u32::try_from(boundary).unwrap_or(u32::MAX);
            let beyond = boundary > self.layout().count() || state.algorithm() != algorithm;
            if beyond || self.midstate(boundary).is_some_and(|known| known != *state) {
                return Err(Conflict { boundary });
            }
        }
        let mut new = false;
        for (boundary, state) in (first..).zip(states) {
            if !self.boundaries.known.contains(boundary) {
                self.boundaries.set(boundary, state);
                new = true;
            }
        }
        Ok(new)
    }

    /// Notes that a piece closes its link, and claims the midstates it was checked between where they were not known.
    /// Returns whether the link was open until now.
    ///
    /// # Errors
    /// [`Conflict`] when the piece was checked under other midstates than the chain has: it must be hashed again.
    pub fn close(&mut self, piece: &VerifiedPiece) -> Result<bool, Conflict> {
        self.close_link(piece.index(), piece.link())
    }

    pub(crate) fn close_link(&mut self, piece: PieceIndex, link: Link) -> Result<bool, Conflict> {
        self.claim(piece.get(), &[link.from, link.to])?;
        Ok(self.closed.insert(piece.get()))
    }

    /// The pieces whose links have been closed.
    #[must_use]
    pub const fn closed(&self) -> &PieceSet {
        &self.closed
    }

    /// Drops every claim, and with it every closed link: a list has fallen. The two ends stay.
    pub fn fall(&mut self) {
        *self = Self::new(*self.digest(), *self.layout());
    }

    /// The same chain, proven; `None` while a link is open.
    #[must_use]
    pub fn prove(&self) -> Option<ProvenChain> {
        self.closed.is_full().then(|| ProvenChain(self.boundaries.clone()))
    }
}

impl ProvenChain {
    /// The blob's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// How the blob is cut.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The link of a piece.
    #[must_use]
    pub fn link(&self, piece: PieceIndex) -> Link {
        self.0.link(piece).expect("a proven chain knows every boundary")
    }

    /// All midstates as bytes, boundary 0 first, [`crate::Algorithm::width`] bytes each: what the store keeps.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.states
    }

    /// Brings back what [`ProvenChain::as_bytes`] gave: for the store alone, which keeps it under a checksum. `None` when
    /// the number of bytes or one of the two ends is not the blob's.
    #[must_use]
    pub fn restore(digest: Digest, layout: Layout, bytes: &[u8]) -> Option<Self> {
        let mut boundaries = Boundaries::new(digest, layout);
        let ends_fit = bytes.len() == boundaries.states.len()
            && bytes[boundaries.slot(0)] == boundaries.states[boundaries.slot(0)]
            && bytes[boundaries.slot(layout.count())] == boundaries.states[boundaries.slot(layout.count())];
        if !ends_fit {
            return None;
        }
        boundaries.states.copy_from_slice(bytes);
        boundaries.known = PieceSet::full(layout.count() + 1);
        Some(Self(boundaries))
    }

    /// The same list with every link open again: what a receiver makes of it, or a node that doubts its disk.
    #[must_use]
    pub fn doubt(&self) -> ClaimedChain {
        ClaimedChain { boundaries: self.0.clone(), closed: PieceSet::none_of(self.layout()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, PieceBuffer, Refuted};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256, Sha512};

    fn digest_of(algorithm: Algorithm, data: &[u8]) -> Digest {
        match algorithm {
            Algorithm::Sha256 => Digest::Sha256(Sha256::digest(data).into()),
            Algorithm::Sha512 => Digest::Sha512(Sha512::digest(data).into()),
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn piece(data: &[u8], layout: Layout, index: PieceIndex, chunk: usize) -> PieceBuffer {
        let range = layout.byte_range(index);
        let mut buffer = PieceBuffer::new(layout, index);
        for part in data[range.start as usize..range.end as usize].chunks(chunk) {
            buffer.push(part).unwrap();
        }
        buffer
    }

    /// Makes the chain in order, as the seed does.
    fn hashed(algorithm: Algorithm, data: &[u8], layout: Layout, chunk: usize) -> (Midstate, Vec<VerifiedPiece>) {
        let mut at = Midstate::initial(algorithm);
        let pieces = layout.pieces().map(|index| {
            let mut buffer = PieceBuffer::hashing_from(layout, index, at);
            let range = layout.byte_range(index);
            for part in data[range.start as usize..range.end as usize].chunks(chunk) {
                buffer.push(part).unwrap();
            }
            let verified = buffer.extend(at).unwrap();
            at = verified.link().to;
            verified
        });
        let pieces = pieces.collect();
        (at, pieces)
    }

    #[test]
    fn ends_in_the_digest_at_every_awkward_length() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for base in [0usize, 55, 56, 63, 64, 111, 112, 119, 127, 128, 1024, 2048, 4096] {
                for length in [base.saturating_sub(1), base, base + 1] {
                    let data = bytes(length);
                    let layout = Layout::with_piece_bytes(length as u64, 1024).unwrap();
                    let digest = digest_of(algorithm, &data);
                    for chunk in [1, 7, 64, 4096] {
                        let (end, _) = hashed(algorithm, &data, layout, chunk);
                        assert_eq!(end, Midstate::terminal(&digest), "{algorithm:?}, {length} bytes by {chunk}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_chain_closed_in_any_order_proves_the_blob(
            data in proptest::collection::vec(any::<u8>(), 0..6000),
            wide in any::<bool>(),
            chunk in 1usize..3000,
            keys in proptest::collection::vec(any::<u32>(), 64),
        ) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let layout = Layout::with_piece_bytes(data.len() as u64, 256).unwrap();
            let digest = digest_of(algorithm, &data);
            let (_, pieces) = hashed(algorithm, &data, layout, chunk);

            let mut chain = ClaimedChain::new(digest, layout);
            for verified in &pieces {
                chain.claim(verified.index().get() + 1, &[verified.link().to]).unwrap();
            }
            prop_assert_eq!(chain.frontier(), layout.count() + 1);
            let mut order: Vec<_> = layout.pieces().collect();
            order.sort_by_key(|index| keys[index.get() as usize % keys.len()]);
            for index in order {
                prop_assert!(chain.prove().is_none(), "a link is still open");
                let link = chain.link(index).unwrap();
                let verified = piece(&data, layout, index, chunk).verify(link).unwrap();
                prop_assert!(chain.close(&verified).unwrap());
            }
            let proven = chain.prove().unwrap();
            let restored = ProvenChain::restore(digest, layout, proven.as_bytes());
            prop_assert_eq!(restored, Some(proven));
        }

        #[test]
        fn a_wrong_byte_is_refuted(
            data in proptest::collection::vec(any::<u8>(), 1..4000),
            at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            let layout = Layout::with_piece_bytes(data.len() as u64, 512).unwrap();
            let (_, pieces) = hashed(Algorithm::Sha256, &data, layout, 4096);
            let at = at.index(data.len());
            let index = layout.piece_at(at as u64).unwrap();
            let mut wrong = data.clone();
            wrong[at] ^= flip;
            let link = pieces[index.get() as usize].link();
            prop_assert_eq!(
                piece(&wrong, layout, index, 4096).verify(link).unwrap_err(),
                Refuted::Mismatch { index }
            );
        }
    }

    #[test]
    fn a_contradicting_claim_changes_nothing() {
        let data = bytes(4096);
        let layout = Layout::with_piece_bytes(4096, 1024).unwrap();
        let digest = digest_of(Algorithm::Sha256, &data);
        let (_, pieces) = hashed(Algorithm::Sha256, &data, layout, 4096);
        let mut chain = ClaimedChain::new(digest, layout);
        chain.close(&pieces[1]).unwrap();
        let lie = Midstate::Sha256([7; 8]);
        assert_eq!(chain.claim(2, &[lie]), Err(Conflict { boundary: 2 }));
        assert_eq!(chain.claim(3, &[lie, lie]), Err(Conflict { boundary: 4 }));
        assert_eq!(chain.claim(5, &[lie]), Err(Conflict { boundary: 5 }));
        assert_eq!(chain.known().iter().collect::<Vec<_>>(), [0, 1, 2, 4]);
        assert!(chain.close(&pieces[0]).unwrap());
        assert_eq!(chain.frontier(), 3);
        chain.fall();
        assert_eq!(chain.closed().held(), 0);
    }

    #[test]
    fn too_many_and_too_few_bytes_are_told() {
        let layout = Layout::with_piece_bytes(1500, 1024).unwrap();
        let last = layout.last();
        let mut buffer = PieceBuffer::new(layout, last);
        buffer.push(&[0; 400]).unwrap();
        assert_eq!(buffer.push(&[0; 77]).unwrap_err().expected, 476);
        let short = buffer.extend(Midstate::initial(Algorithm::Sha256)).unwrap_err();
        assert_eq!(short, Refuted::Short { index: last, expected: 476, received: 400 });
    }
}
