//! Limits of what a node sends, receives and reads of origins: from the settings, and changed by SIGHUP.

use std::fs;

use tokio::time::{Duration, Instant};

use crate::support::{self, MIB, REGISTRY, blob_url, eventually, pull};

/// 16mbit, as the settings here say it.
const RATE: u64 = 2_000_000;
/// What may pass faster: what a late timer is allowed to catch up, what was read of the origin at a time, what peers have sent
/// ahead.
const AHEAD: u64 = 2 * MIB;

/// The least time in which so much passes under the limit.
fn least(bytes: u64) -> Duration {
    Duration::from_secs_f64((bytes - AHEAD) as f64 / RATE as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_are_changed_by_sighup() {
    let _machine = support::whole_machine().await;
    let model = support::model(6 * MIB, 130);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shoal.toml");
    let say = |limits: &str| {
        fs::write(&file, format!("registry = [\"{REGISTRY}={}\"]\n{limits}\n", origin.url())).unwrap();
    };
    say("limit_origin = \"16mbit\"");
    let builder = support::bare_daemons(3).flag("config", &file.to_string_lossy());
    let cluster = support::ready(builder.flag_of(2, "limit-down", "16mbit")).await;
    let limit = async |node, link: &str| {
        let name = format!("shoal_limit_bytes_per_second{{link=\"{link}\"}}");
        cluster.metric(node, &name).await.unwrap() as u64
    };
    let timed = async |node| {
        let began = Instant::now();
        pull(&blob_url(&cluster, node, &layer.digest()), layer).await;
        began.elapsed()
    };
    assert_eq!((limit(0, "origin").await, limit(0, "up").await, limit(0, "down").await), (RATE, 0, 0));
    assert_eq!(limit(2, "down").await, RATE);
    let took = timed(0).await;
    assert!(took >= least(layer.len()), "read of the origin in {took:?}");

    say("limit_up = \"2000kB/s\"");
    cluster.reload(0).unwrap();
    eventually("the limits are changed", async || (limit(0, "up").await == RATE).then_some(())).await;
    assert_eq!(limit(0, "origin").await, 0);
    let took = timed(1).await;
    assert!(took >= least(layer.len()), "sent to a peer in {took:?}");

    say("");
    cluster.reload(0).unwrap();
    eventually("the limit is lifted", async || (limit(0, "up").await == 0).then_some(())).await;
    let took = timed(2).await;
    assert!(took >= least(layer.len()), "received from peers in {took:?}");
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len(), "read once, and traded");
    cluster.shutdown().await.unwrap();
}
