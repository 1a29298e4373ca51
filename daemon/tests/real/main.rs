//! Shoal between programs that others wrote: Debian's `docker-registry` as the origin, `containerd` and `skopeo` as the
//! clients, and a model that people really use.
//!
//! Where a program is missing the test says so and is skipped; with `SHOAL_REQUIRE_REAL=1` it fails.
// Every one of these is a test.
#![allow(clippy::unwrap_used)]

mod containerd;
mod docker_registry;
mod installers;
mod layout;
mod model;
mod needs;
mod private;
mod server;
mod skopeo;
mod token_server;

use std::path::Path;

use anyhow::Context;
use shoal::cluster::Cluster;
use shoal_blob::Digest;
use shoal_registry::{AccessLine, Artifact, Blob};
use tokio::try_join;

use crate::{containerd::Containerd, docker_registry::DockerRegistry, layout::Layout, needs::Need};

/// The registry as its users name it: not an address, so that only the mirror knows where it is.
const REGISTRY: &str = "registry.test";
/// The file in the image's layer.
const FILE_BYTES: u64 = 520 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_an_image_on_two_of_three_nodes() -> anyhow::Result<()> {
    let needs = ["docker-registry", "skopeo", "containerd", "ctr"].map(Need::Program).into_iter().chain([Need::Root]);
    if !needs::met(needs) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path().join("image"))?;
    let image = layout.image("weights.bin", FILE_BYTES, "v1")?;
    let mut origin = DockerRegistry::start(&dir.path().join("origin")).await?;
    skopeo::push(&layout, "v1", &origin.address("library/weights:v1")).await?;
    let before = origin.lines_of_push().await?;

    let cluster = cluster(&origin).await?;
    let client = async |node| {
        Containerd::start(
            &dir.path().join(format!("containerd-{node}")),
            REGISTRY,
            &cluster.mirror_url(node),
            origin.url(),
        )
        .await
    };
    let (first, second) = try_join!(client(0), client(2))?;
    let name = format!("{REGISTRY}/library/weights:v1");
    told(&cluster, try_join!(first.pull(&name), second.pull(&name)))?;

    for digest in image.digests() {
        for containerd in [&first, &second] {
            assert_eq!(containerd.digest_of_content(&digest).await?, digest, "{}", containerd.name());
        }
    }
    for node in [0, 2] {
        whole_and_proven(&cluster, node, &image.layer.digest).await?;
    }
    cluster.shutdown().await?;
    sent_once(&origin.stop().await?[before..], &image.layer.digest, image.layer.size);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pulls_a_real_model_by_the_path() -> anyhow::Result<()> {
    let Some(weights) = model::weights()? else { return Ok(()) };
    if !needs::met(["docker-registry", "skopeo"].map(Need::Program)) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let bytes = std::fs::read(&weights).with_context(|| format!("read {}", weights.display()))?;
    let artifact =
        Artifact::model("sentence/all-minilm-l6-v2", "v1", &[("model.safetensors", Blob::new(bytes.clone()))]);
    let layout = Layout::create(dir.path().join("model"))?;
    layout.artifact(&artifact, "v1")?;
    let mut origin = DockerRegistry::start(&dir.path().join("origin")).await?;
    skopeo::push(&layout, "v1", &origin.address("sentence/all-minilm-l6-v2:v1")).await?;
    let before = origin.lines_of_push().await?;

    let cluster = cluster(&origin).await?;
    let layer = artifact.layer().digest();
    let pull = async |node| {
        let copy = Layout::create(dir.path().join(format!("copy-{node}")))?;
        let mirror = cluster.mirror_url(node).replace("http://", "");
        skopeo::pull(&format!("{mirror}/{REGISTRY}/sentence/all-minilm-l6-v2:v1"), &copy, "v1").await?;
        assert_eq!(copy.tagged("v1")?, artifact.manifest_digest());
        assert_eq!(copy.read(&artifact.manifest_digest())?, artifact.manifest()[..]);
        assert!(copy.read(&layer)? == bytes, "node-{node} gave other weights than {}", weights.display());
        whole_and_proven(&cluster, node, &layer).await
    };
    told(&cluster, try_join!(pull(0), pull(1)))?;
    cluster.shutdown().await?;
    sent_once(&origin.stop().await?[before..], &layer, bytes.len() as u64);
    Ok(())
}

async fn cluster(origin: &DockerRegistry) -> anyhow::Result<Cluster> {
    let binary = Path::new(env!("CARGO_BIN_EXE_shoal"));
    let cluster = Cluster::builder(binary).nodes(3).registry(&format!("{REGISTRY}={}", origin.url())).start().await?;
    cluster.wait_all_ready().await?;
    Ok(cluster)
}

/// The outcome of a pull; one that failed with what the daemons have to say about it.
fn told<T>(cluster: &Cluster, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    let logs =
        || (0..cluster.len()).map(|node| format!("the end of the log of node-{node}:\n{}", cluster.log_tail(node)));
    outcome.map_err(|error| error.context(logs().collect::<String>()))
}

/// The pull went through this node: it has the blob.
async fn whole_and_proven(cluster: &Cluster, node: usize, digest: &Digest) -> anyhow::Result<()> {
    let figures = cluster.blob(node, digest).await?.with_context(|| format!("node-{node} has nothing of {digest}"))?;
    assert!(figures.complete, "node-{node}: {figures:?}");
    Ok(())
}

/// The registry's own access log says that a blob left it once, was asked for its length once at most, and that nobody
/// but Shoal came.
fn sent_once(entries: &[AccessLine], digest: &Digest, bytes: u64) {
    let of_blob = |method: &str| {
        let path = format!("/blobs/{digest}");
        entries.iter().filter(move |entry| entry.method == method && entry.path().ends_with(&path)).collect::<Vec<_>>()
    };
    let gets = of_blob("GET");
    assert_eq!(gets.iter().map(|entry| entry.bytes).sum::<u64>(), bytes, "{gets:#?}");
    let heads = of_blob("HEAD");
    assert!(heads.len() <= 1, "{heads:#?}");
    let stranger = entries.iter().find(|entry| !entry.user_agent.starts_with("shoal/"));
    assert!(stranger.is_none(), "a client went past the mirror: {stranger:#?}");
}
