//! A server of somebody else's, for as long as a test lasts.

use std::{
    borrow::Cow,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

const READY_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(30);
/// How much of an output is shown: `ctr` paints its progress ten times a second.
const MOST_SHOWN: usize = 2000;
const GLANCE: Duration = Duration::from_millis(20);

/// A child process that is killed when this is dropped, also when the test panics. What it writes goes to two files.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Server {
    /// Starts `command` with `NAME.out` and `NAME.err` in `dir`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> anyhow::Result<Self> {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, out, err })
    }

    /// Everything that it wrote to standard output so far.
    pub(crate) fn out(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.out).with_context(|| format!("read what {} wrote", self.name))
    }

    /// Everything that it wrote to standard error so far.
    pub(crate) fn err(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.err).with_context(|| format!("read what {} wrote", self.name))
    }

    /// Looks again and again until there is something to see.
    pub(crate) async fn until<T>(&mut self, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(seen) = look(self).await {
                return Ok(seen);
            }
            let trouble = match self.child.try_wait()? {
                Some(status) => format!("ended ({status})"),
                None if Instant::now() > deadline => format!("is not ready after {READY_WITHIN:?}"),
                None => {
                    sleep(GLANCE).await;
                    continue;
                }
            };
            bail!("{} {trouble}:\n{}", self.name, self.err()?);
        }
    }

    /// Ends it with SIGTERM and returns what it wrote to standard output.
    pub(crate) async fn stop(mut self) -> anyhow::Result<String> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("it has ended")?;
        kill_process(pid, Signal::TERM)?;
        timeout(END_WITHIN, self.child.wait()).await.with_context(|| format!("{} does not end", self.name))??;
        self.out()
    }
}

/// Runs a program to its end and returns what it wrote to standard output.
///
/// # Errors
/// When it fails; the message has the end of what it wrote.
pub(crate) async fn run(program: &str, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let (out, err) = (end(&output.stdout), end(&output.stderr));
        bail!("{program} {}: {}\n{out}\n{err}", args.join(" "), output.status);
    }
    Ok(output.stdout)
}

fn end(output: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&output[output.len().saturating_sub(MOST_SHOWN)..])
}
