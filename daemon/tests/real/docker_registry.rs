//! Debian's `docker-registry` (CNCF distribution), with a data folder, a port and an access log of its own.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use shoal::fetch;
use tokio::process::Command;

use crate::server::Server;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    server: Server,
    address: String,
    url: String,
}

/// A line of its access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) status: u16,
    /// The bytes of the body that it sent; for a HEAD those that it did not send.
    pub(crate) bytes: u64,
    pub(crate) user_agent: String,
}

impl DockerRegistry {
    /// Starts one that keeps everything in `dir`, which is made.
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir(dir)?;
        let config = dir.join("config.yml");
        let data = dir.join("data");
        fs::write(&config, CONFIG.replace("DATA", &data.to_string_lossy()))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut server = Server::start("docker-registry", command, dir)?;
        // It takes a free port and tells it in its log.
        let address = server
            .until(async |server| {
                let log = server.err().ok()?;
                let (_, rest) = log.split_once("listening on ")?;
                Some(rest.split(['"', ' ', '\n']).next()?.to_owned())
            })
            .await?;
        let url = format!("http://{address}");
        let root = format!("{url}/v2/");
        server
            .until(async |_| fetch::get(&root, None).await.is_ok_and(|answer| answer.status.is_success()).then_some(()))
            .await?;
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
        let is_last = |entry: &Entry| entry.method == "PUT" && entry.path().contains("/manifests/");
        self.server
            .until(async |server| {
                let entries = entries(&server.out().ok()?).ok()?;
                entries.iter().any(is_last).then_some(entries.len())
            })
            .await
    }

    /// Ends it and returns its whole access log.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Entry>> {
        entries(&self.server.stop().await?)
    }
}

impl Entry {
    /// The path, without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Reads a line of Apache's "combined" form:
    /// `HOST - USER [TIME] "METHOD TARGET HTTP/1.1" STATUS BYTES "REFERER" "USER-AGENT"`.
    fn read(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let (_, request, figures, _, _, user_agent) =
            (quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?);
        let mut request = request.split(' ');
        let mut figures = figures.split_whitespace();
        Some(Self {
            method: request.next()?.to_owned(),
            target: request.next()?.to_owned(),
            status: figures.next()?.parse().ok()?,
            bytes: figures.next()?.parse().ok()?,
            user_agent: user_agent.to_owned(),
        })
    }
}

/// Every line is understood: one that is passed over could hide bytes that were sent.
fn entries(log: &str) -> anyhow::Result<Vec<Entry>> {
    let entries: Vec<Entry> = log
        .lines()
        .map(|line| Entry::read(line).with_context(|| format!("the access log has a line of another form: {line}")))
        .collect::<anyhow::Result<_>>()?;
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

#[test]
fn a_line_of_the_access_log_is_read() {
    let line =
        r#"127.0.0.1 - - [23/Nov/2026:22:56:25 +0000] "GET /v2/a/blobs/sha256:00?ns=b HTTP/1.1" 206 545 "" "shoal/1""#;
    let entry = Entry::read(line).unwrap();
    assert_eq!((entry.path(), entry.status, entry.bytes), ("/v2/a/blobs/sha256:00", 206, 545));
    assert_eq!((&*entry.method, &*entry.user_agent), ("GET", "shoal/1"));
    assert!(entries("nonsense").is_err());
}
