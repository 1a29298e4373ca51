//! What the registry holds: repositories with their tags, manifests and blobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::Value;
use shoal_blob::{Algorithm, Digest, NameError, Reference, Repository};

use crate::{Artifact, Blob, blob::digest_of, referrer};

/// Why an artifact cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The repository or a tag does not fit the distribution-spec's grammar.
    #[error("the artifact cannot be served")]
    Name(#[from] NameError),
    /// A tag has the form of a digest.
    #[error("{0} is a digest; the artifact needs a tag such as v1")]
    Tag(Digest),
}

/// All repositories, by path.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    repositories: HashMap<String, Shelf>,
}

/// One repository.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, Manifest>,
    /// The digests of those that name another as their subject, in the order in which they were put in.
    referrers: Vec<Digest>,
    blobs: HashMap<Digest, Blob>,
}

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

impl Catalog {
    /// Puts an artifact in; a tag that was there moves to it.
    pub(crate) fn put(&mut self, artifact: &Artifact) -> Result<(), CatalogError> {
        Repository::new("localhost", &artifact.repository)?;
        for tag in &artifact.tags {
            if let Reference::Digest(digest) = tag.parse()? {
                return Err(CatalogError::Tag(digest));
            }
        }
        let shelf = self.repositories.entry(artifact.repository.clone()).or_default();
        // Asked for by either of its own digests it is found too, as registries allow.
        let own = [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| digest_of(algorithm, &artifact.manifest));
        for digest in BTreeSet::from(own).into_iter().chain([artifact.manifest_digest]) {
            let (media_type, bytes) = (artifact.media_type.clone(), artifact.manifest.clone());
            shelf.manifests.insert(digest, Manifest { digest, media_type, bytes });
        }
        if referrer::subject(&artifact.manifest).is_some() && !shelf.referrers.contains(&artifact.manifest_digest) {
            shelf.referrers.push(artifact.manifest_digest);
        }
        for tag in &artifact.tags {
            shelf.tags.insert(tag.clone(), artifact.manifest_digest);
        }
        shelf.blobs.extend(artifact.blobs.iter().map(|blob| (blob.digest(), blob.clone())));
        Ok(())
    }

    pub(crate) fn shelf(&self, repository: &str) -> Option<&Shelf> {
        self.repositories.get(repository)
    }
}

impl Shelf {
    pub(crate) fn manifest(&self, reference: &Reference) -> Option<&Manifest> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        self.manifests.get(digest)
    }

    /// The descriptors of the manifests that name this one as their subject, whether it is here or not.
    pub(crate) fn referrers(&self, subject: &Digest) -> Vec<Value> {
        let all = self.referrers.iter().filter_map(|digest| self.manifests.get(digest));
        all.filter_map(|manifest| referrer::descriptor(manifest, subject)).collect()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.blobs.get(digest)
    }

    /// Up to `count` tags after `last`, in order, and whether there are more.
    pub(crate) fn tags(&self, last: &str, count: usize) -> (Vec<&str>, bool) {
        let mut after = self.tags.keys().map(String::as_str).filter(|tag| *tag > last);
        let page = after.by_ref().take(count).collect();
        (page, after.next().is_some())
    }
}
