//! BitTorrent on the same links: libtorrent, from Python.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use shoal::cluster::Host;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::lab::{run, within};

const SCRIPT: &str = include_str!("torrent.py");
const PYTHON: &str = "python3";
/// Without its words on what libtorrent will no longer have one day.
const QUIET: [&str; 2] = ["-W", "ignore::DeprecationWarning"];
const PORT: u16 = 6881;

/// A swarm with one seed, at the origin.
#[derive(Debug)]
pub(super) struct Torrent {
    script: PathBuf,
    torrent: PathBuf,
    seed: Child,
    said: Lines<BufReader<ChildStdout>>,
    /// Everybody's address, the seed's first.
    addresses: Vec<SocketAddr>,
}

/// Why there is no BitTorrent here; `None` when there is.
pub(super) fn missing() -> Option<String> {
    let found = run(PYTHON, &["-c", "import libtorrent"]);
    found.err().map(|_| "libtorrent is missing: `pip install libtorrent` has it from PyPI".to_owned())
}

impl Torrent {
    /// Starts the seed of `layer`, a file, with pieces as large as Shoal's.
    pub(super) async fn start(
        origin: &Host,
        nodes: &[Host],
        layer: &Path,
        piece_bytes: u32,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let (script, torrent, folder) = (dir.join("torrent.py"), dir.join("layer.torrent"), dir.join("seed"));
        std::fs::write(&script, SCRIPT)?;
        std::fs::create_dir(&folder)?;
        std::os::unix::fs::symlink(layer, folder.join("layer"))?;
        let addresses: Vec<_> =
            [origin].into_iter().chain(nodes).map(|host| SocketAddr::new(host.address, PORT)).collect();
        let mut command = within(origin, PYTHON);
        command.args(QUIET).arg(&script).arg("seed").arg(&torrent).arg(&folder);
        command.arg(addresses[0].to_string()).arg(piece_bytes.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut seed = command.spawn().with_context(|| format!("start {PYTHON}"))?;
        let mut said = BufReader::new(seed.stdout.take().context("the seed has no standard output")?).lines();
        ensure!(said.next_line().await?.as_deref() == Some("ready"), "the seed ended before it was ready");
        Ok(Self { script, torrent, seed, said, addresses })
    }

    /// What a node fetches the layer with, into a folder that is made.
    pub(super) fn leech(&self, host: &Host, node: usize, folder: &Path) -> anyhow::Result<Command> {
        std::fs::create_dir(folder)?;
        let peers: Vec<_> = self
            .addresses
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != node + 1)
            .map(|(_, peer)| peer.to_string())
            .collect();
        let mut command = within(host, PYTHON);
        command.args(QUIET).arg(&self.script).arg("leech").arg(&self.torrent).arg(folder);
        command.arg(self.addresses[node + 1].to_string()).arg(peers.join(","));
        Ok(command)
    }

    /// Ends the seed, and returns how many bytes of pieces it has sent.
    pub(super) async fn stop(mut self) -> anyhow::Result<u64> {
        drop(self.seed.stdin.take());
        let line = self.said.next_line().await?.context("the seed ended without a word")?;
        self.seed.wait().await?;
        line.trim().parse().context("the seed tells how many bytes it has sent")
    }
}
