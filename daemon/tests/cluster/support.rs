//! What these tests share: an origin with a synthetic model, daemons, clients, and waiting for what is to happen.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use sha2::{Digest as _, Sha256, Sha512};
use shoal::{
    admin::BlobFigures,
    cluster::{Builder, Cluster},
    fetch::{self, Answer},
};
use shoal_blob::{Algorithm, Digest};
use shoal_registry::{Artifact, Blob, Faults, Registry};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

/// What the clients call the origin.
pub(crate) const REGISTRY: &str = "registry.test";
pub(crate) const REPOSITORY: &str = "models/synthetic";
pub(crate) const TAG: &str = "v1";
pub(crate) const MIB: u64 = 1 << 20;
/// What may be read from the origin twice when a seed dies.
pub(crate) const SEED_LOSS: u64 = 64 * MIB;
/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// How often a condition is looked at that nobody reports.
const GLANCE: Duration = Duration::from_millis(20);

/// What there is to share out among tests that run side by side.
static SHARES: Semaphore = Semaphore::const_new(2);

/// The machine for one test alone: many daemons starve beside others.
pub(crate) async fn whole_machine() -> SemaphorePermit<'static> {
    SHARES.acquire_many(2).await.unwrap()
}

/// The machine for two tests with few daemons each.
pub(crate) async fn half_machine() -> SemaphorePermit<'static> {
    SHARES.acquire().await.unwrap()
}

pub(crate) fn model(bytes: u64, seed: u64) -> Artifact {
    Artifact::synthetic(REPOSITORY, TAG, bytes, seed)
}

pub(crate) async fn origin(artifact: &Artifact) -> Registry {
    Registry::builder().artifact(artifact.clone()).listen("127.0.0.1:0").await.unwrap()
}

pub(crate) async fn faulty_origin(artifact: &Artifact, faults: Faults) -> Registry {
    Registry::builder().artifact(artifact.clone()).faults(faults).listen("127.0.0.1:0").await.unwrap()
}

/// Daemons that know the origin as [`REGISTRY`].
pub(crate) fn daemons(nodes: usize, origin: &Registry) -> Builder {
    bare_daemons(nodes).registry(&format!("{REGISTRY}={}", origin.url()))
}

/// Daemons that know no registry.
pub(crate) fn bare_daemons(nodes: usize) -> Builder {
    Cluster::builder(env!("CARGO_BIN_EXE_shoal")).nodes(nodes)
}

/// Starts daemons and waits until all say that they are ready.
pub(crate) async fn ready(builder: Builder) -> Cluster {
    let cluster = builder.start().await.unwrap();
    cluster.wait_all_ready().await.unwrap();
    cluster
}

pub(crate) fn blob_url(cluster: &Cluster, node: usize, digest: &Digest) -> String {
    url(cluster, node, REPOSITORY, &format!("blobs/{digest}"))
}

pub(crate) fn url(cluster: &Cluster, node: usize, repository: &str, what: &str) -> String {
    format!("{}/v2/{repository}/{what}?ns={REGISTRY}", cluster.mirror_url(node))
}

/// What a client has read of a blob, in order.
pub(crate) struct Copy {
    blob: Blob,
    hasher: Hasher,
    pub(crate) length: u64,
    /// Whether each part is compared with what it should be, not only the whole with its digest.
    compare: bool,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Copy {
    pub(crate) fn of(blob: &Blob) -> Self {
        let hasher = match blob.digest().algorithm() {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        };
        Self { blob: blob.clone(), hasher, length: 0, compare: false }
    }

    /// The same, comparing each part as it comes: slower, and sees a wrong byte also in what never becomes whole.
    pub(crate) fn compared(blob: &Blob) -> Self {
        Self { compare: true, ..Self::of(blob) }
    }

    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if self.compare {
            let expected = self.blob.read(self.length, bytes.len());
            assert!(*bytes == expected, "a client was given wrong bytes at {} or later", self.length);
        }
        self.length += bytes.len() as u64;
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Reads a body to its end, be it early or not.
    pub(crate) async fn read(&mut self, answer: &mut Answer) -> anyhow::Result<()> {
        while let Some(bytes) = answer.next().await? {
            self.push(&bytes);
        }
        Ok(())
    }

    /// Checks that it is the whole blob and nothing else.
    pub(crate) fn check(self) {
        assert_eq!(self.length, self.blob.len(), "the copy's length");
        let digest = match self.hasher {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        };
        assert_eq!(digest, self.blob.digest(), "the copy's digest");
    }
}

/// Pulls a blob with one GET, which must bring all of it.
pub(crate) async fn pull(url: &str, blob: &Blob) {
    let answer = fetch::get(url, None).await.unwrap();
    take(answer, Copy::of(blob)).await;
}

/// Reads the rest of an answer and checks the whole.
pub(crate) async fn take(mut answer: Answer, mut copy: Copy) {
    assert!(answer.status.is_success(), "{}", answer.status);
    copy.read(&mut answer).await.unwrap_or_else(|error| panic!("the body ended after {}: {error:#}", copy.length));
    copy.check();
}

/// Pulls a blob as containerd does: where a body ends early, it is asked for again from where it ended. A daemon that is
/// not there is waited for.
pub(crate) async fn pull_resuming(url: String, blob: Blob) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut copy = Copy::of(&blob);
    let mut trouble = String::new();
    while copy.length < blob.len() {
        if Instant::now() > deadline {
            bail!("{url}: {} of {} bytes came in {LIMIT:?}; the last trouble: {trouble}", copy.length, blob.len());
        }
        match go_on(&url, &mut copy).await {
            Ok(()) => {}
            Err(error) => {
                trouble = format!("{error:#}");
                sleep(GLANCE).await;
            }
        }
    }
    copy.check();
    Ok(())
}

async fn go_on(url: &str, copy: &mut Copy) -> anyhow::Result<()> {
    let from = (copy.length > 0).then_some(copy.length);
    let mut answer = fetch::get(url, from).await?;
    let expected = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if answer.status != expected {
        bail!("{} where {expected} was expected", answer.status);
    }
    if let Some(from) = from {
        let length = copy.blob.len();
        let range = answer.headers.get(header::CONTENT_RANGE).context("no Content-Range")?;
        assert_eq!(range.to_str()?, format!("bytes {from}-{}/{length}", length - 1));
    }
    copy.read(&mut answer).await
}

/// An answer in full.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The distribution-spec's error code; empty where the body has none.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends any request and reads an answer of 16 MiB at most.
pub(crate) async fn ask(method: Method, url: &str, headers: &[(HeaderName, &str)]) -> Reply {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
    let answer = fetch::send(method, url, &headers).await.unwrap();
    let (status, headers) = (answer.status.as_u16(), answer.headers.clone());
    Reply { status, headers, body: answer.whole().await.unwrap() }
}

/// Looks until there is something to see, and returns it.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not after {LIMIT:?}");
        sleep(GLANCE).await;
    }
}

/// Waits for something with the limit that all waits have.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not after {LIMIT:?}"))
}

/// What a node has of a blob; nothing, where it does not know it or does not answer.
pub(crate) async fn figures(cluster: &Cluster, node: usize, digest: &Digest) -> Option<BlobFigures> {
    cluster.blob(node, digest).await.ok().flatten()
}

/// The node that reads the blob from the origin.
pub(crate) async fn seed(cluster: &Cluster, digest: &Digest) -> usize {
    eventually("a seed reads the origin", async || {
        for node in 0..cluster.len() {
            if figures(cluster, node, digest).await.is_some_and(|blob| blob.bytes_from_origin > 0) {
                return Some(node);
            }
        }
        None
    })
    .await
}

/// Waits until a node holds so many pieces, and returns how many it holds.
pub(crate) async fn holds(cluster: &Cluster, node: usize, digest: &Digest, pieces: u32) -> u32 {
    eventually("the node holds the pieces", async || {
        figures(cluster, node, digest).await.map(|blob| blob.held_pieces).filter(|held| *held >= pieces)
    })
    .await
}

/// Everything that a daemon has logged so far.
pub(crate) fn log(cluster: &Cluster, node: usize) -> String {
    std::fs::read_to_string(cluster.log(node)).unwrap()
}

/// Writes a docker config.json with a name and a password for [`REGISTRY`].
pub(crate) fn docker_config(folder: &Path, user: &str, password: &str) -> PathBuf {
    let file = folder.join("config.json");
    let auth = STANDARD.encode(format!("{user}:{password}"));
    std::fs::write(&file, format!(r#"{{"auths":{{"{REGISTRY}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    file
}

/// The files of blobs, data and claims, in a node's store.
pub(crate) fn blob_files(data_dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut folders = vec![data_dir.join("store/blobs")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
