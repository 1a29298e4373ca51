//! Debian's `skopeo`: copies images between OCI layouts and registries.

use std::path::Path;

use crate::{layout::Layout, server::run};

/// Copies what is tagged in a layout to `image`, as in `127.0.0.1:5000/models/a:v1`, byte for byte.
pub(crate) async fn push(layout: &Layout, tag: &str, image: &str) -> anyhow::Result<()> {
    copy(&["--dest-tls-verify=false"], &layout.reference(tag), &format!("docker://{image}")).await
}

/// The same as a user, given as `name:password`.
pub(crate) async fn push_as(layout: &Layout, tag: &str, image: &str, user: &str) -> anyhow::Result<()> {
    let flags = ["--dest-tls-verify=false", "--dest-creds", user];
    copy(&flags, &layout.reference(tag), &format!("docker://{image}")).await
}

/// The same over TLS, with the certificates in a folder: `ca.crt`, `client.cert`, `client.key`.
pub(crate) async fn push_with(layout: &Layout, tag: &str, image: &str, certificates: &Path) -> anyhow::Result<()> {
    let flags = ["--dest-cert-dir", &certificates.to_string_lossy()];
    copy(&flags, &layout.reference(tag), &format!("docker://{image}")).await
}

/// Copies `image` into a layout, byte for byte.
pub(crate) async fn pull(image: &str, layout: &Layout, tag: &str) -> anyhow::Result<()> {
    copy(&["--src-tls-verify=false"], &format!("docker://{image}"), &layout.reference(tag)).await
}

async fn copy(flags: &[&str], from: &str, to: &str) -> anyhow::Result<()> {
    // Without `--preserve-digests` it compresses layers on their way.
    let args = [&["--insecure-policy", "copy", "--quiet", "--preserve-digests"], flags, &[from, to]].concat();
    run("skopeo", &args).await.map(drop)
}
