//! A client as containerd is one, with a watch: it goes on where a body ends early, and tells the longest time for which it
//! got nothing.

use std::time::Duration;

use anyhow::{bail, ensure};
use http::StatusCode;
use shoal::fetch;
use shoal_registry::Blob;
use tokio::time::{Instant, sleep};

use crate::support::Copy;

/// How long after a body has ended early the next is asked for.
const AGAIN: Duration = Duration::from_millis(20);

/// Pulls a blob and checks it; returns the longest pause between two parts of it, the one before the first part included.
pub(super) async fn pull(url: String, blob: Blob, within: Duration) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + within;
    let mut copy = Copy::of(&blob);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut trouble = String::new();
    while copy.length < blob.len() {
        if Instant::now() > deadline {
            let (had, length) = (copy.length, blob.len());
            bail!("{url}: {had} of {length} bytes came in {within:?}; the last trouble: {trouble}");
        }
        if let Err(error) = go_on(&url, &mut copy, &mut last, &mut longest).await {
            trouble = format!("{error:#}");
            sleep(AGAIN).await;
        }
    }
    copy.check();
    Ok(longest)
}

async fn go_on(url: &str, copy: &mut Copy, last: &mut Instant, longest: &mut Duration) -> anyhow::Result<()> {
    let from = (copy.length > 0).then_some(copy.length);
    let mut answer = fetch::get(url, from).await?;
    let expected = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    ensure!(answer.status == expected, "{} where {expected} was expected", answer.status);
    while let Some(bytes) = answer.next().await? {
        copy.push(&bytes);
        let now = Instant::now();
        *longest = (*longest).max(now - *last);
        *last = now;
    }
    Ok(())
}
