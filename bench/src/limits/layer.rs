//! The layer that all measurements move.

use std::path::{Path, PathBuf};

use shoal_blob::Digest;
use shoal_registry::{Artifact, Faults, Registry};
use tokio::task::spawn_blocking;

use crate::blob_file;

/// The repository that it lies in.
pub(super) const REPOSITORY: &str = "models/shoal-bench";
/// The seed of the synthetic weights.
const SEED: u64 = 2_718_281_828;

/// A synthetic layer: as a registry has it, and as a file, which is in the page cache after it was made.
pub(super) struct Layer {
    artifact: Artifact,
    file: PathBuf,
    bytes: u64,
}

impl Layer {
    pub(super) async fn make(bytes: u64, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("layer");
        let making = spawn_blocking(move || {
            let artifact = Artifact::synthetic(REPOSITORY, "v1", bytes, SEED);
            // What is still to be written would be written while others are measured.
            blob_file::write(artifact.layer(), &file)?.sync_all()?;
            Ok(Self { artifact, file, bytes })
        });
        making.await?
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn digest(&self) -> Digest {
        self.artifact.layer().digest()
    }

    /// An origin that has it.
    pub(super) async fn origin(&self, faults: Faults) -> anyhow::Result<Registry> {
        Ok(Registry::builder().artifact(self.artifact.clone()).faults(faults).listen("127.0.0.1:0").await?)
    }

    /// Its path at an origin, and at a mirror of it.
    pub(super) fn path(&self, registry: &Registry) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}?ns={}", self.digest(), registry.addr())
    }
}
