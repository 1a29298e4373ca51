//! The raw parts: hashing and writing, alone.

use std::{fs::File, hint::black_box, os::unix::fs::FileExt, path::Path, time::Duration};

use anyhow::Context;
use sha2::{Digest as _, Sha256};
use shoal_registry::Noise;

use super::cost::Cost;

/// As much as a piece of a layer of this size has.
const PIECE: usize = 1 << 20;
/// More than a core's caches hold, so that the bytes come from memory.
const PIECES: usize = 64;

/// Memory is given back in such steps, about as fast as a fetch takes it.
const GIVE_BACK: u64 = 16 << 20;
const GIVE_BACK_EVERY: Duration = Duration::from_millis(30);

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

    /// Writes so many bytes into a file that has no name, piece by piece at its place.
    pub(super) fn write(&self, bytes: u64, folder: &Path) -> anyhow::Result<(File, Cost)> {
        let file = tempfile::tempfile_in(folder).with_context(|| format!("make a file in {}", folder.display()))?;
        let cost =
            Cost::of(bytes, || Ok(self.pieces(bytes).try_for_each(|(at, piece)| file.write_all_at(piece, at))?))?;
        Ok((file, cost))
    }
}

/// Gives the memory that holds a file back to the system, little by little, so that whoever writes meanwhile finds memory that
/// was used before. Blocks until all is given back.
///
/// A virtual machine has its memory from its host, page by page, when it is touched for the first time, and gives back what
/// has been free for two seconds. Such a page costs ten times what writing to it does, and whoever happens to touch it is
/// charged.
pub(super) fn give_back(file: &File) -> std::io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        left = left.saturating_sub(GIVE_BACK);
        file.set_len(left)?;
        std::thread::sleep(GIVE_BACK_EVERY);
    }
    Ok(())
}
