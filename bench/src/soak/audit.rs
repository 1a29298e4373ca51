//! What a daemon has while nothing is done, as the system and it itself tell it; and whether that is right.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shoal::{admin::BlobFigures, cluster::Cluster, fetch};
use shoal_blob::Digest;

/// How many more descriptors, tasks and threads a daemon may have after a soak than before: connections that the origin has kept, or
/// a peer that was dialled from both sides. What leaks with each pull is far more.
const LEEWAY: u64 = 16;
/// The port that peers are awaited at, and a connection's state, as `/proc/net/tcp` has it.
const PEER_PORT: u16 = 5051;
const ESTABLISHED: &str = "01";
/// The most memory that a daemon may ever have.
const MOST_MEMORY: u64 = 256 << 20;

/// What a daemon has.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    pub(super) descriptors: u64,
    /// Those that are of blobs' files, and of files that are gone.
    pub(super) of_blobs: u64,
    /// Sockets of what is kept open to origins for a while, and of clients: each has a task too.
    pub(super) passing: u64,
    pub(super) tasks: u64,
    pub(super) threads: u64,
    pub(super) resident: u64,
    pub(super) peak_resident: u64,
    pub(super) peers: u64,
    /// What it says that its blobs have of the capacity.
    pub(super) used: u64,
    pub(super) capacity: u64,
    /// The lengths of the files of its blobs.
    pub(super) lengths: u64,
    /// What they take on the disk, with what is written beside them.
    pub(super) on_disk: u64,
}

impl Seen {
    pub(super) async fn of(cluster: &Cluster, node: usize) -> anyhow::Result<Self> {
        let pid = cluster.pid(node).with_context(|| format!("node-{node} does not run"))?;
        let figures = cluster.metrics(node).await?;
        let figure = |name: &str| figures.get(name).copied().with_context(|| format!("/metrics has no {name}"));
        let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let of_blobs =
            open.iter().filter(|path| path.contains("/store/blobs/") || path.ends_with(" (deleted)")).count();
        let (mut lengths, mut on_disk) = (0, 0);
        weigh(&cluster.data_dir(node).join("store/blobs"), &mut lengths, &mut on_disk)?;
        Ok(Self {
            descriptors: open.len() as u64,
            of_blobs: of_blobs as u64,
            passing: passing(pid)?,
            tasks: figure("shoal_tasks")? as u64,
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count() as u64,
            resident: figure("process_resident_memory_bytes")? as u64,
            peak_resident: cluster.peak_rss(node).context("it has ended")?,
            peers: figure("shoal_peers_connected")? as u64,
            used: figure("shoal_store_used_bytes")? as u64,
            capacity: figure("shoal_store_capacity_bytes")? as u64,
            lengths,
            on_disk,
        })
    }

    /// What of it is more than it was before, or than it may be at all.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        let grown = [
            ("descriptors", self.descriptors - self.passing, before.descriptors - before.passing),
            ("tasks", self.tasks - self.passing, before.tasks - before.passing),
            ("threads", self.threads, before.threads),
        ];
        for (what, now, then) in grown {
            if now > then + LEEWAY {
                wrong.push(format!("{now} {what}, and {then} before"));
            }
        }
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        must(self.of_blobs == 0, format!("{} files of blobs are open that nobody reads", self.of_blobs));
        must(self.peers == before.peers, format!("{} peers, and {} before", self.peers, before.peers));
        must(self.used <= self.capacity, format!("{} bytes of {} are used", self.used, self.capacity));
        must(
            self.used == self.lengths,
            format!("{} bytes of the capacity are used, by files of {} bytes", self.used, self.lengths),
        );
        must(self.peak_resident <= MOST_MEMORY, format!("it had {} bytes of memory", self.peak_resident));
        wrong
    }
}

/// How many TCP connections to another port than the peers' are established in a process's network.
fn passing(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/net/tcp");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let of_peers = |address: &str| address.ends_with(&format!(":{PEER_PORT:04X}"));
    let lines = text.lines().skip(1).filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, here, there, ESTABLISHED, ..] if !of_peers(here) && !of_peers(there))
    });
    Ok(lines.count() as u64)
}

/// Adds up what lies in a folder: the lengths of data files, and the blocks of all.
fn weigh(folder: &Path, lengths: &mut u64, on_disk: &mut u64) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            weigh(&entry.path(), lengths, on_disk)?;
            continue;
        }
        *on_disk += metadata.blocks() * 512;
        if entry.path().extension().is_none() {
            *lengths += metadata.len();
        }
    }
    Ok(())
}

/// Reads everything that rests complete in a daemon's store; returns what is not what its digest says.
pub(super) async fn resting(
    cluster: &Cluster,
    node: usize,
    url: impl Fn(&Digest) -> String,
) -> anyhow::Result<Vec<String>> {
    let text = fetch::text(&format!("{}/blobs", cluster.admin_url(node))).await?;
    let blobs: Vec<BlobFigures> = serde_json::from_str(&text).context("the answer of /blobs")?;
    let mut wrong = Vec::new();
    for blob in blobs.iter().filter(|blob| blob.complete) {
        let url = url(&blob.digest);
        let mut answer = fetch::get(&url, None).await?;
        ensure!(answer.status.is_success(), "GET {url}: {}", answer.status);
        let mut hasher = Sha256::new();
        while let Some(bytes) = answer.next().await.with_context(|| format!("GET {url}"))? {
            hasher.update(&bytes);
        }
        let found = Digest::Sha256(hasher.finalize().into());
        if found != blob.digest {
            wrong.push(format!("node-{node} has {found} for {}", blob.digest));
        }
    }
    Ok(wrong)
}

/// What a daemon's log tells of panics.
pub(super) fn panics(cluster: &Cluster, node: usize) -> anyhow::Result<Vec<String>> {
    let log = fs::read_to_string(cluster.log(node))?;
    Ok(log.lines().filter(|line| line.contains("panicked at")).map(|line| format!("node-{node}: {line}")).collect())
}
