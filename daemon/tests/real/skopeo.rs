//! Debian's `skopeo`: copies images between OCI layouts and registries.

use crate::{layout::Layout, server::run};

/// Copies what is tagged in a layout to `image`, as in `127.0.0.1:5000/models/a:v1`, byte for byte.
pub(crate) async fn push(layout: &Layout, tag: &str, image: &str) -> anyhow::Result<()> {
    copy("--dest-tls-verify=false", &layout.reference(tag), &format!("docker://{image}")).await
}

/// Copies `image` into a layout, byte for byte.
pub(crate) async fn pull(image: &str, layout: &Layout, tag: &str) -> anyhow::Result<()> {
    copy("--src-tls-verify=false", &format!("docker://{image}"), &layout.reference(tag)).await
}

async fn copy(tls: &str, from: &str, to: &str) -> anyhow::Result<()> {
    // Without `--preserve-digests` it compresses layers on their way.
    run("skopeo", &["--insecure-policy", "copy", "--quiet", "--preserve-digests", tls, from, to]).await.map(drop)
}
