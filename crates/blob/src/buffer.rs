//! Bytes on their way in, and the piece they become once they have been checked.

use bytes::Bytes;

use crate::{Layout, Link, Midstate, PieceIndex, Spares, midstate::PieceHasher};

/// A piece being received: bytes of no standing. It hashes while it fills where the midstate before it is known, so that
/// each byte is read while still in the cache.
///
/// Invariant: `bytes` never holds more than the piece's own length.
#[derive(Debug)]
pub struct PieceBuffer {
    layout: Layout,
    index: PieceIndex,
    bytes: Vec<u8>,
    spares: Option<Spares>,
    hashing: Option<Hashing>,
}

/// How far a piece has been hashed.
#[derive(Debug)]
struct Hashing {
    from: Midstate,
    hasher: PieceHasher,
    /// How many of the piece's bytes the hasher has had.
    done: usize,
}

/// How many bytes are hashed at once: whole blocks, many datagrams' worth, and few enough to be in the nearest cache still.
const HASH_STEP: usize = 16 << 10;

/// A piece whose bytes took one midstate to another. The store accepts nothing else.
///
/// It says that the piece fits its [`Link`]; whether that link is part of the blob's chain is what
/// [`ClaimedChain::close`](crate::ClaimedChain::close) decides.
#[derive(Clone, Debug)]
pub struct VerifiedPiece {
    index: PieceIndex,
    bytes: Bytes,
    link: Link,
}

/// More bytes came for a piece than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("piece {index} has {expected} bytes and more were sent")]
pub struct Overlong {
    /// The piece.
    pub index: PieceIndex,
    /// Its length in bytes.
    pub expected: u32,
}

/// The bytes of a piece are not those that its link asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refuted {
    /// Fewer bytes came than the piece has.
    #[error("piece {index} has {expected} bytes and only {received} came")]
    Short {
        /// The piece.
        index: PieceIndex,
        /// Its length in bytes.
        expected: u32,
        /// How many bytes came.
        received: u32,
    },
    /// The bytes do not lead from one midstate to the other.
    #[error("piece {index} does not lead to the midstate that its chain claims")]
    Mismatch {
        /// The piece.
        index: PieceIndex,
    },
}

impl PieceBuffer {
    /// An empty buffer for one piece; its first bytes allocate the piece's length.
    #[must_use]
    pub fn new(layout: Layout, index: PieceIndex) -> Self {
        Self { layout, index, bytes: Vec::new(), spares: None, hashing: None }
    }

    /// The same, hashing from `from` while it fills.
    #[must_use]
    pub fn hashing_from(layout: Layout, index: PieceIndex, from: Midstate) -> Self {
        let hashing = Hashing { from, hasher: PieceHasher::new(from), done: 0 };
        Self { hashing: Some(hashing), ..Self::new(layout, index) }
    }

    /// The same, in memory that was used before where there is some, and that is used again after it.
    #[must_use]
    pub fn reusing(self, spares: &Spares) -> Self {
        Self { spares: Some(spares.clone()), ..self }
    }

    /// Which piece this is.
    #[must_use]
    pub const fn index(&self) -> PieceIndex {
        self.index
    }

    /// How many bytes are still missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.layout.piece_len(self.index) as usize - self.bytes.len()
    }

    /// Takes the next bytes, in order.
    ///
    /// # Errors
    /// [`Overlong`] when they are more than are missing; none of them is kept then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Overlong> {
        if bytes.len() > self.missing() {
            return Err(Overlong { index: self.index, expected: self.layout.piece_len(self.index) });
        }
        if self.bytes.capacity() == 0 {
            let length = self.layout.piece_len(self.index) as usize;
            self.bytes = self.spares.as_ref().map_or_else(|| Vec::with_capacity(length), |spares| spares.take(length));
        }
        self.bytes.extend_from_slice(bytes);
        if let Some(Hashing { hasher, done, .. }) = &mut self.hashing {
            let due = self.bytes.len() - self.bytes.len() % HASH_STEP;
            hasher.update(&self.bytes[*done..due]);
            *done = due;
        }
        Ok(())
    }

    /// Checks the whole piece against its link.
    ///
    /// # Errors
    /// [`Refuted`] when bytes are missing or wrong. The buffer is gone then: nobody can use it by mistake.
    pub fn verify(self, link: Link) -> Result<VerifiedPiece, Refuted> {
        let index = self.index;
        let piece = self.extend(link.from)?;
        if piece.link == link { Ok(piece) } else { Err(Refuted::Mismatch { index }) }
    }

    /// Hashes the whole piece from `from` and returns it with the midstate it leads to: how the seed makes the chain.
    ///
    /// # Errors
    /// [`Refuted::Short`] when bytes are missing.
    pub fn extend(self, from: Midstate) -> Result<VerifiedPiece, Refuted> {
        let expected = self.layout.piece_len(self.index);
        if self.missing() > 0 {
            let received = expected - u32::try_from(self.missing()).unwrap_or(expected);
            return Err(Refuted::Short { index: self.index, expected, received });
        }
        let hasher = match self.hashing {
            Some(Hashing { from: start, mut hasher, done }) if start == from => {
                hasher.update(&self.bytes[done..]);
                hasher
            }
            _ => {
                let mut hasher = PieceHasher::new(from);
                hasher.update(&self.bytes);
                hasher
            }
        };
        let to =
            if self.index == self.layout.last() { hasher.terminal(self.layout.length()) } else { hasher.boundary() };
        let bytes = match self.spares {
            Some(spares) => Bytes::from_owner(spares.used(self.bytes)),
            None => self.bytes.into(),
        };
        Ok(VerifiedPiece { index: self.index, bytes, link: Link { from, to } })
    }
}

impl VerifiedPiece {
    /// Which piece this is.
    #[must_use]
    pub const fn index(&self) -> PieceIndex {
        self.index
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The midstates it was checked between.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }
}
