//! Whether the disk has room for what is about to be done.

use std::path::Path;

use anyhow::{Context, bail};
use bytesize::ByteSize;

/// What each node's index, logs and the file system's own tables may take beside the layer.
const BESIDE: u64 = 64 << 20;

/// Fails unless the file system of `folder` has room for each node's data and its client's copy.
pub(super) fn check(folder: &Path, nodes: usize, bytes: u64) -> anyhow::Result<()> {
    let status =
        rustix::fs::statvfs(folder).with_context(|| format!("ask for the free space of {}", folder.display()))?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let needed = needed(nodes, bytes);
    if free < needed {
        bail!(
            "{} has {} free and {} are needed: {nodes} nodes keep the layer ({}) and each one's client writes a copy; \
             use fewer `--nodes`, a smaller `--size`, or another `--dir`",
            folder.display(),
            shown(free),
            shown(needed),
            shown(bytes)
        );
    }
    Ok(())
}

fn needed(nodes: usize, bytes: u64) -> u64 {
    (nodes as u64).saturating_mul(bytes.saturating_mul(2).saturating_add(BESIDE))
}

fn shown(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().iec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_twice_the_layer_a_node() {
        assert_eq!(needed(4, 1 << 30), 8 * (1 << 30) + 4 * BESIDE);
        let folder = std::env::temp_dir();
        assert!(check(&folder, 1, 1).is_ok());
        let error = check(&folder, 64, 1 << 60).unwrap_err().to_string();
        assert!(error.contains("64 nodes") && error.contains("--dir"), "{error}");
    }
}
