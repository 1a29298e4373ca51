//! Blobs to store, with everything a daemon would have to say about them.

use sha2::Digest as _;
use shoal_blob::{
    Algorithm, ClaimedChain, Digest, Layout, Midstate, PieceBuffer, PieceSet, ProvenChain, VerifiedPiece,
};
use shoal_store::{Blob, StoreConfig};

pub(crate) struct Sample {
    pub(crate) data: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) layout: Layout,
    pub(crate) pieces: Vec<VerifiedPiece>,
}

impl Sample {
    pub(crate) fn new(seed: u8, length: usize, piece_bytes: u32) -> Self {
        Self::of(Algorithm::Sha256, seed, length, piece_bytes)
    }

    pub(crate) fn of(algorithm: Algorithm, seed: u8, length: usize, piece_bytes: u32) -> Self {
        let data: Vec<u8> = (0..length).map(|i| (i * 7 + i / 256) as u8 ^ seed | 1).collect();
        let layout = Layout::with_piece_bytes(length as u64, piece_bytes).unwrap();
        let digest = match algorithm {
            Algorithm::Sha256 => Digest::Sha256(sha2::Sha256::digest(&data).into()),
            Algorithm::Sha512 => Digest::Sha512(sha2::Sha512::digest(&data).into()),
        };
        let mut at = Midstate::initial(algorithm);
        let pieces = layout.pieces().map(|index| {
            let range = layout.byte_range(index);
            let mut buffer = PieceBuffer::new(layout, index);
            buffer.push(&data[range.start as usize..range.end as usize]).unwrap();
            let piece = buffer.extend(at).unwrap();
            at = piece.link().to;
            piece
        });
        let pieces = pieces.collect();
        Self { data, digest, layout, pieces }
    }

    pub(crate) fn proven(&self) -> ProvenChain {
        let mut chain = ClaimedChain::new(self.digest, self.layout);
        for piece in &self.pieces {
            chain.close(piece).unwrap();
        }
        chain.prove().unwrap()
    }

    /// A chain that knows every midstate and has closed no link.
    pub(crate) fn chain(&self) -> ClaimedChain {
        self.proven().doubt()
    }

    pub(crate) fn set(&self, pieces: impl IntoIterator<Item = u32>) -> PieceSet {
        let mut set = PieceSet::none_of(&self.layout);
        for piece in pieces {
            set.insert(piece);
        }
        set
    }

    /// Puts pieces, each after the claim that it needs.
    pub(crate) fn put(&self, blob: &Blob, pieces: impl IntoIterator<Item = u32>) {
        for number in pieces {
            blob.append_claim(&self.claim(number)).unwrap();
            blob.put(&self.pieces[number as usize]).unwrap();
        }
    }

    pub(crate) fn put_all(&self, blob: &Blob) {
        self.put(blob, 0..self.layout.count());
        blob.complete(&self.proven()).unwrap();
    }

    /// The midstates around a piece.
    fn claim(&self, number: u32) -> Vec<u8> {
        let mut claim = number.to_le_bytes().to_vec();
        let link = self.pieces[number as usize].link();
        link.from.write_to(&mut claim);
        link.to.write_to(&mut claim);
        claim
    }

    /// What a daemon makes of the claims that it kept.
    pub(crate) fn chain_of_claims(&self, blob: &Blob) -> ClaimedChain {
        let mut chain = ClaimedChain::new(self.digest, self.layout);
        let algorithm = self.digest.algorithm();
        for claim in blob.claims().unwrap() {
            let first = u32::from_le_bytes(claim[..4].try_into().unwrap());
            let states = claim[4..].chunks(algorithm.width());
            let states: Vec<_> = states.map(|bytes| Midstate::from_bytes(algorithm, bytes).unwrap()).collect();
            chain.claim(first, &states).unwrap();
        }
        chain
    }

    /// Every readable piece has the right bytes, and no other piece can be read.
    pub(crate) fn check(&self, blob: &Blob) {
        let readable = blob.pieces();
        for index in self.layout.pieces() {
            let range = self.layout.byte_range(index);
            let right = &self.data[range.start as usize..range.end as usize];
            assert_eq!(blob.has(index), readable.has(index));
            if readable.has(index) {
                assert_eq!(blob.read_bytes(range).unwrap(), right, "piece {index}");
            } else if !range.is_empty() {
                assert!(blob.read_bytes(range).is_err(), "piece {index} can be read");
            }
        }
    }
}

pub(crate) fn config(dir: &std::path::Path, capacity: u64) -> StoreConfig {
    StoreConfig { index_cache: 1 << 20, ..StoreConfig::new(dir.join("store"), capacity) }
}
