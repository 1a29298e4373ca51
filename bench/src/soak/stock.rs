//! What there is to pull.

use std::net::Ipv4Addr;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use shoal_registry::{Artifact, Blob, Registry};

pub(super) const REPOSITORY: &str = "models/soak";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The shortest blob.
const LEAST: u64 = 1;

/// The blobs: many that are pulled all the time, and two that are pulled by all once, before and after.
pub(super) struct Stock {
    blobs: Vec<Blob>,
    first: Blob,
    last: Blob,
}

impl Stock {
    pub(super) fn draw(seed: u64, count: usize, largest: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut number = 0;
        let mut blob = |length| {
            number += 1;
            Blob::synthetic(length, seed.wrapping_mul(1000).wrapping_add(number), |_| ())
        };
        let blobs = (0..count).map(|_| blob(rng.random_range(LEAST..=largest))).collect();
        Self { blobs, first: blob(largest), last: blob(largest) }
    }

    /// A third of what is pulled all the time, and room for the largest in any case.
    pub(super) fn capacity(&self) -> u64 {
        (self.blobs.iter().map(Blob::len).sum::<u64>() / 3).max(2 * self.first.len())
    }

    pub(super) fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    pub(super) const fn first(&self) -> &Blob {
        &self.first
    }

    pub(super) const fn last(&self) -> &Blob {
        &self.last
    }

    /// Serves them, in this process.
    pub(super) async fn serve(&self, address: Ipv4Addr) -> anyhow::Result<Registry> {
        let all = self.blobs.iter().chain([&self.first, &self.last]);
        let artifact =
            all.fold(Artifact::new(REPOSITORY, MANIFEST_TYPE, "{}"), |artifact, blob| artifact.blob(blob.clone()));
        Ok(Registry::builder().artifact(artifact).listen((address, 0)).await?)
    }
}
