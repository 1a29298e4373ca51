//! Waiting until nobody does anything any more.

use std::time::Duration;

use shoal::cluster::Cluster;
use shoal_registry::Registry;
use tokio::time::{Instant, sleep};

const GLANCE: Duration = Duration::from_millis(500);

/// What has to come to nothing by itself once no client reads: each is a figure of `/metrics`.
const WORK: [&str; 10] = [
    r#"shoal_swarms{state="seeking"}"#,
    r#"shoal_swarms{state="pulling"}"#,
    r#"shoal_swarms{state="holding"}"#,
    "shoal_swarms_coordinated",
    "shoal_swarm_readers",
    "shoal_leases_held",
    "shoal_leases_out",
    "shoal_in_flight_bytes",
    "shoal_slots_open",
    "shoal_mirror_open_readers",
];

/// Waits until no daemon has work and the origin sends nothing; returns what is still left after that time.
pub(super) async fn wait(cluster: &Cluster, origin: &Registry, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    loop {
        let left = left(cluster, origin).await;
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        sleep(GLANCE).await;
    }
}

async fn left(cluster: &Cluster, origin: &Registry) -> Vec<String> {
    let mut left = Vec::new();
    for node in 0..cluster.len() {
        match cluster.metrics(node).await {
            Err(error) => left.push(format!("node-{node}: {error:#}")),
            Ok(figures) => {
                let work = WORK.into_iter().map(|name| (name, figures.get(name).copied().unwrap_or(0.0)));
                let work = work.filter(|(_, value)| *value != 0.0);
                left.extend(work.map(|(name, value)| format!("node-{node}: {name} is {value}")));
            }
        }
    }
    let bodies: u64 = origin.counts().blobs.values().map(|blob| blob.bodies_now).sum();
    if bodies > 0 {
        left.push(format!("the origin still sends {bodies} bodies"));
    }
    left
}
