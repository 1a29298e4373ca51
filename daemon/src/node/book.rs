//! What is known of one blob's chain, by whose word, and who was told.
//!
//! Invariant: every segment kept was signed by the seed of a grant that is kept too, or by one who had closed the chain;
//! none contradicts another.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shoal_blob::{
    ClaimedChain, Conflict, Digest, Layout, Link, Midstate, PieceIndex, PieceSet, ProvenChain, VerifiedPiece,
};
use shoal_proto::{
    Authority, Epoch, MAX_SEGMENT_STATES, NodeId, NodeKey, Segment, SignatureError, SignedGrant, SignedSegment,
    Visibility, codec, trade::Message,
};

/// One record of the sidecar: what is needed to check and to relay the chain again after a restart.
#[derive(Serialize, Deserialize)]
enum Claim {
    Grant(SignedGrant),
    Segment(SignedSegment),
}

/// Why a peer's segment or grant was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("it is about another blob or another length")]
    OtherBlob,
    #[error("node {signer} is not the seed of any lease that is known here")]
    NoAuthority { signer: NodeId },
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

enum Chain {
    Claimed(ClaimedChain),
    Proven(ProvenChain),
}

/// The chain of one blob, the signed segments it was made of, and what each neighbour has been sent of them.
pub(super) struct Book {
    chain: Chain,
    digest: Digest,
    layout: Layout,
    grants: BTreeMap<Epoch, SignedGrant>,
    segments: Vec<SignedSegment>,
    /// Which segment covers a boundary.
    by_boundary: HashMap<u32, usize>,
    told_grants: HashSet<(NodeId, Epoch)>,
    told_segments: HashSet<(NodeId, usize)>,
}

impl Book {
    pub(super) fn new(digest: Digest, layout: Layout) -> Self {
        Self::with(Chain::Claimed(ClaimedChain::new(digest, layout)), digest, layout)
    }

    pub(super) fn proven(chain: ProvenChain) -> Self {
        let (digest, layout) = (*chain.digest(), *chain.layout());
        Self::with(Chain::Proven(chain), digest, layout)
    }

    fn with(chain: Chain, digest: Digest, layout: Layout) -> Self {
        Self {
            chain,
            digest,
            layout,
            grants: BTreeMap::new(),
            segments: Vec::new(),
            by_boundary: HashMap::new(),
            told_grants: HashSet::new(),
            told_segments: HashSet::new(),
        }
    }

    /// Brings back what the sidecar kept. A record that is not one of ours, or contradicts the others, is passed over.
    pub(super) fn restore(digest: Digest, layout: Layout, claims: &[Bytes]) -> Self {
        let mut book = Self::new(digest, layout);
        for claim in claims {
            match codec::decode(claim) {
                Ok(Claim::Grant(grant)) => drop(book.learn_grant(&grant)),
                Ok(Claim::Segment(segment)) => drop(book.learn(&segment)),
                Err(_) => {}
            }
        }
        book
    }

    /// The chain while it is a claim, for a recheck of what is at rest.
    pub(super) fn claimed_mut(&mut self) -> Option<&mut ClaimedChain> {
        match &mut self.chain {
            Chain::Claimed(chain) => Some(chain),
            Chain::Proven(_) => None,
        }
    }

    /// The boundaries whose midstates are known.
    pub(super) fn known(&self) -> PieceSet {
        match &self.chain {
            Chain::Claimed(chain) => chain.known().clone(),
            Chain::Proven(_) => PieceSet::full(self.layout.count() + 1),
        }
    }

    pub(super) fn link(&self, piece: PieceIndex) -> Option<Link> {
        match &self.chain {
            Chain::Claimed(chain) => chain.link(piece),
            Chain::Proven(chain) => Some(chain.link(piece)),
        }
    }

    pub(super) fn midstate(&self, boundary: u32) -> Option<Midstate> {
        match &self.chain {
            Chain::Claimed(chain) => chain.midstate(boundary),
            Chain::Proven(chain) => {
                let end = (boundary == self.layout.count()).then(|| Midstate::terminal(&self.digest));
                self.layout.piece(boundary).map(|piece| chain.link(piece).from).or(end)
            }
        }
    }

    /// A grant that a coordinator or a neighbour told of. Returns the record for the sidecar where it was new.
    pub(super) fn learn_grant(&mut self, signed: &SignedGrant) -> Result<Option<Bytes>, Rejected> {
        let grant = signed.check()?;
        if grant.digest != self.digest || grant.length != self.layout.length() {
            return Err(Rejected::OtherBlob);
        }
        // A renewal is the same lease again: the first word about it suffices.
        if self.grants.contains_key(&grant.epoch) {
            return Ok(None);
        }
        self.grants.insert(grant.epoch, signed.clone());
        Ok(Some(record(&Claim::Grant(signed.clone()))))
    }

    /// A segment that a neighbour relayed. Returns the record for the sidecar where it was new.
    pub(super) fn learn(&mut self, signed: &SignedSegment) -> Result<Option<Bytes>, Rejected> {
        if self.knows(signed.segment()) {
            // Everybody relays: most come more than once, and a signature is dear.
            return Ok(None);
        }
        let segment = signed.check()?;
        if segment.digest != self.digest || segment.length != self.layout.length() {
            return Err(Rejected::OtherBlob);
        }
        let signer = signed.signer();
        let has_authority = match segment.authority {
            Authority::Closed => true,
            Authority::Lease(epoch) => self.grants.get(&epoch).is_some_and(|grant| grant.grant().seed == signer),
        };
        if !has_authority {
            return Err(Rejected::NoAuthority { signer });
        }
        let Chain::Claimed(chain) = &mut self.chain else { return Ok(None) };
        if !chain.claim(segment.first, &segment.states())? {
            return Ok(None);
        }
        Ok(Some(self.keep(signed.clone())))
    }

    fn knows(&self, segment: &Segment) -> bool {
        let about_this = segment.digest == self.digest && segment.length == self.layout.length();
        about_this
            && segment
                .boundaries()
                .zip(segment.states())
                .all(|(boundary, state)| self.midstate(boundary) == Some(state))
    }

    fn keep(&mut self, segment: SignedSegment) -> Bytes {
        let at = self.segments.len();
        for boundary in segment.segment().boundaries() {
            self.by_boundary.entry(boundary).or_insert(at);
        }
        let record = record(&Claim::Segment(segment.clone()));
        self.segments.push(segment);
        record
    }

    /// Notes that a piece, verified here, closes its link. Signs the midstate behind it where this node is the first to
    /// know it, by the right of its lease. Returns the record for the sidecar then.
    pub(super) fn close(
        &mut self,
        piece: &VerifiedPiece,
        lease: Option<Epoch>,
        key: &NodeKey,
    ) -> Result<Option<Bytes>, Conflict> {
        let Chain::Claimed(chain) = &mut self.chain else { return Ok(None) };
        let boundary = piece.index().get() + 1;
        let first_to_know = chain.midstate(boundary).is_none();
        chain.close(piece)?;
        let known = |epoch: &Epoch| self.grants.contains_key(epoch);
        let Some(epoch) = lease.filter(|epoch| first_to_know && known(epoch)) else { return Ok(None) };
        let (length, authority) = (self.layout.length(), Authority::Lease(epoch));
        let segment = Segment::new(self.digest, length, authority, boundary, &[piece.link().to]).sign(key);
        Ok(Some(self.keep(segment)))
    }

    /// The proof, once every link is closed; from then on the chain is proven.
    pub(super) fn prove(&mut self) -> Option<ProvenChain> {
        let Chain::Claimed(chain) = &self.chain else { return None };
        let proven = chain.prove()?;
        self.chain = Chain::Proven(proven.clone());
        Some(proven)
    }

    /// Drops every claim: the last link did not close.
    pub(super) fn fall(&mut self) {
        let grants = std::mem::take(&mut self.grants);
        *self = Self::new(self.digest, self.layout);
        self.grants = grants;
    }

    /// What to say to a neighbour so that it knows the midstates at these boundaries: segments as they were signed, each
    /// grant before what was signed under it, nothing twice.
    pub(super) fn tell(&mut self, to: NodeId, boundaries: std::ops::Range<u32>, key: &NodeKey) -> Vec<Message> {
        let mut words = Vec::new();
        let mut unsigned: Vec<u32> = Vec::new();
        for boundary in boundaries {
            let Some(&at) = self.by_boundary.get(&boundary) else {
                unsigned.push(boundary);
                continue;
            };
            if !self.told_segments.insert((to, at)) {
                continue;
            }
            let segment = &self.segments[at];
            if let Authority::Lease(epoch) = segment.segment().authority
                && let Some(grant) = self.grants.get(&epoch)
                && self.told_grants.insert((to, epoch))
            {
                words.push(Message::Grant(grant.clone()));
            }
            words.push(Message::Chain(segment.clone()));
        }
        words.extend(self.sign_closed(&unsigned, key));
        words
    }

    /// Whoever has closed the chain may sign it.
    fn sign_closed(&self, boundaries: &[u32], key: &NodeKey) -> Vec<Message> {
        if !matches!(self.chain, Chain::Proven(_)) {
            return Vec::new();
        }
        boundaries
            .chunk_by(|a, b| a + 1 == *b)
            .flat_map(|run| run.chunks(MAX_SEGMENT_STATES))
            .map(|run| {
                let states: Vec<Midstate> = run.iter().filter_map(|&boundary| self.midstate(boundary)).collect();
                let segment = Segment::new(self.digest, self.layout.length(), Authority::Closed, run[0], &states);
                Message::Chain(segment.sign(key))
            })
            .collect()
    }

    /// A neighbour is gone: if it comes back, it may know nothing any longer.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.told_grants.retain(|(told, _)| *told != node);
        self.told_segments.retain(|(told, _)| *told != node);
    }
}

/// To whom the origin served the blob, where a grant among these records says so.
pub(super) fn visibility(claims: &[Bytes]) -> Option<Visibility> {
    claims.iter().find_map(|claim| match codec::decode(claim) {
        Ok(Claim::Grant(grant)) => Some(grant.grant().visibility),
        _ => None,
    })
}

fn record(claim: &Claim) -> Bytes {
    let frame = codec::encode(claim, codec::MAX_TRADE_BODY).expect("a segment is bounded");
    Bytes::from(frame).slice(codec::HEAD_BYTES..)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use shoal_blob::{Algorithm, PieceBuffer};
    use shoal_proto::Grant;

    const PIECE: usize = 1 << 20;

    fn data() -> Vec<u8> {
        (0..3 * PIECE + 17).map(|i| (i / 7) as u8).collect()
    }

    fn digest(data: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::Sha256(sha2::Sha256::digest(data).into())
    }

    fn pieces(data: &[u8], layout: Layout) -> Vec<VerifiedPiece> {
        let mut at = Midstate::initial(Algorithm::Sha256);
        let read = layout.pieces().map(|index| {
            let range = layout.byte_range(index);
            let mut buffer = PieceBuffer::new(layout, index);
            buffer.push(&data[range.start as usize..range.end as usize]).unwrap();
            let piece = buffer.extend(at).unwrap();
            at = piece.link().to;
            piece
        });
        read.collect()
    }

    fn grant(digest: Digest, length: u64, seed: &NodeKey, coordinator: &NodeKey) -> SignedGrant {
        let epoch = Epoch { number: 1, coordinator: coordinator.id() };
        let duration = Duration::from_secs(3);
        Grant { digest, length, epoch, seed: seed.id(), duration, visibility: Visibility::Public }.sign(coordinator)
    }

    #[test]
    fn a_chain_travels_from_the_seed_over_a_relay_and_a_restart() {
        let (seed, relay, third) = ([1; 32], [2; 32], [3; 32]);
        let (seed, relay, third) = (NodeKey::from_seed(&seed), NodeKey::from_seed(&relay), NodeKey::from_seed(&third));
        let data = data();
        let (digest, layout) = (digest(&data), Layout::new(data.len() as u64).unwrap());
        let pieces = pieces(&data, layout);
        let signed = grant(digest, layout.length(), &seed, &relay);
        let epoch = signed.grant().epoch;

        let mut at_seed = Book::new(digest, layout);
        at_seed.learn_grant(&signed).unwrap();
        for piece in &pieces {
            at_seed.close(piece, Some(epoch), &seed).unwrap();
        }
        assert!(at_seed.prove().is_some());
        let words = at_seed.tell(relay.id(), 1..layout.count(), &seed);
        assert!(matches!(words[0], Message::Grant(_)), "the grant comes first");
        assert!(at_seed.tell(relay.id(), 1..layout.count(), &seed).is_empty(), "nothing is said twice");

        let mut at_relay = Book::new(digest, layout);
        let mut sidecar = Vec::new();
        for word in words {
            let record = match word {
                Message::Grant(grant) => at_relay.learn_grant(&grant).unwrap(),
                Message::Chain(segment) => at_relay.learn(&segment).unwrap(),
                other => panic!("{other:?}"),
            };
            sidecar.extend(record);
        }
        assert_eq!(at_relay.known().held(), layout.count() + 1);

        let mut reborn = Book::restore(digest, layout, &sidecar);
        assert_eq!(reborn.known(), at_relay.known());
        let words = reborn.tell(third.id(), 1..layout.count(), &relay);
        assert_eq!(words.len() as u32, layout.count(), "a grant and a segment for each inner boundary");
    }

    /// Found by a seed whose lease came before its book was open: it signed midstates that nobody could place.
    #[test]
    fn nothing_is_signed_under_a_lease_that_is_not_in_the_book() {
        let (seed, other) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let data = data();
        let (digest, layout) = (digest(&data), Layout::new(data.len() as u64).unwrap());
        let pieces = pieces(&data, layout);
        let signed = grant(digest, layout.length(), &seed, &other);
        let mut book = Book::new(digest, layout);
        assert_eq!(book.close(&pieces[0], Some(signed.grant().epoch), &seed).unwrap(), None);
        assert!(book.tell(other.id(), 1..2, &seed).is_empty());
        book.learn_grant(&signed).unwrap();
        assert!(book.close(&pieces[1], Some(signed.grant().epoch), &seed).unwrap().is_some());
        let words = book.tell(other.id(), 2..3, &seed);
        assert!(matches!(words.as_slice(), [Message::Grant(_), Message::Chain(_)]));
    }

    #[test]
    fn a_stranger_to_the_lease_signs_nothing() {
        let (seed, liar) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let layout = Layout::new(3 << 20).unwrap();
        let digest = Digest::Sha256([5; 32]);
        let signed = grant(digest, layout.length(), &seed, &seed);
        let authority = Authority::Lease(signed.grant().epoch);
        let state = [Midstate::Sha256([1; 8])];
        let mut book = Book::new(digest, layout);
        let honest = Segment::new(digest, layout.length(), authority, 1, &state).sign(&seed);
        assert!(matches!(book.learn(&honest), Err(Rejected::NoAuthority { .. })), "its grant is not known yet");
        book.learn_grant(&signed).unwrap();
        let forged = Segment::new(digest, layout.length(), authority, 1, &state).sign(&liar);
        assert!(matches!(book.learn(&forged), Err(Rejected::NoAuthority { .. })));
        assert!(book.learn(&honest).unwrap().is_some());
        assert!(book.learn(&honest).unwrap().is_none());
        let other = Segment::new(digest, layout.length() + 1, authority, 1, &state).sign(&seed);
        assert!(matches!(book.learn(&other), Err(Rejected::OtherBlob)));
        let twice = Segment::new(digest, layout.length(), authority, 1, &[Midstate::Sha256([2; 8])]).sign(&seed);
        assert!(matches!(book.learn(&twice), Err(Rejected::Conflict(_))));
    }

    #[test]
    fn one_who_has_closed_the_chain_signs_it_himself() {
        let (holder, newcomer) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let data = data();
        let (digest, layout) = (digest(&data), Layout::new(data.len() as u64).unwrap());
        let mut chain = ClaimedChain::new(digest, layout);
        for piece in pieces(&data, layout) {
            chain.close(&piece).unwrap();
        }
        let mut at_holder = Book::proven(chain.prove().unwrap());
        let words = at_holder.tell(newcomer.id(), 1..layout.count(), &holder);
        let [Message::Chain(segment)] = words.as_slice() else { panic!("{words:?}") };
        let mut at_newcomer = Book::new(digest, layout);
        at_newcomer.learn(segment).unwrap();
        assert_eq!(at_newcomer.known(), at_holder.known());
    }
}
