//! The registry that a fan-out begins at: Debian's `docker-registry` where it is installed, otherwise the embedded one.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use shoal::{cluster::Host, fetch};
use shoal_blob::{Digest, Layout};
use shoal_registry::{AccessLine, Artifact, Blob, Registry};
use tokio::{
    io::AsyncReadExt,
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::{blob_file, lab::within};

/// The repository of all layers.
pub(super) const REPOSITORY: &str = "models/fanout";
const PORT: u16 = 5000;
/// The seed of the first layer's bytes; the others' follow.
const SEED: u64 = 1_073_741_824;
const READY_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);
const DOCKER_REGISTRY: &str = "docker-registry";
/// Where its files begin.
const ROOT: &str = "docker/registry/v2";

/// The layers of a run, and the folder from which `docker-registry` serves them, where it is installed.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) blobs: Vec<Blob>,
    pub(super) bytes: u64,
    folder: Option<PathBuf>,
}

/// A registry that serves until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Origin {
    child: Child,
    /// Where it writes what it sent.
    log: PathBuf,
    is_docker: bool,
    pub(super) address: SocketAddr,
}

/// The arguments of the embedded registry, which this program runs as in the origin's namespace.
#[derive(clap::Args, Debug)]
pub(crate) struct OriginArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    count: u64,
    #[arg(long)]
    bytes: u64,
}

impl Layers {
    /// Makes `count` layers of `bytes` together, and writes them into a registry's store below `dir` where a program serves
    /// from there.
    pub(super) fn make(count: u64, bytes: u64, dir: &Path) -> anyhow::Result<Self> {
        let blobs = blobs(count, bytes);
        let folder = is_installed(DOCKER_REGISTRY).then(|| dir.join("origin"));
        if let Some(folder) = &folder {
            for blob in &blobs {
                store(folder, blob).with_context(|| format!("write {} into a registry's store", blob.digest()))?;
            }
        }
        Ok(Self { blobs, bytes, folder })
    }

    /// The one layer as a file, and the size of its pieces.
    ///
    /// # Errors
    /// When there are several, or it cannot be written.
    pub(super) fn only_file(&self, dir: &Path) -> anyhow::Result<(PathBuf, u32)> {
        let [blob] = &self.blobs[..] else { bail!("BitTorrent is compared on one layer alone") };
        let path = match &self.folder {
            Some(folder) => data_of(folder, &blob.digest())?.join("data"),
            None => dir.join("layer"),
        };
        if !path.exists() {
            blob_file::write(blob, &path)?;
        }
        Ok((path, Layout::new(blob.len())?.piece_bytes()))
    }

    /// What serves them.
    pub(super) const fn server(&self) -> &'static str {
        if self.folder.is_some() { DOCKER_REGISTRY } else { "the embedded registry" }
    }

    /// Serves them on a host.
    pub(super) async fn serve(&self, host: &Host, dir: &Path) -> anyhow::Result<Origin> {
        let address = SocketAddr::new(host.address, PORT);
        let log = dir.join("origin.out");
        let mut command = match &self.folder {
            Some(folder) => {
                let config = dir.join("origin.yml");
                let text = CONFIG.replace("DATA", &folder.to_string_lossy()).replace("ADDRESS", &address.to_string());
                fs::write(&config, text)?;
                let mut command = within(host, DOCKER_REGISTRY);
                command.arg("serve").arg(config);
                command
            }
            None => {
                let mut command = within(host, &std::env::current_exe()?.to_string_lossy());
                let (count, bytes) = (self.blobs.len(), self.bytes);
                command.arg("fanout-origin").arg(format!("--listen={address}"));
                command.arg(format!("--count={count}")).arg(format!("--bytes={bytes}"));
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(File::create(&log)?).stderr(File::create(dir.join("origin.err"))?);
        let child = command.kill_on_drop(true).spawn().with_context(|| format!("start {}", self.server()))?;
        let origin = Origin { child, log, is_docker: self.folder.is_some(), address };
        origin.ready().await.with_context(|| format!("{} at {address}", self.server()))
    }
}

impl Origin {
    async fn ready(mut self) -> anyhow::Result<Self> {
        let (url, deadline) = (format!("http://{}/v2/", self.address), Instant::now() + READY_WITHIN);
        while !fetch::get(&url, None).await.is_ok_and(|answer| answer.status.is_success()) {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(self.log.with_extension("err")).unwrap_or_default();
                bail!("it ended ({status}): {}", said.trim());
            }
            ensure!(Instant::now() < deadline, "it does not answer after {READY_WITHIN:?}");
            sleep(GLANCE).await;
        }
        Ok(self)
    }

    /// The URL of a blob.
    pub(super) fn url(&self, digest: &Digest) -> String {
        format!("http://{}/v2/{REPOSITORY}/blobs/{digest}", self.address)
    }

    /// Ends it, and returns how many bytes of blobs' bodies it says that it sent.
    pub(super) async fn stop(mut self) -> anyhow::Result<u64> {
        drop(self.child.stdin.take());
        if self.is_docker {
            let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
            let pid = pid.context("the registry has ended by itself")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        timeout(END_WITHIN, self.child.wait()).await.context("the registry does not end")??;
        let log = fs::read_to_string(&self.log)?;
        if !self.is_docker {
            return log.trim().parse().context("the embedded registry tells how many bytes it sent");
        }
        let lines = AccessLine::read_all(&log)?;
        if let Some(failed) = lines.iter().find(|line| line.status >= 500) {
            bail!("the registry failed: {failed:?}");
        }
        let of_blobs = lines.iter().filter(|line| line.method == "GET" && line.path().contains("/blobs/"));
        Ok(of_blobs.map(|line| line.bytes).sum())
    }
}

/// Serves until standard input is closed, then prints how many bytes of blobs' bodies were sent.
pub(crate) fn run(args: &OriginArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut artifact = Artifact::new(REPOSITORY, "application/vnd.oci.image.manifest.v1+json", "{}");
        for blob in blobs(args.count, args.bytes) {
            artifact = artifact.blob(blob);
        }
        let registry = Registry::builder().artifact(artifact).listen(args.listen).await?;
        tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
        println!("{}", registry.counts().blob_bytes_sent());
        Ok(())
    })
}

fn blobs(count: u64, bytes: u64) -> Vec<Blob> {
    // The last one takes what does not divide.
    let length = |at| if at + 1 == count { bytes - bytes / count * at } else { bytes / count };
    (0..count).map(|at| Blob::synthetic(length(at), SEED + at, |_| ())).collect()
}

/// Puts a blob where `distribution` looks for it, without its being pushed.
fn store(folder: &Path, blob: &Blob) -> anyhow::Result<()> {
    let digest = blob.digest().to_string();
    let data = data_of(folder, &blob.digest())?;
    let link = folder.join(ROOT).join("repositories").join(REPOSITORY).join("_layers").join(digest.replace(':', "/"));
    fs::create_dir_all(&data)?;
    fs::create_dir_all(&link)?;
    fs::write(link.join("link"), &digest)?;
    blob_file::write(blob, &data.join("data")).map(drop)
}

fn data_of(folder: &Path, digest: &Digest) -> anyhow::Result<PathBuf> {
    let digest = digest.to_string();
    let (algorithm, hex) = digest.split_once(':').context("a digest has an algorithm")?;
    Ok(folder.join(ROOT).join("blobs").join(algorithm).join(&hex[..2]).join(hex))
}

/// Whether a program is on the path.
pub(super) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

const CONFIG: &str = "\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: DATA
http:
  addr: ADDRESS
";
