//! A blob of the embedded registry as a file.

use std::{fs::File, io::Write, path::Path};

use anyhow::Context;
use shoal_registry::Blob;

const STEP_BYTES: usize = 1 << 20;

/// Writes a blob into a new file. It is in the page cache then, and not synced.
pub(crate) fn write(blob: &Blob, path: &Path) -> anyhow::Result<File> {
    let written = File::create_new(path).and_then(|mut file| {
        (0..blob.len()).step_by(STEP_BYTES).try_for_each(|at| file.write_all(&blob.read(at, STEP_BYTES)))?;
        Ok(file)
    });
    written.with_context(|| format!("write {} into {}", blob.digest(), path.display()))
}
