//! The coordinator dies, alone and together with the seed, and stays away.

use super::scene::{NODES, Scene, coordinator, model};
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_dies_and_the_seed_goes_on() {
    let _machine = support::whole_machine().await;
    let mut seed = None;
    let mut scene =
        Scene::begin(&model(210), |cluster, digest| *seed.insert((coordinator(cluster, digest) + 1) % NODES)).await;
    let victim = coordinator(&scene.cluster, &scene.layer.digest());
    scene.sent(40).await;
    scene.kill(victim).await;
    scene.sent(70).await;
    assert_eq!(Some(scene.seed().await), seed, "another node became the seed");
    let counts = scene.end("the coordinator dies at 40 %").await;
    assert_eq!(counts.bytes_repeated, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_and_the_seed_die_together() {
    let _machine = support::whole_machine().await;
    let mut scene = Scene::begin(&model(211), |cluster, digest| (coordinator(cluster, digest) + 1) % NODES).await;
    let (victim, seed) = (coordinator(&scene.cluster, &scene.layer.digest()), scene.seed().await);
    scene.sent(40).await;
    scene.kill_seed(seed).await;
    scene.kill(victim).await;
    scene.end("coordinator and seed die at 40 %").await;
}

/// One node is both: the one that is asked first is the closest to the digest.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_that_is_coordinator_and_seed_dies() {
    let _machine = support::whole_machine().await;
    let mut scene = Scene::begin(&model(212), coordinator).await;
    let seed = scene.seed().await;
    scene.sent(40).await;
    scene.kill_seed(seed).await;
    scene.end("the node that is both coordinator and seed dies at 40 %").await;
}
