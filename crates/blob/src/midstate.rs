//! The states of the hash function at piece boundaries.
//!
//! SHA-2 is a Merkle-Damgård chain: `M[0]` is the initial value, `M[i+1]` is `M[i]` after compressing piece i, and the
//! last piece is compressed with the padding behind it. So `M[count]` *is* the digest, and both ends of the chain are
//! known before the first byte. (FIPS 180-4, sections 5 and 6.)

use sha2::{
    Digest as _, Sha256,
    block_api::{compress256, compress512},
};

use crate::{Algorithm, Digest};

const IV_256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const IV_512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The state of the hash function at one piece boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Midstate {
    /// A state of SHA-256.
    Sha256([u32; 8]),
    /// A state of SHA-512.
    Sha512([u64; 8]),
}

/// One step of the chain: a piece is right when it takes `from` to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The midstate where the piece begins.
    pub from: Midstate,
    /// The midstate where it ends; for the last piece, the digest.
    pub to: Midstate,
}

impl Link {
    /// Enough to see that two nodes mean the same link: the first bytes of SHA-256 of both midstates. Not of the midstates
    /// alone, which whoever signs them may choose to begin alike.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 8] {
        let mut bytes = Vec::with_capacity(128);
        self.from.write_to(&mut bytes);
        self.to.write_to(&mut bytes);
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        std::array::from_fn(|at| hash[at])
    }
}

impl Midstate {
    /// `M[0]`, with which every chain of the algorithm begins.
    #[must_use]
    pub const fn initial(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(IV_256),
            Algorithm::Sha512 => Self::Sha512(IV_512),
        }
    }

    /// `M[count]`, with which the chain of that digest ends.
    #[must_use]
    pub fn terminal(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(bytes) => Self::Sha256(words(bytes, u32::from_be_bytes)),
            Digest::Sha512(bytes) => Self::Sha512(words(bytes, u64::from_be_bytes)),
        }
    }

    /// Which algorithm this is a state of.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Appends the state, big-endian, [`Algorithm::width`] bytes: the digest's own form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sha256(words) => out.extend(words.iter().flat_map(|word| word.to_be_bytes())),
            Self::Sha512(words) => out.extend(words.iter().flat_map(|word| word.to_be_bytes())),
        }
    }

    /// Reads what [`Midstate::write_to`] wrote; `None` when the length is not the algorithm's.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        Digest::from_bytes(algorithm, bytes).map(|digest| Self::terminal(&digest))
    }
}

fn words<const WIDTH: usize, W>(bytes: &[u8], from: fn([u8; WIDTH]) -> W) -> [W; 8] {
    let (chunks, _) = bytes.as_chunks::<WIDTH>();
    std::array::from_fn(|i| from(chunks[i]))
}

/// Hashes one piece from the midstate where it begins, as its bytes come, in chunks of any size.
#[derive(Clone, Debug)]
pub(crate) struct PieceHasher {
    state: Midstate,
    /// Bytes that do not yet make a block; the first `held` of them count.
    tail: [u8; 128],
    held: usize,
}

impl PieceHasher {
    pub(crate) const fn new(from: Midstate) -> Self {
        Self { state: from, tail: [0; 128], held: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let block = 2 * self.state.algorithm().width();
        if self.held > 0 {
            let taken = bytes.len().min(block - self.held);
            self.tail[self.held..self.held + taken].copy_from_slice(&bytes[..taken]);
            self.held += taken;
            bytes = &bytes[taken..];
            if self.held < block {
                return;
            }
            let tail = self.tail;
            self.compress(&tail[..block]);
            self.held = 0;
        }
        let whole = bytes.len() - bytes.len() % block;
        self.compress(&bytes[..whole]);
        let rest = &bytes[whole..];
        self.tail[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }

    fn compress(&mut self, blocks: &[u8]) {
        match &mut self.state {
            Midstate::Sha256(state) => compress256(state, blocks.as_chunks().0),
            Midstate::Sha512(state) => compress512(state, blocks.as_chunks().0),
        }
    }

    /// The midstate behind a piece of whole blocks.
    pub(crate) fn boundary(self) -> Midstate {
        debug_assert_eq!(self.held, 0, "a piece before the last is whole blocks");
        self.state
    }

    /// The digest, as a midstate: adds the padding of a blob of `length` bytes.
    pub(crate) fn terminal(mut self, length: u64) -> Midstate {
        let block = 2 * self.state.algorithm().width();
        let bits = u128::from(length) * 8;
        let field = block / 8;
        let mut padding = vec![0u8; if self.held + 1 + field > block { 2 * block } else { block } - self.held];
        padding[0] = 0x80;
        let at = padding.len() - field;
        padding[at..].copy_from_slice(&bits.to_be_bytes()[16 - field..]);
        self.update(&padding);
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_differ_anywhere_have_other_fingerprints() {
        let state = |last| Midstate::Sha256([1, 2, 3, 4, 5, 6, 7, last]);
        let link = |from, to| Link { from: state(from), to: state(to) };
        assert_eq!(link(8, 9).fingerprint(), link(8, 9).fingerprint());
        let all = [link(8, 9), link(9, 8), link(8, 8), link(9, 9)].map(|link| link.fingerprint());
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "states that begin alike are told apart");
        }
    }
}
