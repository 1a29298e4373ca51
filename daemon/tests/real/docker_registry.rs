//! Debian's `docker-registry` (CNCF distribution), with a data folder, a port and an access log of its own.

use std::{fs, path::Path};

use anyhow::bail;
use shoal::fetch;
use shoal_registry::AccessLine;
use tokio::process::Command;

use crate::server::Server;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    server: Server,
    address: String,
    url: String,
}

impl DockerRegistry {
    /// Starts one that keeps everything in `dir`, which is made.
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(dir, "http", "").await
    }

    /// Starts one with more in its configuration, after `http` and its `addr`; `scheme` is what it speaks with that.
    pub(crate) async fn start_with(dir: &Path, scheme: &str, more: &str) -> anyhow::Result<Self> {
        fs::create_dir(dir)?;
        let config = dir.join("config.yml");
        let data = dir.join("data");
        fs::write(&config, format!("{}{more}", CONFIG.replace("DATA", &data.to_string_lossy())))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut server = Server::start("docker-registry", command, dir)?;
        // It takes a free port and tells it in its log.
        let address = server
            .until(async |server| {
                let log = server.err().ok()?;
                let (_, rest) = log.split_once("listening on ")?;
                Some(rest.split(['"', ',', ' ', '\n']).next()?.to_owned())
            })
            .await?;
        let url = format!("{scheme}://{address}");
        let root = format!("http://{address}/v2/");
        // Whatever it answers, to plain http where it speaks TLS too, it is there.
        server.until(async |_| fetch::get(&root, None).await.is_ok().then_some(())).await?;
        Ok(Self { server, address, url })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Something in it, as its own address names it.
    pub(crate) fn address(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// How many lines its access log has once a push has ended. A line is written after the answer was sent, so the last
    /// one may come when the client has gone.
    pub(crate) async fn lines_of_push(&mut self) -> anyhow::Result<usize> {
        let is_last = |entry: &AccessLine| entry.method == "PUT" && entry.path().contains("/manifests/");
        self.server
            .until(async |server| {
                let entries = entries(&server.out().ok()?).ok()?;
                entries.iter().any(is_last).then_some(entries.len())
            })
            .await
    }

    /// Ends it and returns its whole access log.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<AccessLine>> {
        entries(&self.server.stop().await?)
    }
}

/// What the registry says that it sent. One that fails is no origin to measure with.
fn entries(log: &str) -> anyhow::Result<Vec<AccessLine>> {
    let entries = AccessLine::read_all(log)?;
    match entries.iter().find(|entry| entry.status >= 500) {
        Some(failed) => bail!("the registry failed: {failed:?}"),
        None => Ok(entries),
    }
}

const CONFIG: &str = "\
version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: DATA
http:
  addr: 127.0.0.1:0
";
