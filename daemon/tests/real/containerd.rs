//! Debian's `containerd`, with folders and a socket of its own, and a mirror before one registry, put there as users do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};
use shoal_blob::Digest;
use tokio::{io::AsyncReadExt, process::Command};

use crate::{
    installers::shoal,
    server::{Server, run},
};

/// A containerd that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Containerd {
    name: String,
    socket: String,
    hosts: PathBuf,
    /// What `ctr images pull` is told beside the name.
    pull_flags: Vec<&'static str>,
    _server: Server,
}

impl Containerd {
    /// Starts one that keeps everything in `dir`, which is made, and that asks `mirror` for what `registry` has; where
    /// the mirror fails it goes on to `server`, as in use.
    pub(crate) async fn start(dir: &Path, registry: &str, mirror: &str, server: &str) -> anyhow::Result<Self> {
        let hosts = dir.join("hosts");
        shoal(&[
            "containerd",
            "install",
            "--config-path",
            &hosts.to_string_lossy(),
            "--registries",
            &format!("{registry}={server}"),
            "--mirror",
            mirror,
        ])
        .await?;
        Self::with_hosts(dir, hosts).await
    }

    /// Starts one that keeps everything in `dir`, which is made where it is not there, and goes by the hosts.toml files
    /// in `hosts`.
    pub(crate) async fn with_hosts(dir: &Path, hosts: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let config = dir.join("config.toml");
        fs::write(&config, CONFIG.replace("DIR", &dir.to_string_lossy()))?;

        let name = dir.file_name().context("the folder has a name")?.to_string_lossy().into_owned();
        let socket = dir.join("containerd.sock").to_string_lossy().into_owned();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config);
        let mut server = Server::start(&name, command, dir)?;
        server.until(async |_| run("ctr", &["--address", &socket, "version"]).await.ok()).await?;

        // Only a later ctr has the flag; its daemon pulls by itself unless told otherwise, and then it does not unpack
        // for this snapshotter.
        let help = run("ctr", &["images", "pull", "--help"]).await?;
        let has_local = String::from_utf8_lossy(&help).contains("--local");
        let pull_flags = if has_local { vec!["--local"] } else { Vec::new() };
        Ok(Self { name, socket, hosts, pull_flags, _server: server })
    }

    /// What it is called in a message.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Pulls an image and unpacks it.
    pub(crate) async fn pull(&self, image: &str) -> anyhow::Result<()> {
        self.pull_with(image, &[]).await
    }

    /// The same as a user, given as `name:password`.
    pub(crate) async fn pull_as(&self, image: &str, user: &str) -> anyhow::Result<()> {
        self.pull_with(image, &["--user", user]).await
    }

    async fn pull_with(&self, image: &str, flags: &[&str]) -> anyhow::Result<()> {
        let hosts = self.hosts.to_string_lossy();
        let mut args = vec!["--address", &self.socket, "images", "pull", "--hosts-dir", &hosts];
        // Copies instead of overlays: it works on every file system, also on an overlay.
        args.extend(["--snapshotter", "native", "--platform", "linux/amd64"]);
        args.extend(&self.pull_flags);
        args.extend(flags);
        args.push(image);
        run("ctr", &args).await.with_context(|| self.name.clone()).map(drop)
    }

    /// Reads what it holds under a digest, and hashes it.
    pub(crate) async fn digest_of_content(&self, digest: &Digest) -> anyhow::Result<Digest> {
        let mut child = Command::new("ctr")
            .args(["--address", &self.socket, "content", "get", &digest.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut out = child.stdout.take().context("the output is piped")?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match out.read(&mut buffer).await? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        let status = child.wait().await?;
        if !status.success() {
            bail!("{}: ctr content get {digest}: {status}", self.name);
        }
        Ok(Digest::Sha256(hasher.finalize().into()))
    }
}

/// Without the parts for Kubernetes, and without the folder that the `opt` plugin makes outside of ours.
const CONFIG: &str = r#"version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "DIR/containerd.sock"
"#;
