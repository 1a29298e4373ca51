//! Daemons that are killed in mid-pull go on with what they had.

use futures::future::try_join_all;
use shoal::cluster::Cluster;
use shoal_registry::{Blob, Registry};
use tokio::task::JoinHandle;

use crate::support::{self, MIB, SEED_LOSS, blob_url, figures, holds, pull_resuming, seed, soon};

const LENGTH: u64 = 256 * MIB;
const PIECES: u32 = 256;
/// Where the origin holds while somebody is killed.
const HALF: u64 = 128 * MIB;
/// Pieces that may have been on their way, or to have come twice, when a daemon died.
const LEEWAY: u64 = 8 * MIB;

type Client = JoinHandle<anyhow::Result<()>>;

/// Clients on all nodes that go on where they were cut.
fn clients(cluster: &Cluster, layer: &Blob) -> Vec<Client> {
    let start = |node| tokio::spawn(pull_resuming(blob_url(cluster, node, &layer.digest()), layer.clone()));
    (0..cluster.len()).map(start).collect()
}

async fn finish(clients: Vec<Client>) {
    for outcome in try_join_all(clients).await.unwrap() {
        outcome.unwrap();
    }
}

/// Waits until the origin has sent half and holds.
async fn half_sent(origin: &Registry, layer: &Blob) {
    let met = origin.until(|counts| counts.blob(&layer.digest()).bytes_sent == HALF);
    soon("half of the layer is sent", met).await;
}

/// Checks that a daemon that was killed had to fetch only what it had not.
async fn check_resumed(cluster: &Cluster, node: usize, layer: &Blob, held: u32) {
    let blob = figures(cluster, node, &layer.digest()).await.unwrap();
    assert!(blob.complete, "{blob:?}");
    let fetched = blob.bytes_from_origin + blob.bytes_from_peers;
    let missing = u64::from(PIECES - held) * MIB;
    assert!(fetched <= missing + LEEWAY, "{held} pieces were held and {} MiB fetched after that", fetched / MIB);
    let rechecked = cluster.metric(node, r#"shoal_pieces_verified_total{from="disk"}"#).await.unwrap();
    assert!(rechecked >= f64::from(held), "{held} pieces were held and {rechecked} checked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_goes_on_and_the_origin_sends_nothing_twice() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 20);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(3, &origin)).await;
    origin.hold_at(&digest, HALF);
    let clients = clients(&cluster, layer);
    let seed = seed(&cluster, &digest).await;
    half_sent(&origin, layer).await;
    let victim = (seed + 1) % 3;
    let held = holds(&cluster, victim, &digest, 48).await;

    cluster.kill(victim).await.unwrap();
    origin.release(&digest);
    cluster.restart(victim).await.unwrap();
    finish(clients).await;
    let counts = origin.counts().blob(&digest);
    assert_eq!((counts.bytes_sent, counts.heads), (LENGTH, 1));
    check_resumed(&cluster, victim, layer, held).await;
    assert_eq!(figures(&cluster, victim, &digest).await.unwrap().bytes_from_origin, 0);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_seed_is_killed_at_most_64_mib_are_sent_twice() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 21);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(3, &origin)).await;
    origin.hold_at(&digest, HALF);
    let clients = clients(&cluster, layer);
    let seed = seed(&cluster, &digest).await;
    half_sent(&origin, layer).await;
    let held = holds(&cluster, seed, &digest, 64).await;

    cluster.kill(seed).await.unwrap();
    origin.release(&digest);
    cluster.restart(seed).await.unwrap();
    finish(clients).await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= LENGTH + SEED_LOSS, "{} MiB were sent twice", (sent - LENGTH) / MIB);
    assert_eq!(origin.counts().blob(&digest).heads, 1);
    check_resumed(&cluster, seed, layer, held).await;
    cluster.shutdown().await.unwrap();
}

/// The others finish while the seed stays away.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_stays_away_is_succeeded() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 22);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(3, &origin)).await;
    origin.hold_at(&digest, HALF);
    let mut clients = clients(&cluster, layer);
    let seed = seed(&cluster, &digest).await;
    half_sent(&origin, layer).await;
    let orphan = clients.remove(seed);

    cluster.kill(seed).await.unwrap();
    origin.release(&digest);
    finish(clients).await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= LENGTH + SEED_LOSS, "{} MiB were sent twice", (sent - LENGTH) / MIB);

    // It comes back to a swarm that has finished, and has everything from there.
    cluster.restart(seed).await.unwrap();
    finish(vec![orphan]).await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, sent);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_alone_that_is_killed_goes_on() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 23);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(1, &origin).alone()).await;
    origin.hold_at(&digest, HALF);
    let clients = clients(&cluster, layer);
    half_sent(&origin, layer).await;
    let held = holds(&cluster, 0, &digest, 64).await;

    cluster.kill(0).await.unwrap();
    origin.release(&digest);
    cluster.restart(0).await.unwrap();
    finish(clients).await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= LENGTH + SEED_LOSS, "{} MiB were sent twice", (sent - LENGTH) / MIB);
    check_resumed(&cluster, 0, layer, held).await;
    cluster.shutdown().await.unwrap();
}

/// Killed again and again, it gets there: no life's work is lost with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_over_and_over_gets_there() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 24);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(2, &origin)).await;
    support::pull(&blob_url(&cluster, 0, &digest), layer).await;
    let client = tokio::spawn(pull_resuming(blob_url(&cluster, 1, &digest), layer.clone()));
    for held in [32, 96, 160] {
        holds(&cluster, 1, &digest, held).await;
        cluster.kill(1).await.unwrap();
        cluster.restart(1).await.unwrap();
    }
    finish(vec![client]).await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, LENGTH);
    cluster.shutdown().await.unwrap();
}
