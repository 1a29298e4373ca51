//! The raw parts: hashing and writing, alone.

use std::{fs::File, hint::black_box, os::unix::fs::FileExt, path::Path};

use anyhow::Context;
use sha2::{Digest as _, Sha256};
use shoal_registry::Noise;

use super::cost::Cost;

/// As much as a piece of a layer of this size has.
const PIECE: usize = 1 << 20;
/// More than a core's caches hold, so that the bytes come from memory.
const PIECES: usize = 64;

/// Bytes to work on.
pub(super) struct Material(Vec<u8>);

impl Material {
    pub(super) fn make() -> Self {
        let mut bytes = vec![0; PIECE * PIECES];
        Noise::new(2).fill(0, &mut bytes);
        Self(bytes)
    }

    fn pieces(&self, bytes: u64) -> impl Iterator<Item = (u64, &[u8])> {
        (0..bytes).step_by(PIECE).zip(self.0.chunks(PIECE).cycle()).map(move |(at, piece)| {
            let length = (bytes - at).min(PIECE as u64) as usize;
            (at, &piece[..length])
        })
    }

    /// SHA-256 of so many bytes.
    pub(super) fn hash(&self, bytes: u64) -> anyhow::Result<Cost> {
        Cost::of(bytes, || {
            let mut hasher = Sha256::new();
            self.pieces(bytes).for_each(|(_, piece)| hasher.update(black_box(piece)));
            black_box(hasher.finalize());
            Ok(())
        })
    }

    /// Writes so many bytes into a new file and removes it, so that whoever writes next finds memory that was used before. A
    /// virtual machine has its memory from its host page by page, when it is first touched; that costs ten times as much as
    /// writing to it does, and whoever happens to touch it first is charged.
    pub(super) fn warm(&self, bytes: u64, path: &Path) -> anyhow::Result<()> {
        self.write(bytes, path).map(drop)
    }

    /// Writes so many bytes into a new file, piece by piece at its place; the file is removed.
    pub(super) fn write(&self, bytes: u64, path: &Path) -> anyhow::Result<Cost> {
        let file = File::create_new(path).with_context(|| format!("make {}", path.display()))?;
        let cost =
            Cost::of(bytes, || Ok(self.pieces(bytes).try_for_each(|(at, piece)| file.write_all_at(piece, at))?));
        std::fs::remove_file(path)?;
        cost
    }
}
