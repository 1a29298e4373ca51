//! A client of one node: it reads a layer as containerd does, hashes it, and tells when the first and the last byte came.
//!
//! It is a process of its own in the node's namespace: it says `ready` on standard output, begins when a line comes on
//! standard input, and answers with one line of JSON.

use std::{
    io::{BufRead, Write},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shoal::{cluster::Host, fetch};
use shoal_blob::Digest;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::lab::within;

const READY: &str = "ready";

/// The arguments of the client.
#[derive(clap::Args, Debug)]
pub(crate) struct ReaderArgs {
    url: String,
}

/// What a client saw, in seconds since it asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) first_byte: f64,
    pub(crate) seconds: f64,
    digest: Digest,
}

/// A client that is ready to begin.
#[derive(Debug)]
pub(crate) struct Reader {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    digest: Digest,
}

impl Reader {
    /// What reads `url` on a host.
    pub(crate) fn of(host: &Host, url: &str) -> anyhow::Result<Command> {
        let mut command = within(host, &std::env::current_exe()?.to_string_lossy());
        command.arg("fanout-reader").arg(url);
        Ok(command)
    }

    /// Starts a client, and waits until it is ready.
    pub(crate) async fn start(mut command: Command, digest: Digest) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start a client")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdin = stdin.context("the client has no standard input")?;
        let mut lines = BufReader::new(stdout.context("the client has no standard output")?).lines();
        let said = lines.next_line().await?;
        ensure!(said.as_deref() == Some(READY), "a client ended before it was ready");
        Ok(Self { child, stdin, lines, digest })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets it begin, and waits until it has read all. It lives until this is dropped.
    pub(crate) async fn read(&mut self) -> anyhow::Result<Read> {
        self.stdin.write_all(b"go\n").await.context("let a client begin")?;
        let line = self.lines.next_line().await?;
        let line = line.context("a client ended without an answer")?;
        let read: Read = serde_json::from_str(&line)?;
        ensure!(read.digest == self.digest, "{} was asked for and {} came", self.digest, read.digest);
        Ok(read)
    }
}

/// The client itself.
pub(crate) fn run(args: &ReaderArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{READY}");
    std::io::stdout().flush()?;
    let mut go = String::new();
    if std::io::stdin().lock().read_line(&mut go)? == 0 {
        return Ok(());
    }
    let read = runtime.block_on(read(&args.url))?;
    println!("{}", serde_json::to_string(&read)?);
    Ok(())
}

async fn read(url: &str) -> anyhow::Result<Read> {
    let began = Instant::now();
    let mut answer = fetch::get(url, None).await?;
    let status = answer.status;
    if status != StatusCode::OK {
        bail!("GET {url}: {status}: {}", String::from_utf8_lossy(&answer.whole().await?).trim());
    }
    let mut hasher = Sha256::new();
    let mut first_byte = None;
    while let Some(bytes) = answer.next().await.with_context(|| format!("GET {url}"))? {
        first_byte.get_or_insert_with(|| began.elapsed().as_secs_f64());
        hasher.update(&bytes);
    }
    let seconds = began.elapsed().as_secs_f64();
    let digest = Digest::Sha256(hasher.finalize().into());
    Ok(Read { first_byte: first_byte.unwrap_or(seconds), seconds, digest })
}
