//! The seed dies, once or twice, and stays away.

use super::scene::{Scene, model};
use crate::support;

async fn at(percents: &[u64], model_seed: u64) {
    let _machine = support::whole_machine().await;
    let mut scene = Scene::begin(&model(model_seed), |_, _| 0).await;
    let mut seed = 0;
    for percent in percents {
        scene.sent(*percent).await;
        scene.kill_seed(seed).await;
        if percents.last() != Some(percent) {
            seed = scene.seed().await;
        }
    }
    scene.end(&format!("the seed dies at {percents:?} %")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_dies_at_30_percent() {
    at(&[30], 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_dies_at_60_percent() {
    at(&[60], 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_dies_at_90_percent() {
    at(&[90], 202).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_dies_and_so_does_the_next() {
    at(&[30, 60], 203).await;
}
