//! A blob that the registry serves: a digest, and bytes that may or may not fit it.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256, Sha512};
use shoal_blob::{Algorithm, Digest};

use crate::Noise;

/// How much is generated and hashed at a time: small enough to stay in a core's cache.
const STEP_BYTES: usize = 256 * 1024;

/// A blob: its digest and its bytes, in memory or computed from a seed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    digest: Digest,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Memory(Bytes),
    Synthetic { noise: Noise, length: u64 },
}

impl Blob {
    /// The given bytes under their SHA-256 digest.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self::with_algorithm(Algorithm::Sha256, bytes)
    }

    /// The given bytes under their digest of that algorithm.
    #[must_use]
    pub fn with_algorithm(algorithm: Algorithm, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: digest_of(algorithm, &bytes), content: Content::Memory(bytes) }
    }

    /// The given bytes under a digest that need not be theirs: how a registry that lies is made.
    #[must_use]
    pub fn claiming(digest: Digest, bytes: impl Into<Bytes>) -> Self {
        Self { digest, content: Content::Memory(bytes.into()) }
    }

    /// `length` bytes of [`Noise`] with that seed under their SHA-256 digest; they take no memory and no disk.
    ///
    /// The digest is computed here, on the calling thread, at about 1.5 GB/s in a release build; `progress` is told
    /// after each 256 KiB how many bytes have been hashed.
    #[must_use]
    pub fn synthetic(length: u64, seed: u64, mut progress: impl FnMut(u64)) -> Self {
        let noise = Noise::new(seed);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; STEP_BYTES];
        let mut offset = 0;
        while offset < length {
            let step = usize::try_from(length - offset).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
            noise.fill(offset, &mut buffer[..step]);
            hasher.update(&buffer[..step]);
            offset += step as u64;
            progress(offset);
        }
        Self { digest: Digest::Sha256(hasher.finalize().into()), content: Content::Synthetic { noise, length } }
    }

    /// The same bytes under a digest that need not be theirs, without hashing them: for a blob so long that nobody will come to
    /// its end.
    #[must_use]
    pub const fn synthetic_claiming(digest: Digest, length: u64, seed: u64) -> Self {
        Self { digest, content: Content::Synthetic { noise: Noise::new(seed), length } }
    }

    /// The digest under which it is served.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Synthetic { length, .. } => *length,
        }
    }

    /// Up to `length` bytes from `offset` on; fewer where the blob ends, none beyond.
    #[must_use]
    pub fn read(&self, offset: u64, length: usize) -> Bytes {
        self.read_with(offset, length, &mut BytesMut::new())
    }

    /// The same, with a buffer that is used again once the bytes handed out before have been dropped.
    pub(crate) fn read_with(&self, offset: u64, length: usize, buffer: &mut BytesMut) -> Bytes {
        let length = self.len().saturating_sub(offset).min(length as u64) as usize;
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(start..start + length)
            }
            Content::Synthetic { noise, .. } => {
                buffer.resize(length, 0);
                noise.fill(offset, buffer);
                buffer.split().freeze()
            }
        }
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::Sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::Sha512(Sha512::digest(bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_synthetic_blob_has_the_digest_of_its_bytes() {
        for length in [0, 1, 63, STEP_BYTES as u64 - 1, STEP_BYTES as u64, 3 * STEP_BYTES as u64 + 5] {
            let mut told = Vec::new();
            let blob = Blob::synthetic(length, 7, |done| told.push(done));
            let bytes = blob.read(0, usize::MAX);
            assert_eq!(bytes.len() as u64, length);
            assert_eq!(blob.digest(), Blob::new(bytes).digest());
            assert_eq!(told.last().copied().unwrap_or(0), length);
        }
    }

    proptest! {
        #[test]
        fn reads_at_any_offset_equal_the_sequential_stream(
            length in 0u64..20_000, seed: u64, cuts in prop::collection::vec(1usize..5000, 1..8), start in 0u64..21_000,
        ) {
            let synthetic = Blob::synthetic(length, seed, |_| ());
            let whole = synthetic.read(0, usize::MAX);
            let in_memory = Blob::new(whole.clone());
            let mut buffer = BytesMut::new();
            let mut at = start;
            let mut read = Vec::new();
            for cut in cuts {
                let bytes = synthetic.read_with(at, cut, &mut buffer);
                prop_assert_eq!(&bytes, &in_memory.read(at, cut));
                at += bytes.len() as u64;
                read.extend_from_slice(&bytes);
            }
            let start = (start as usize).min(whole.len());
            prop_assert_eq!(&read[..], &whole[start..start + read.len()]);
        }
    }
}
