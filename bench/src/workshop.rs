//! The folder that a measurement works in.

use std::path::Path;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use tempfile::TempDir;

/// A new folder within `dir`, on a disk that has room for so many bytes. It goes when it is dropped.
pub(crate) fn set_up(dir: &Path, needed: u64) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("shoal-bench-")
        .tempdir_in(dir)
        .with_context(|| format!("make a folder in {}; `--dir` names another", dir.display()))?;
    let status = rustix::fs::statvfs(folder.path())?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    if free < needed {
        let (free, needed) = (ByteSize(free).display().iec(), ByteSize(needed).display().iec());
        let dir = dir.display();
        bail!("{dir} has {free} free and {needed} are needed: use a smaller `--size`, or another `--dir`");
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_told() {
        let dir = std::env::temp_dir();
        assert!(set_up(&dir, 1).is_ok());
        let error = set_up(&dir, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("--size") && error.contains("--dir"), "{error}");
    }
}
