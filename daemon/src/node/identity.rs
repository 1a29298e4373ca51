//! The node's own key, kept in its data folder.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use rand::TryRng;
use shoal_proto::NodeKey;
use zeroize::Zeroizing;

/// Reads the key, or makes one at the first start.
///
/// # Errors
/// When the file cannot be read or written, or is not 32 bytes long: it is never replaced silently, for the node would
/// become another one.
pub(super) fn of_node(data_dir: &Path) -> anyhow::Result<NodeKey> {
    let path = data_dir.join("identity");
    let said = |doing: &str| format!("{doing} the node's key {}", path.display());
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let mode = fs::metadata(&path).with_context(|| said("look at"))?.permissions().mode() & 0o7777;
            anyhow::ensure!(
                mode & 0o007 == 0,
                "the node's key {0} can be read by every user of this machine (mode {mode:04o}), who may have taken it: remove it \
                 to become a new node, or `chmod 600 {0}` if nobody else was here",
                path.display()
            );
            let seed = bytes.as_slice().try_into().ok();
            let seed: &[u8; 32] = seed.with_context(|| {
                format!(
                    "the node's key {} is not 32 bytes long; restore it, or remove it to become a new node",
                    path.display()
                )
            })?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut seed = Zeroizing::new([0; 32]);
            rand::rngs::SysRng.try_fill_bytes(seed.as_mut()).context("take randomness from the system")?;
            let aside = path.with_extension("new");
            let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
            let written = written.and_then(|mut file| file.write_all(seed.as_ref()).and_then(|()| file.sync_all()));
            written.and_then(|()| fs::rename(&aside, &path)).with_context(|| said("write"))?;
            Ok(NodeKey::from_seed(&seed))
        }
        Err(error) => Err(error).with_context(|| said("read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_itself() {
        let folder = tempfile::tempdir().unwrap();
        let first = of_node(folder.path()).unwrap();
        assert_eq!(of_node(folder.path()).unwrap().id(), first.id());
        fs::write(folder.path().join("identity"), b"short").unwrap();
        assert!(of_node(folder.path()).unwrap_err().to_string().contains("32 bytes"));
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        of_node(folder.path()).unwrap();
        let path = folder.path().join("identity");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let error = of_node(folder.path()).unwrap_err().to_string();
        assert!(error.contains("mode 0604") && error.contains(&*path.to_string_lossy()), "{error}");
    }
}
