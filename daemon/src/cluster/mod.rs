//! Real daemons as child processes of this one, on loopback or on hosts that were made for them: for the demonstration, the
//! tests and the measurements.
//!
//! ```no_run
//! # async fn pull() -> anyhow::Result<()> {
//! use shoal::cluster::Cluster;
//!
//! let mut cluster =
//!     Cluster::builder("target/release/shoal").nodes(3).registry("r.lan=http://127.0.0.1:5000").start().await?;
//! cluster.wait_all_ready().await?;
//! let mirror = cluster.mirror_url(0);
//! cluster.kill(1).await?;
//! cluster.restart(1).await?;
//! cluster.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod flags;
mod host;
mod node;
mod ports;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, bail};
use futures::future::try_join_all;
use shoal_blob::Digest;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

pub use builder::Builder;
pub use host::Host;

use self::{flags::Flags, host::Place, node::Node};
use crate::{admin::BlobFigures, fetch, memory};

/// How many of the others each daemon is told to find the cluster by.
const BOOTSTRAP_PEERS: usize = 3;
/// How often a condition is looked at that a daemon does not report by itself.
const GLANCE: Duration = Duration::from_millis(20);

/// Daemons of one cluster. They are killed when it is dropped, and end by themselves when this process dies.
#[derive(Debug)]
pub struct Cluster {
    // The daemons go before the folder that they write to.
    nodes: Vec<Node>,
    binary: PathBuf,
    common: Flags,
    dir: PathBuf,
    ready_within: Duration,
    drain_within: Duration,
    temporary: Option<TempDir>,
}

impl Cluster {
    /// A cluster to be set up further, of daemons that `binary` is the program of.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder::new(binary.into())
    }

    /// How many daemons there are, running or not.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The folder with everybody's data and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a daemon's mirror listens, as its own host sees it.
    #[must_use]
    pub fn mirror_addr(&self, node: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.nodes[node].place.ports.mirror).into()
    }

    /// Where a daemon's mirror answers its own host, as in `http://127.0.0.1:12345`.
    #[must_use]
    pub fn mirror_url(&self, node: usize) -> String {
        format!("http://{}", self.mirror_addr(node))
    }

    /// Where a daemon's admin server answers.
    #[must_use]
    pub fn admin_url(&self, node: usize) -> String {
        let place = &self.nodes[node].place;
        format!("http://{}", SocketAddr::new(place.host.address, place.ports.admin))
    }

    /// Where a daemon awaits peers.
    #[must_use]
    pub fn peer_addr(&self, node: usize) -> SocketAddr {
        let place = &self.nodes[node].place;
        SocketAddr::new(place.host.address, place.ports.peer)
    }

    /// A daemon's data directory.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.nodes[node].data_dir.clone()
    }

    /// The file with everything that a daemon wrote, over all its lives.
    #[must_use]
    pub fn log(&self, node: usize) -> &Path {
        &self.nodes[node].log
    }

    /// The last lines of a daemon's log.
    #[must_use]
    pub fn log_tail(&self, node: usize) -> String {
        self.nodes[node].log_tail()
    }

    /// A daemon's process id; `None` when it does not run.
    #[must_use]
    pub fn pid(&self, node: usize) -> Option<u32> {
        self.nodes[node].pid()
    }

    /// The most resident memory that a running daemon has had, in bytes.
    #[must_use]
    pub fn peak_rss(&self, node: usize) -> Option<u64> {
        self.pid(node).and_then(memory::peak_resident)
    }

    /// Sets a flag of one daemon for its next start: the long name without dashes; lists with commas.
    pub fn set_flag(&mut self, node: usize, name: &str, value: &str) {
        self.nodes[node].flags.set(name, value);
    }

    /// Adds a daemon on loopback that joins the cluster, starts it and returns its number.
    ///
    /// # Errors
    /// When no port is free or the process cannot be started.
    pub async fn add(&mut self) -> anyhow::Result<usize> {
        let node = self.nodes.len();
        let place = Place::on_loopback().context("no free ports on 127.0.0.1")?;
        self.nodes.push(Node::new(&self.dir, node, place, self.common.clone()));
        self.restart(node).await?;
        Ok(node)
    }

    /// Waits until a daemon says that it is ready.
    ///
    /// # Errors
    /// When it ends before or takes too long; the message has the last lines of its log.
    pub async fn wait_ready(&self, node: usize) -> anyhow::Result<()> {
        let url = format!("{}/readyz", self.admin_url(node));
        let deadline = Instant::now() + self.ready_within;
        while !fetch::get(&url, None).await.is_ok_and(|answer| answer.status.is_success()) {
            let trouble = match self.nodes[node].ended() {
                Some(how) => format!("ended before it was ready ({how})"),
                None if Instant::now() > deadline => format!("is not ready after {:?}", self.ready_within),
                None => {
                    sleep(GLANCE).await;
                    continue;
                }
            };
            bail!("node-{node} {trouble}; the end of its log:\n{}", self.log_tail(node));
        }
        Ok(())
    }

    /// Waits until every daemon that was started says that it is ready.
    ///
    /// # Errors
    /// As [`Cluster::wait_ready`].
    pub async fn wait_all_ready(&self) -> anyhow::Result<()> {
        let running = (0..self.len()).filter(|node| self.nodes[*node].is_started());
        try_join_all(running.map(|node| self.wait_ready(node))).await.map(drop)
    }

    /// Kills a daemon with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].kill().await.with_context(|| format!("kill node-{node}"))
    }

    /// Sends SIGTERM to a daemon and waits until it has ended.
    ///
    /// # Errors
    /// When it does not run, or does not end in a minute; the message has the last lines of its log.
    pub async fn terminate(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        self.signal(node, rustix::process::Signal::TERM)?;
        match timeout(self.drain_within, self.nodes[node].wait()).await {
            Ok(status) => status,
            Err(_) => bail!("node-{node} did not end on SIGTERM; the end of its log:\n{}", self.log_tail(node)),
        }
    }

    /// Sends SIGHUP to a daemon, so that it reads its settings again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self, node: usize) -> anyhow::Result<()> {
        self.signal(node, rustix::process::Signal::HUP)
    }

    fn signal(&self, node: usize, signal: rustix::process::Signal) -> anyhow::Result<()> {
        self.nodes[node].signal(signal).with_context(|| format!("send {signal:?} to node-{node}"))
    }

    /// Has a daemon stand still, with SIGSTOP, until [`Cluster::resume`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.signal(node, rustix::process::Signal::STOP)
    }

    /// Lets a daemon go on that stands still.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, node: usize) -> anyhow::Result<()> {
        self.signal(node, rustix::process::Signal::CONT)
    }

    /// Starts a daemon that was killed or has ended, on the same ports and with the same data.
    ///
    /// # Errors
    /// When it runs, or the process cannot be started.
    pub async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        let peers = (0..self.len()).filter(|other| *other != node).take(BOOTSTRAP_PEERS);
        let peers = peers.map(|other| self.peer_addr(other).to_string()).collect::<Vec<_>>().join(",");
        self.nodes[node].start(&self.binary, &peers).with_context(|| format!("start node-{node}"))
    }

    /// What a daemon has of one blob, and where from.
    ///
    /// # Errors
    /// When its admin server does not answer.
    pub async fn blob(&self, node: usize, digest: &Digest) -> anyhow::Result<Option<BlobFigures>> {
        let text = fetch::text(&format!("{}/blobs?digest={digest}", self.admin_url(node))).await?;
        let found: Vec<BlobFigures> = serde_json::from_str(&text).context("the answer of /blobs")?;
        Ok(found.into_iter().find(|blob| blob.digest == *digest))
    }

    /// One figure of a daemon, named as /metrics names it, with its labels; 0 where it was never counted.
    ///
    /// # Errors
    /// When its admin server does not answer.
    pub async fn metric(&self, node: usize, name: &str) -> anyhow::Result<f64> {
        Ok(self.metrics(node).await?.get(name).copied().unwrap_or(0.0))
    }

    /// All figures of a daemon, by their names with their labels.
    ///
    /// # Errors
    /// When its admin server does not answer.
    pub async fn metrics(&self, node: usize) -> anyhow::Result<BTreeMap<String, f64>> {
        let text = fetch::text(&format!("{}/metrics", self.admin_url(node))).await?;
        let figures = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Ok(figures.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Ends every daemon with SIGTERM, all at the same time.
    ///
    /// # Errors
    /// When one does not end in time or not with exit code 0; all are gone then too.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        let mut trouble = Vec::new();
        let running: Vec<usize> = (0..self.len()).filter(|node| self.nodes[*node].pid().is_some()).collect();
        for &node in &running {
            self.signal(node, rustix::process::Signal::TERM)?;
        }
        let deadline = Instant::now() + self.drain_within;
        for node in running {
            let how = match tokio::time::timeout_at(deadline, self.nodes[node].wait()).await {
                Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => continue,
                Ok(status) => status?.to_string(),
                Err(_) => format!("it still runs {:?} after SIGTERM", self.drain_within),
            };
            trouble.push(format!("node-{node}: {how}; the end of its log:\n{}", self.log_tail(node)));
        }
        if trouble.is_empty() { Ok(()) } else { bail!("{}", trouble.join("\n")) }
    }

    /// Leaves the folder where it is when the cluster is dropped.
    pub fn keep_dir(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, node) in self.nodes.iter().enumerate() {
                eprintln!("--- the end of the log of node-{number}\n{}", node.log_tail());
            }
        }
    }
}
