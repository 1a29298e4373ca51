//! What is known of one blob's chain, and by whose word.
//!
//! Invariant: every segment kept was signed by one who may, and none contradicts another.

use std::ops::Range;

use bytes::Bytes;
use shoal_blob::{
    ClaimedChain, Conflict, Digest, Layout, Link, Midstate, PieceIndex, PieceSet, ProvenChain, VerifiedPiece,
};
use shoal_proto::{
    Authority, Epoch, NodeId, NodeKey, Segment, SignedGrant, SignedSegment, Testimony,
    trade::{Lacks, Message},
};

use super::{
    claim::Claim,
    papers::{Papers, Rejected},
};

enum Chain {
    Claimed(ClaimedChain),
    Proven(ProvenChain),
}

/// The chain of one blob, and what was signed of it.
pub(super) struct Book {
    chain: Chain,
    digest: Digest,
    layout: Layout,
    papers: Papers,
}

impl Book {
    pub(super) fn new(digest: Digest, layout: Layout) -> Self {
        let chain = Chain::Claimed(ClaimedChain::new(digest, layout));
        Self { chain, digest, layout, papers: Papers::default() }
    }

    pub(super) fn proven(chain: ProvenChain) -> Self {
        let (digest, layout) = (*chain.digest(), *chain.layout());
        Self { chain: Chain::Proven(chain), digest, layout, papers: Papers::default() }
    }

    /// Brings back what the sidecar kept. A record that is not one of ours, or contradicts the others, is passed over.
    pub(super) fn restore(digest: Digest, layout: Layout, claims: &[Bytes]) -> Self {
        let mut book = Self::new(digest, layout);
        for claim in claims {
            match Claim::read(claim) {
                Some(Claim::Grant(grant)) => drop(book.learn_grant(&grant)),
                Some(Claim::Segment(segment)) => drop(book.learn(&segment)),
                None => {}
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
        if self.papers.knows_lease(&grant.epoch) {
            return Ok(None);
        }
        self.papers.keep_grant(signed.clone());
        Ok(Some(Claim::Grant(signed.clone()).record()))
    }

    /// What a neighbour sent along with a piece. Returns the boundaries it is about, and the record for the sidecar where
    /// it was new.
    pub(super) fn hear(&mut self, testimony: &Testimony) -> Result<(Range<u32>, Option<Bytes>), Rejected> {
        let (digest, length) = (self.digest, self.layout.length());
        let segment = testimony.segment(digest, length);
        if self.knows(&segment) {
            return Ok((segment.boundaries(), None));
        }
        let signed = testimony.signed(digest, length, |epoch| self.papers.seed(epoch)).ok_or(Rejected::NoAuthority)?;
        Ok((segment.boundaries(), self.learn(&signed)?))
    }

    /// A segment with its signer. Returns the record for the sidecar where it was new.
    pub(super) fn learn(&mut self, signed: &SignedSegment) -> Result<Option<Bytes>, Rejected> {
        if self.knows(signed.segment()) {
            // Two pieces share a midstate, and may come at once; a signature is dear.
            return Ok(None);
        }
        let segment = signed.check()?;
        if segment.digest != self.digest || segment.length != self.layout.length() {
            return Err(Rejected::OtherBlob);
        }
        if !self.papers.may_sign(signed.signer(), segment.authority) {
            return Err(Rejected::NoAuthority);
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
        let record = Claim::Segment(segment.clone()).record();
        self.papers.keep(segment);
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
        let known = |epoch: &Epoch| self.papers.knows_lease(epoch);
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
        self.chain = Chain::Claimed(ClaimedChain::new(self.digest, self.layout));
        self.papers.drop_segments();
    }

    /// What a neighbour has to be told before it may take a piece: each grant that is needed to check it, once.
    pub(super) fn untold_grants(&mut self, to: NodeId) -> Vec<Message> {
        self.papers.untold_grants(to)
    }

    /// A neighbour is gone, or begins anew: it may know no grant any longer.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.papers.forget(node);
    }

    /// What goes with a piece to one that lacks these of its midstates: segments as they were signed, none twice. Whoever
    /// has closed the chain signs what nobody has signed. `None` where one is not known here, or nobody vouches for it.
    pub(super) fn proof(&self, piece: PieceIndex, lacks: Lacks, key: &NodeKey) -> Option<Vec<SignedSegment>> {
        // Both ends of the chain are facts: they need no proof.
        let inner = 1..self.layout.count();
        let lacking = [(lacks.before, piece.get()), (lacks.behind, piece.get() + 1)];
        let needed = lacking.into_iter().filter(|(lacks, boundary)| *lacks && inner.contains(boundary));
        let (mut proof, mut unsigned): (Vec<SignedSegment>, Vec<u32>) = Default::default();
        for (_, boundary) in needed {
            match self.papers.at(boundary) {
                Some(signed) if proof.contains(signed) => {}
                Some(signed) => proof.push(signed.clone()),
                None => unsigned.push(boundary),
            }
        }
        if let Some(&first) = unsigned.first() {
            let Chain::Proven(_) = self.chain else { return None };
            let states: Vec<Midstate> = unsigned.into_iter().filter_map(|boundary| self.midstate(boundary)).collect();
            let segment = Segment::new(self.digest, self.layout.length(), Authority::Closed, first, &states);
            proof.push(segment.sign(key));
        }
        Some(proof)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use shoal_blob::{Algorithm, PieceBuffer};
    use shoal_proto::{Grant, Visibility};

    /// A blob of four pieces, the lease to read it, and nodes of which the first is its seed.
    struct Scene {
        digest: Digest,
        layout: Layout,
        pieces: Vec<VerifiedPiece>,
        nodes: [NodeKey; 4],
        grant: SignedGrant,
        epoch: Epoch,
    }

    impl Scene {
        fn new() -> Self {
            use sha2::Digest as _;
            let data: Vec<u8> = (0..(3 << 20) + 17).map(|i| (i / 7) as u8).collect();
            let digest = Digest::Sha256(sha2::Sha256::digest(&data).into());
            let layout = Layout::new(data.len() as u64).unwrap();
            let mut at = Midstate::initial(Algorithm::Sha256);
            let pieces = layout.pieces().map(|index| {
                let range = layout.byte_range(index);
                let mut buffer = PieceBuffer::new(layout, index);
                buffer.push(&data[range.start as usize..range.end as usize]).unwrap();
                let piece = buffer.extend(at).unwrap();
                at = piece.link().to;
                piece
            });
            let pieces = pieces.collect();
            let nodes = [1, 2, 3, 4].map(|seed| NodeKey::from_seed(&[seed; 32]));
            let epoch = Epoch { number: 1, coordinator: nodes[3].id() };
            let (length, duration, visibility) = (layout.length(), Duration::from_secs(3), Visibility::Public);
            let grant = Grant { digest, length, epoch, seed: nodes[0].id(), duration, visibility }.sign(&nodes[3]);
            Self { digest, layout, pieces, nodes, grant, epoch }
        }

        fn book(&self) -> Book {
            Book::new(self.digest, self.layout)
        }

        /// The book of the seed, once it has read these pieces.
        fn read(&self, pieces: std::ops::Range<usize>) -> Book {
            let mut book = self.book();
            book.learn_grant(&self.grant).unwrap();
            for piece in &self.pieces[pieces] {
                book.close(piece, Some(self.epoch), &self.nodes[0]).unwrap();
            }
            book
        }

        fn segment(&self, length: u64, state: u32) -> Segment {
            Segment::new(self.digest, length, Authority::Lease(self.epoch), 1, &[Midstate::Sha256([state; 8])])
        }
    }

    const BEFORE: Lacks = Lacks { before: true, behind: false };
    const BEHIND: Lacks = Lacks { before: false, behind: true };

    /// Sends the midstates of a piece as its stream does: those that are lacking there, before the piece itself. Returns the
    /// segments and the records for the sidecar.
    fn send(piece: &VerifiedPiece, from: &Book, key: &NodeKey, to: &mut Book) -> (Vec<SignedSegment>, Vec<Bytes>) {
        let (known, number) = (to.known(), piece.index().get());
        let lacks = Lacks { before: !known.contains(number), behind: !known.contains(number + 1) };
        let proof = from.proof(piece.index(), lacks, key).unwrap();
        let hear = |segment: &SignedSegment| {
            let (boundaries, record) = to.hear(&segment.testimony()).unwrap();
            assert_eq!(boundaries, segment.segment().boundaries());
            record
        };
        let records = proof.iter().filter_map(hear).collect();
        assert!(to.link(piece.index()).is_some(), "the piece can be checked");
        assert_eq!(to.close(piece, None, key).unwrap(), None);
        (proof, records)
    }

    /// Tells the grants that precede a Slot or Offer; returns the records for the sidecar.
    fn tell_grants(from: &mut Book, to: &mut Book, node: NodeId) -> Vec<Bytes> {
        let learn = |word| {
            let Message::Grant(grant) = word else { panic!("{word:?}") };
            to.learn_grant(&grant).unwrap()
        };
        from.untold_grants(node).into_iter().filter_map(learn).collect()
    }

    #[test]
    fn a_chain_travels_from_the_seed_over_a_relay_and_a_restart() {
        let scene = Scene::new();
        let [seed, relay, third, _] = &scene.nodes;
        let (mut at_seed, mut at_relay) = (scene.read(0..0), scene.book());
        assert!(at_seed.untold_grants(relay.id()).is_empty(), "nothing is signed under it yet");
        let mut sidecar = Vec::new();
        for piece in &scene.pieces {
            at_seed.close(piece, Some(scene.epoch), seed).unwrap();
            sidecar.extend(tell_grants(&mut at_seed, &mut at_relay, relay.id()));
            sidecar.extend(send(piece, &at_seed, seed, &mut at_relay).1);
        }
        assert_eq!(sidecar.len(), scene.pieces.len(), "a grant, and a segment for each inner boundary");
        assert!(at_seed.untold_grants(relay.id()).is_empty(), "nothing is said twice");
        at_seed.forget(relay.id());
        assert_eq!(at_seed.untold_grants(relay.id()).len(), 1, "but to one that may have forgotten it");
        assert!(at_seed.prove().is_some() && at_relay.prove().is_some());

        let mut reborn = Book::restore(scene.digest, scene.layout, &sidecar);
        assert_eq!(reborn.known(), at_relay.known());
        let mut at_third = scene.book();
        tell_grants(&mut reborn, &mut at_third, third.id());
        for piece in scene.pieces.iter().rev() {
            send(piece, &reborn, relay, &mut at_third);
        }
        assert!(at_third.prove().is_some());
    }

    #[test]
    fn each_midstate_travels_with_its_piece_once() {
        let scene = Scene::new();
        let mut books = [scene.read(0..4), scene.book(), scene.book(), scene.book()];
        // From one to the next in whatever order: each knows of headers alone what it passes on.
        for (at, order) in [[2, 0, 3, 1], [0, 1, 2, 3], [3, 1, 0, 2]].into_iter().enumerate() {
            let [from, to] = &mut books[at..=at + 1] else { unreachable!() };
            tell_grants(from, to, scene.nodes[at + 1].id());
            let mut boundaries = Vec::new();
            for piece in order {
                let (proof, _) = send(&scene.pieces[piece], from, &scene.nodes[at], to);
                assert!(proof.iter().all(|segment| segment.signer() == scene.nodes[0].id()), "as the seed signed it");
                boundaries.extend(proof.iter().flat_map(|segment| segment.segment().boundaries()));
            }
            boundaries.sort_unstable();
            assert_eq!(boundaries, [1, 2, 3]);
        }
    }

    /// Found by a seed whose lease came before its book was open: it signed midstates that nobody could place.
    #[test]
    fn nothing_is_signed_under_a_lease_that_is_not_in_the_book() {
        let scene = Scene::new();
        let [seed, other, ..] = &scene.nodes;
        let [first, second, ..] = scene.pieces.as_slice() else { unreachable!() };
        let mut book = scene.book();
        assert_eq!(book.close(first, Some(scene.epoch), seed).unwrap(), None);
        assert_eq!(book.proof(first.index(), BEHIND, seed), None, "nobody vouches for it");
        assert_eq!(book.proof(first.index(), BEFORE, seed), Some(Vec::new()), "the beginning is a fact");
        assert!(book.untold_grants(other.id()).is_empty());
        book.learn_grant(&scene.grant).unwrap();
        assert!(book.close(second, Some(scene.epoch), seed).unwrap().is_some());
        assert_eq!(book.untold_grants(other.id()).len(), 1);
        assert_eq!(book.proof(second.index(), BEHIND, seed).unwrap().len(), 1);
        assert_eq!(book.proof(second.index(), BEFORE, seed), None);
    }

    #[test]
    fn a_stranger_to_the_lease_signs_nothing() {
        let scene = Scene::new();
        let [seed, liar, ..] = &scene.nodes;
        let length = scene.layout.length();
        let mut book = scene.book();
        let honest = scene.segment(length, 1).sign(seed);
        let unplaced = book.learn(&honest).unwrap_err();
        assert!(matches!(unplaced, Rejected::NoAuthority), "its grant is not known yet");
        book.learn_grant(&scene.grant).unwrap();
        let forged = book.learn(&scene.segment(length, 1).sign(liar)).unwrap_err();
        assert!(matches!(forged, Rejected::NoAuthority));
        assert!(book.learn(&honest).unwrap().is_some());
        assert!(book.learn(&honest).unwrap().is_none());
        let other = book.learn(&scene.segment(length + 1, 1).sign(seed)).unwrap_err();
        assert!(matches!(other, Rejected::OtherBlob));
        let twice = book.learn(&scene.segment(length, 2).sign(seed)).unwrap_err();
        assert!(matches!(twice, Rejected::Conflict(_)));
        assert_eq!([unplaced, forged, other, twice].map(|why| why.blames_the_sender()), [false, false, true, false]);
    }

    #[test]
    fn blame_for_a_testimony_falls_as_for_what_it_stands_for() {
        let scene = Scene::new();
        let [seed, liar, ..] = &scene.nodes;
        let length = scene.layout.length();
        let mut book = scene.book();
        let testimony = |length, state, key: &NodeKey| scene.segment(length, state).sign(key).testimony();
        let honest = testimony(length, 1, seed);
        let unplaced = book.hear(&honest).unwrap_err();
        assert!(matches!(unplaced, Rejected::NoAuthority), "its grant is not known yet");
        book.learn_grant(&scene.grant).unwrap();
        let stranger = book.hear(&testimony(length, 1, liar)).unwrap_err();
        assert!(matches!(stranger, Rejected::NoAuthority), "there may be two grants of one lease");
        let other = book.hear(&testimony(length + 1, 1, seed)).unwrap_err();
        assert!(matches!(other, Rejected::Signature(_)), "it was signed for another length");
        assert!(book.hear(&honest).unwrap().1.is_some());
        assert_eq!(book.hear(&honest).unwrap(), (1..2, None));
        let twice = book.hear(&testimony(length, 2, seed)).unwrap_err();
        assert!(matches!(twice, Rejected::Conflict(_)));
        assert_eq!([unplaced, stranger, other, twice].map(|why| why.blames_the_sender()), [false, false, true, false]);
    }

    #[test]
    fn one_who_has_closed_the_chain_signs_what_nobody_has_signed() {
        let scene = Scene::new();
        let [seed, holder, ..] = &scene.nodes;
        let mut closed = scene.read(0..1);
        for piece in &scene.pieces[1..] {
            closed.close(piece, None, seed).unwrap();
        }
        let whole = Book::proven(closed.prove().unwrap());
        let mut at_newcomer = scene.book();
        let [first, second, third, fourth] = scene.pieces.as_slice() else { unreachable!() };
        let counts = |proof: &[SignedSegment]| proof.iter().map(|s| s.segment().count()).collect::<Vec<_>>();
        let (middle, _) = send(second, &whole, holder, &mut at_newcomer);
        assert_eq!(counts(&middle), [2], "both in one segment");
        assert_eq!((middle[0].signer(), middle[0].segment().authority), (holder.id(), Authority::Closed));
        assert_eq!(counts(&send(fourth, &whole, holder, &mut at_newcomer).0), [1]);
        for piece in [first, third] {
            assert!(send(piece, &whole, holder, &mut at_newcomer).0.is_empty());
        }

        // What the seed signed goes as it is, also from one that could sign it.
        let mixed = closed.proof(second.index(), Lacks { before: true, behind: true }, holder).unwrap();
        assert_eq!(counts(&mixed), [1, 1]);
        assert_eq!([mixed[0].signer(), mixed[1].signer()], [seed.id(), holder.id()]);
    }
}
