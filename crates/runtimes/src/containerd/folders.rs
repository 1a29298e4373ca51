//! Where containerd looks for what it should know of a registry's hosts.

use std::path::{Path, PathBuf};

use super::hosts::Certificates;
use crate::{Error, files};

/// The folder for registries that have none of their own.
pub(super) const DEFAULT: &str = "_default";

/// The folders in which containerd looks for a registry, in its order, `_default` left out.
fn candidates(config_path: &Path, registry: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        folders.push(config_path.join(format!("{host}_{port}_")));
    }
    folders.push(config_path.join(registry));
    folders
}

/// The folder that containerd takes for a registry; where there is none, the one to be made.
pub(super) fn of(config_path: &Path, registry: &str) -> PathBuf {
    let folders = candidates(config_path, registry);
    folders
        .iter()
        .find(|folder| folder.exists())
        .or(folders.last())
        .cloned()
        .unwrap_or_else(|| config_path.join(registry))
}

/// The registry that a folder is for.
pub(super) fn registry(folder: &str) -> String {
    match folder.strip_suffix('_').and_then(|name| name.rsplit_once('_')) {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() => {
            format!("{host}:{port}")
        }
        _ => folder.to_owned(),
    }
}

/// The files beside a hosts.toml by which containerd goes where there is no hosts.toml, as Docker lays them out.
pub(super) fn certificates(folder: &Path) -> Result<Certificates, Error> {
    let names = files::list(folder)?;
    let mut certificates = Certificates::default();
    for name in names.iter().filter(|name| !folder.join(name).is_dir()) {
        if name.ends_with(".crt") {
            certificates.ca.push(name.clone());
        }
        if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            // A certificate without a key beside it holds its key itself.
            let key = if names.contains(&key) { key } else { name.clone() };
            certificates.client.push((name.clone(), key));
        }
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_registry_with_a_port_has_two_names_for_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path(), "r.lan:5000"), dir.path().join("r.lan:5000"));
        fs::create_dir(dir.path().join("r.lan_5000_")).unwrap();
        assert_eq!(of(dir.path(), "r.lan:5000"), dir.path().join("r.lan_5000_"));
        assert_eq!(registry("r.lan_5000_"), "r.lan:5000");
        assert_eq!(registry("docker.io"), "docker.io");
        assert_eq!(registry("_default"), "_default");
    }

    #[test]
    fn certificates_are_found_as_docker_lays_them_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.crt", "a.crt", "client.cert", "client.key", "whole.cert", "hosts.toml"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("folder.crt")).unwrap();
        let found = certificates(dir.path()).unwrap();
        assert_eq!(found.ca, ["a.crt", "b.crt"]);
        let pair = |cert: &str, key: &str| (cert.to_owned(), key.to_owned());
        assert_eq!(found.client, [pair("client.cert", "client.key"), pair("whole.cert", "whole.cert")]);
    }
}
