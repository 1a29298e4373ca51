//! A seed dies that reads the largest pieces there are, of 16 MiB: what is read twice stays as little.

use std::time::Duration;

use shoal_blob::{Digest, Layout};
use shoal_registry::{Artifact, Blob};
use tokio::time::timeout;

use crate::support::{self, MIB, REPOSITORY, SEED_LOSS, blob_url, eventually};

/// The shortest blob whose pieces are that large. Nobody comes to its end here, where its digest would turn out not to fit.
const LENGTH: u64 = 32 << 30;
const NODES: usize = 3;
/// Where the seed is killed, and where it is enough.
const DEATH: u64 = 256 * MIB;
const END: u64 = 512 * MIB;
const WITHIN: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_of_pieces_of_16_mib_dies() {
    let _machine = support::whole_machine().await;
    let digest = Digest::Sha256([0x5e; 32]);
    assert_eq!(u64::from(Layout::new(LENGTH).unwrap().piece_bytes()), 16 * MIB);
    let artifact = Artifact::new(REPOSITORY, "application/vnd.oci.image.manifest.v1+json", "{}");
    let artifact = artifact.blob(Blob::synthetic_claiming(digest, LENGTH, 230));
    let origin = support::origin(&artifact).await;
    let mut cluster = support::ready(support::daemons(NODES, &origin)).await;
    origin.hold_at(&digest, MIB);
    let mut clients = Vec::new();
    for node in 0..NODES {
        let mut answer = shoal::fetch::get(&blob_url(&cluster, node, &digest), None).await.unwrap();
        // It ends short where its daemon dies, and wherever this test ends.
        clients.push(tokio::spawn(async move { while let Ok(Some(_)) = answer.next().await {} }));
    }
    let seed = support::seed(&cluster, &digest).await;
    origin.release(&digest);

    let sent = async |bytes| {
        let met = origin.until(|counts| counts.blob(&digest).bytes_sent >= bytes);
        timeout(WITHIN, met).await.unwrap_or_else(|_| panic!("{} MiB are not sent", bytes / MIB));
    };
    sent(DEATH).await;
    cluster.kill(seed).await.unwrap();
    sent(END).await;
    // What was read before the death has come to those who live, and what was lost with the seed was read again.
    let pieces = (DEATH / (16 * MIB)) as u32;
    for node in (0..NODES).filter(|node| *node != seed) {
        eventually("a survivor goes on", async || {
            let held = support::figures(&cluster, node, &digest).await?.held_pieces;
            (held >= pieces).then_some(())
        })
        .await;
    }
    let repeated = origin.counts().blob(&digest).bytes_repeated;
    println!(
        "figure: the seed of pieces of 16 MiB dies after {} MiB: {:.1} MiB were sent twice",
        DEATH / MIB,
        repeated as f64 / MIB as f64
    );
    assert!(repeated <= SEED_LOSS, "{} MiB were sent twice", repeated / MIB);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    cluster.shutdown().await.unwrap();
}
