//! One cold pull through a daemon that is alone, against a plain read of the origin, over a link of 1 Gbit/s.

use std::{net::SocketAddr, process::Stdio, time::Instant};

use anyhow::{Context, ensure};
use shoal_registry::{Faults, Registry};
use tokio::{process::Command, task::spawn_blocking};

use super::{
    Setting, client,
    comparison::{Comparison, Goal, Unit},
    cost::figures,
};

const MOST_TIME: f64 = 1.03;
/// What the origin sends in a second, in bytes.
pub(super) const LINK: u64 = 125_000_000;

pub(super) async fn measure(setting: &Setting<'_>) -> anyhow::Result<Vec<Comparison>> {
    let origin = setting.layer.origin(Faults::none().rate(LINK)).await?;
    let with_curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().await.is_ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        theirs.push(seconds(setting, &origin, origin.addr(), with_curl).await?);
        ours.push(cold(setting, &origin, with_curl).await?);
    }
    let against = if with_curl { "curl from the origin" } else { "plain read (no curl here)" };
    Ok(vec![figures("cold pull, time", &ours, against, &theirs, Unit::Seconds, Goal::AtMost(MOST_TIME))])
}

async fn cold(setting: &Setting<'_>, origin: &Registry, with_curl: bool) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(setting.folder)?;
    let cluster = setting.lone_daemon(folder.path(), origin).await?;
    let took = seconds(setting, origin, cluster.mirror_addr(0), with_curl).await;
    let took = took.with_context(|| format!("the daemon; the end of its log:\n{}", cluster.log_tail(0)))?;
    cluster.shutdown().await?;
    Ok(took)
}

/// How long one whole read takes.
async fn seconds(setting: &Setting<'_>, origin: &Registry, server: SocketAddr, with_curl: bool) -> anyhow::Result<f64> {
    let (bytes, path) = (setting.layer.bytes(), setting.layer.path(origin));
    if !with_curl {
        let begun = Instant::now();
        spawn_blocking(move || client::get(server, &path, None, bytes)).await??;
        return Ok(begun.elapsed().as_secs_f64());
    }
    let url = format!("http://{server}{path}");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{size_download} %{time_total}", &url]).kill_on_drop(true);
    let told = curl.output().await.context("run curl")?;
    ensure!(told.status.success(), "curl {url}: {}", String::from_utf8_lossy(&told.stderr).trim());
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let (came, took) = told.split_once(' ').context("curl was asked for two figures")?;
    ensure!(came == bytes.to_string(), "curl had {came} of {bytes} bytes of {url}");
    took.parse().with_context(|| format!("curl took {took:?} seconds"))
}
