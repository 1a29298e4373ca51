//! One client: it reads a blob or a part of it as containerd does, goes on where a body ends early, and compares every byte.

use std::{ops::Range, time::Duration};

use anyhow::{bail, ensure};
use http::{Method, StatusCode, header};
use shoal::fetch;
use shoal_registry::Blob;
use tokio::time::{Instant, sleep};

/// How long a client waits after a body has ended early or an error was answered.
const AGAIN: Duration = Duration::from_millis(200);
/// A client that gets nothing for so long, whatever is broken meanwhile, is not served.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What one client has met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: u64,
    /// Bodies that ended early, and connections that were not had.
    pub(super) broken: u64,
    /// Answers that were errors.
    pub(super) errors: u64,
}

/// Why a body was not read to its end.
enum Trouble {
    /// It will be asked for again.
    Broken(String),
    /// The daemon answered with an error, and will be asked again.
    Error(String),
    /// What came is not what was asked for.
    Wrong(anyhow::Error),
}

/// Reads a whole blob.
///
/// # Errors
/// When a byte is wrong, or nothing comes for two minutes.
pub(super) async fn pull(url: &str, blob: &Blob) -> anyhow::Result<Read> {
    read(url, blob, 0..blob.len()).await
}

/// Reads a part of a blob.
///
/// # Errors
/// Those of [`pull`].
pub(super) async fn read(url: &str, blob: &Blob, part: Range<u64>) -> anyhow::Result<Read> {
    let (mut read, mut at, mut moved) = (Read::default(), part.start, Instant::now());
    while at < part.end {
        let before = at;
        let trouble = go_on(url, blob, &mut at, part.end).await.err();
        read.bytes += at - before;
        if at > before {
            moved = Instant::now();
        }
        let trouble = match trouble {
            None => continue,
            Some(Trouble::Wrong(error)) => return Err(error.context(format!("GET {url}"))),
            Some(Trouble::Broken(trouble)) => {
                read.broken += 1;
                trouble
            }
            Some(Trouble::Error(trouble)) => {
                read.errors += 1;
                trouble
            }
        };
        if moved.elapsed() > STUCK_AFTER {
            bail!(
                "GET {url}: nothing after byte {at} of {} for {STUCK_AFTER:?}; the last trouble: {trouble}",
                blob.len()
            );
        }
        sleep(AGAIN).await;
    }
    Ok(read)
}

async fn go_on(url: &str, blob: &Blob, at: &mut u64, end: u64) -> Result<(), Trouble> {
    let whole = *at == 0 && end == blob.len();
    let range = (!whole).then(|| (header::RANGE, format!("bytes={at}-{}", end - 1)));
    let broken = |error: anyhow::Error| Trouble::Broken(format!("{error:#}"));
    let mut answer = fetch::send(Method::GET, url, range.as_slice()).await.map_err(broken)?;
    let expected = if whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    if answer.status != expected {
        let status = answer.status;
        let said = answer.whole().await.map_err(broken)?;
        let said = format!("{status} where {expected} was expected: {}", String::from_utf8_lossy(&said).trim());
        return Err(if status.is_success() { Trouble::Wrong(anyhow::Error::msg(said)) } else { Trouble::Error(said) });
    }
    while let Some(bytes) = answer.next().await.map_err(broken)? {
        check(blob, *at, &bytes, end).map_err(Trouble::Wrong)?;
        *at += bytes.len() as u64;
    }
    if *at < end { Err(Trouble::Broken(format!("the body ended at {at} and not at {end}"))) } else { Ok(()) }
}

fn check(blob: &Blob, at: u64, bytes: &[u8], end: u64) -> anyhow::Result<()> {
    ensure!(at + bytes.len() as u64 <= end, "more came than the {end} bytes that were asked for");
    ensure!(
        blob.read(at, bytes.len()) == bytes,
        "{} has wrong bytes in the {} from {at} on",
        blob.digest(),
        bytes.len()
    );
    Ok(())
}
