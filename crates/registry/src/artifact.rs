//! A manifest with the blobs that it names, under a repository and any number of tags.

use bytes::Bytes;
use shoal_blob::Digest;

use crate::{Blob, blob::digest_of, model};

/// What is put into the registry: one manifest, byte for byte, its tags, and the blobs beside it. Cheap to clone.
///
/// Nothing is checked against anything: the manifest may name blobs that are not here, and the other way round. That the
/// names fit the grammar is checked when the artifact is put into a registry.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub(crate) repository: String,
    pub(crate) tags: Vec<String>,
    pub(crate) media_type: String,
    pub(crate) manifest: Bytes,
    pub(crate) manifest_digest: Digest,
    pub(crate) blobs: Vec<Blob>,
}

impl Artifact {
    /// An artifact with this manifest and, so far, no tag and no blob.
    #[must_use]
    pub fn new(repository: &str, media_type: &str, manifest: impl Into<Bytes>) -> Self {
        let manifest = manifest.into();
        Self {
            repository: repository.to_owned(),
            tags: Vec::new(),
            media_type: media_type.to_owned(),
            manifest_digest: digest_of(shoal_blob::Algorithm::Sha256, &manifest),
            manifest,
            blobs: Vec::new(),
        }
    }

    /// A ModelPack artifact whose one weight layer is [`Blob::synthetic`]. The layer is the last of [`Self::blobs`];
    /// [`Self::layer`] returns it. Hashes the layer on the calling thread.
    #[must_use]
    pub fn synthetic(repository: &str, tag: &str, weight_bytes: u64, seed: u64) -> Self {
        Self::synthetic_reporting(repository, tag, weight_bytes, seed, |_| ())
    }

    /// The same; `progress` is told now and then how many of the layer's bytes have been hashed.
    #[must_use]
    pub fn synthetic_reporting(
        repository: &str,
        tag: &str,
        weight_bytes: u64,
        seed: u64,
        progress: impl FnMut(u64),
    ) -> Self {
        Self::model(repository, tag, &[("model.bin", Blob::synthetic(weight_bytes, seed, progress))])
    }

    /// A ModelPack artifact (CNCF model-spec) of weight layers, each with the path of the file that it becomes.
    #[must_use]
    pub fn model(repository: &str, tag: &str, layers: &[(&str, Blob)]) -> Self {
        let config = Blob::new(model::config(repository, tag, layers));
        let artifact = Self::new(repository, model::IMAGE_MANIFEST, model::manifest(&config, layers));
        let artifact = artifact.tag(tag).blob(config);
        layers.iter().fold(artifact, |artifact, (_, layer)| artifact.blob(layer.clone()))
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tags.push(tag.to_owned());
        self
    }

    /// Adds a blob to the repository.
    #[must_use]
    pub fn blob(mut self, blob: Blob) -> Self {
        self.blobs.push(blob);
        self
    }

    /// Serves the manifest under a digest that need not be its own: how a registry that lies is made.
    #[must_use]
    pub fn claiming(mut self, manifest_digest: Digest) -> Self {
        self.manifest_digest = manifest_digest;
        self
    }

    /// The same artifact in another repository.
    #[must_use]
    pub fn under(mut self, repository: &str) -> Self {
        repository.clone_into(&mut self.repository);
        self
    }

    /// The repository's path.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The manifest's bytes.
    #[must_use]
    pub const fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// The digest that the manifest is served under: its SHA-256 unless another was claimed.
    #[must_use]
    pub const fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// The blobs in the order in which they were added; for a model the config comes first.
    #[must_use]
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The blob that was added last: for a synthetic model its weight layer.
    ///
    /// # Panics
    /// When the artifact has no blob.
    #[must_use]
    pub fn layer(&self) -> &Blob {
        self.blobs.last().expect("the artifact has at least one blob")
    }
}
