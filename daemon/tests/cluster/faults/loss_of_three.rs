//! Three of eight daemons die and return with what they had.

use super::scene::{NODES, Scene, model};
use crate::support::{self, MIB, eventually, figures};

/// A piece that was being stored, or whose next midstate had not been signed, is not found again.
const UNSIGNED: u32 = 4;

async fn three(victims: [usize; 3], model_seed: u64, what: &str) {
    let _machine = support::whole_machine().await;
    let mut scene = Scene::begin(&model(model_seed), |_, _| 0).await;
    let digest = scene.layer.digest();
    scene.sent(30).await;
    let mut held = Vec::new();
    for victim in victims {
        held.push(figures(&scene.cluster, victim, &digest).await.map_or(0, |blob| blob.held_pieces));
        if victim == 0 { scene.kill_seed(victim).await } else { scene.kill(victim).await }
    }
    scene.sent(50).await;
    for victim in victims {
        scene.restart(victim).await;
    }
    for (victim, held) in victims.into_iter().zip(held) {
        let found = r#"shoal_pieces_verified_total{from="disk"}"#;
        let found = eventually("a daemon that returned finds what it had", async || {
            scene.cluster.metric(victim, found).await.ok().filter(|found| *found > 0.0)
        });
        let found = found.await;
        println!("figure: node-{victim} had {held} MiB when it was killed, and {found} MiB when it came back");
        assert!(found + f64::from(UNSIGNED) >= f64::from(held), "{held} pieces were held, {found} were found");
    }
    assert_eq!(scene.cluster.len(), NODES);
    let counts = scene.end(what).await;
    println!("figure: {what}: {:.1} MiB were read twice", counts.bytes_repeated as f64 / MIB as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_eight_die_and_return_the_seed_among_them() {
    three([0, 3, 6], 220, "three of eight die at 30 %, the seed among them, and return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_of_eight_die_and_return() {
    three([2, 4, 7], 221, "three members of eight die at 30 % and return").await;
}
