//! What is pulled: its name, and the manifest as far as the demonstration reads it.

use anyhow::{Context, bail};
use serde::Deserialize;
use shoal_blob::{Digest, Reference, Repository};

/// An image or artifact of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) repository: Repository,
    pub(super) reference: Reference,
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Image {
    /// Reads `REPO:TAG` or `REPO@DIGEST`.
    pub(super) fn read(registry: &str, text: &str) -> anyhow::Result<Self> {
        let expected = || format!("`--image` = {text}: expected REPO:TAG or REPO@DIGEST, such as library/alpine:3");
        let (path, reference) = text.split_once('@').or_else(|| text.rsplit_once(':')).with_context(expected)?;
        let reference: Reference = reference.parse().with_context(expected)?;
        if text.contains('@') != matches!(reference, Reference::Digest(_)) {
            bail!("{}", expected());
        }
        Ok(Self { repository: Repository::new(registry, path).with_context(expected)?, reference })
    }
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes)
            .context("it is not the manifest of one image; name one of an index by its digest, as in REPO@sha256:…")?;
        if manifest.layers.is_empty() {
            bail!("the manifest has no layer");
        }
        Ok(manifest)
    }

    /// The largest layer: that with the weights.
    pub(super) fn weight(&self) -> &Descriptor {
        self.layers.iter().max_by_key(|layer| layer.size).expect("a manifest without a layer is not read")
    }

    /// All blobs, each once, the weight layer last, with a name for a file.
    pub(super) fn blobs(&self) -> Vec<(String, &Descriptor)> {
        let weight = self.weight();
        let mut blobs = vec![("config".to_owned(), &self.config)];
        for (number, layer) in self.layers.iter().enumerate() {
            if layer.digest != weight.digest && !blobs.iter().any(|(_, blob)| blob.digest == layer.digest) {
                blobs.push((format!("layer-{number}"), layer));
            }
        }
        blobs.push(("layer".to_owned(), weight));
        blobs
    }

    /// How many bytes all its blobs have.
    pub(super) fn bytes(&self) -> u64 {
        self.blobs().iter().fold(0, |sum: u64, (_, blob)| sum.saturating_add(blob.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_registry::{Artifact, Blob};

    #[test]
    fn reads_names_with_tags_and_digests() {
        let image = Image::read("127.0.0.1:5000", "models/a:v1").unwrap();
        assert_eq!(image.repository.to_string(), "127.0.0.1:5000/models/a");
        assert_eq!(image.reference.to_string(), "v1");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Image::read("r.io", &format!("a@{digest}")).unwrap().reference.to_string(), digest);
        for text in ["", "a", "a:", ":v1", "A:v1", "a@v1"] {
            assert!(
                matches!(Image::read("r.io", text), Err(error) if error.to_string().contains("REPO:TAG")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_largest_layer_comes_last_and_each_blob_once() {
        let (small, large) = (Blob::new(vec![1; 10]), Blob::new(vec![2; 30]));
        let layers = [("a", large.clone()), ("b", small.clone()), ("c", small)];
        let artifact = Artifact::model("models/a", "v1", &layers);
        let manifest = Manifest::read(artifact.manifest()).unwrap();
        assert_eq!(manifest.weight().digest, large.digest());
        let names: Vec<_> = manifest.blobs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["config", "layer-1", "layer"]);
        assert_eq!(manifest.bytes(), 40 + artifact.blobs()[0].len());
        assert!(Manifest::read(br#"{"manifests":[]}"#).is_err());
    }
}
