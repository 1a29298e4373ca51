//! Manifests: small, immutable, kept whole in the index under their digests.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use shoal_blob::{Algorithm, Digest};

use crate::{
    IndexError, StoreError,
    index::{Index, Table},
    place::Place,
    record::digest_of,
};

/// The longest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// The most that all manifests together have.
const MOST_BYTES: u64 = 64 << 20;
/// The most manifests.
const MOST: usize = 16 << 10;
const MAX_CONTENT_TYPE: usize = 255;

/// A manifest as it came from its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The registry's own `Content-Type`.
    pub content_type: String,
    /// The exact bytes, which its digest is of.
    pub bytes: Bytes,
}

/// Why a manifest was not kept.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than 4 MiB.
    #[error("the manifest {digest} has {bytes} bytes; at most {MAX_MANIFEST_BYTES} are taken")]
    TooLong {
        /// Its name.
        digest: Digest,
        /// Its length.
        bytes: usize,
    },
    /// Its content type is longer than 255 bytes.
    #[error("the manifest {digest} has a content type of {bytes} bytes; at most {MAX_CONTENT_TYPE} are taken")]
    ContentType {
        /// Its name.
        digest: Digest,
        /// The length of its content type.
        bytes: usize,
    },
    /// Its bytes are not those that the digest names.
    #[error("what came as the manifest {digest} has another digest, {found}; ask the registry again")]
    Mismatch {
        /// The name.
        digest: Digest,
        /// What the bytes have.
        found: Box<Digest>,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    content_type: &'a str,
    bytes: &'a [u8],
}

/// How large each manifest is and when it was last used: the age since the last start, for the index is not told of reads.
pub(crate) struct Manifests {
    place: Arc<Place>,
    ages: Mutex<Ages>,
}

#[derive(Debug, Default)]
struct Ages {
    /// Length in bytes, and a number that grows with each use.
    known: HashMap<Digest, (u64, u64)>,
    bytes: u64,
    uses: u64,
}

impl Manifests {
    pub(crate) fn open(place: Arc<Place>) -> Result<Self, IndexError> {
        let mut ages = Ages::default();
        let mut strange = Vec::new();
        place.index.scan(Table::Manifests, |key, value| match digest_of(key) {
            Some(digest) => ages.enter(digest, value.len() as u64),
            None => strange.push(key.to_vec()),
        })?;
        strange.iter().try_for_each(|key| place.index.remove(Table::Manifests, key))?;
        Ok(Self { place, ages: Mutex::new(ages) })
    }

    pub(crate) fn put(&self, digest: &Digest, content_type: &str, bytes: &[u8]) -> Result<(), ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { digest: *digest, bytes: bytes.len() });
        }
        if content_type.len() > MAX_CONTENT_TYPE {
            return Err(ManifestError::ContentType { digest: *digest, bytes: content_type.len() });
        }
        let found = hash(digest.algorithm(), bytes);
        if found != *digest {
            return Err(ManifestError::Mismatch { digest: *digest, found: Box::new(found) });
        }
        let _open = self.place.enter()?;
        let value = postcard::to_stdvec(&Kept { content_type, bytes }).expect("text and bytes can always be written");
        let mut ages = self.ages.lock();
        for old in ages.make_room(value.len() as u64) {
            self.drop_known(&mut ages, &old)?;
        }
        let length = value.len() as u64;
        self.place.index.put(Table::Manifests, digest.as_bytes(), value).map_err(StoreError::from)?;
        ages.enter(*digest, length);
        Ok(())
    }

    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        let Some(value) = self.place.index.get(Table::Manifests, digest.as_bytes())? else { return Ok(None) };
        let mut ages = self.ages.lock();
        match postcard::from_bytes::<Kept<'_>>(&value) {
            Ok(Kept { content_type, bytes }) if hash(digest.algorithm(), bytes) == *digest => {
                ages.enter(*digest, value.len() as u64);
                Ok(Some(Manifest { content_type: content_type.to_owned(), bytes: Bytes::copy_from_slice(bytes) }))
            }
            _ => {
                tracing::error!(%digest, "a manifest was damaged on disk and is dropped");
                self.drop_known(&mut ages, digest)?;
                Ok(None)
            }
        }
    }

    fn drop_known(&self, ages: &mut Ages, digest: &Digest) -> Result<(), StoreError> {
        let index: &Index = &self.place.index;
        index.remove(Table::Manifests, digest.as_bytes())?;
        ages.strike(digest);
        Ok(())
    }

    /// How many there are and how many bytes they have.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let ages = self.ages.lock();
        (ages.known.len() as u64, ages.bytes)
    }
}

impl Ages {
    fn enter(&mut self, digest: Digest, bytes: u64) {
        self.strike(&digest);
        self.uses += 1;
        self.bytes += bytes;
        self.known.insert(digest, (bytes, self.uses));
    }

    fn strike(&mut self, digest: &Digest) {
        if let Some((bytes, _)) = self.known.remove(digest) {
            self.bytes -= bytes;
        }
    }

    /// The least recently used that must go before `more` bytes may come.
    fn make_room(&self, more: u64) -> Vec<Digest> {
        let fits = |bytes: u64, count: usize| bytes + more <= MOST_BYTES && count < MOST;
        let (mut bytes, mut count) = (self.bytes, self.known.len());
        if fits(bytes, count) {
            return Vec::new();
        }
        let mut by_use: Vec<_> = self.known.iter().map(|(digest, &(bytes, used))| (used, *digest, bytes)).collect();
        by_use.sort_unstable_by_key(|&(used, ..)| used);
        let goes = by_use.into_iter().take_while(|&(_, _, its)| {
            let must = !fits(bytes, count);
            (bytes, count) = (bytes - its, count - 1);
            must
        });
        goes.map(|(_, digest, _)| digest).collect()
    }
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::Sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::Sha512(Sha512::digest(bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut ages = Ages::default();
        let digest = |n: u8| Digest::Sha256([n; 32]);
        for n in 0..16 {
            ages.enter(digest(n), 4 << 20);
        }
        assert_eq!(ages.bytes, MOST_BYTES);
        ages.enter(digest(0), 4 << 20);
        assert_eq!(ages.make_room(5 << 20), [digest(1), digest(2)]);
        assert_eq!(ages.bytes, MOST_BYTES);
        ages.strike(&digest(7));
        assert_eq!(ages.make_room(4 << 20), []);
    }
}
