//! Daemons that are killed in mid-pull go on with what they had.

use futures::future::try_join_all;
use shoal::cluster::{Builder, Cluster};
use shoal_registry::{Blob, Registry};
use tokio::task::JoinHandle;

use crate::support::{self, MIB, SEED_LOSS, blob_url, figures, holds, pull_resuming, seed, soon};

const LENGTH: u64 = 256 * MIB;
const PIECES: u32 = 256;
/// Where the origin holds while somebody is killed.
const HALF: u64 = 128 * MIB;
/// Pieces that may have been on their way, or to have come twice, when a daemon died.
const LEEWAY: u64 = 8 * MIB;
/// Pieces of the origin that a seed may have stored, and not signed yet what follows them, when it died: without that nobody
/// can check them again. They are a part of what may be read twice when a seed dies.
const UNSIGNED: u32 = 4;

type Client = JoinHandle<anyhow::Result<()>>;

/// A pull by all nodes that has come half way: there the origin holds.
struct HalfWay {
    origin: Registry,
    cluster: Cluster,
    layer: Blob,
    /// On all nodes, by node; they go on where they were cut.
    clients: Vec<Client>,
}

impl HalfWay {
    async fn reached(daemons: impl FnOnce(&Registry) -> Builder, model_seed: u64) -> Self {
        let model = support::model(LENGTH, model_seed);
        let layer = model.layer().clone();
        let origin = support::origin(&model).await;
        let cluster = support::ready(daemons(&origin)).await;
        origin.hold_at(&layer.digest(), HALF);
        let start = |node| tokio::spawn(pull_resuming(blob_url(&cluster, node, &layer.digest()), layer.clone()));
        let clients = (0..cluster.len()).map(start).collect();
        let met = origin.until(|counts| counts.blob(&layer.digest()).bytes_sent == HALF);
        soon("half of the layer is sent", met).await;
        Self { origin, cluster, layer, clients }
    }

    async fn seed(&self) -> usize {
        seed(&self.cluster, &self.layer.digest()).await
    }

    /// Kills a daemon that holds that many pieces, and lets the origin go on. Returns how many it held.
    async fn kill(&mut self, node: usize, least: u32) -> u32 {
        let held = holds(&self.cluster, node, &self.layer.digest(), least).await;
        self.cluster.kill(node).await.unwrap();
        self.origin.release(&self.layer.digest());
        held
    }

    async fn finish(&mut self) {
        finish(std::mem::take(&mut self.clients)).await;
    }

    fn sent(&self) -> u64 {
        self.origin.counts().blob(&self.layer.digest()).bytes_sent
    }

    fn check_seed_loss(&self) {
        let sent = self.sent();
        assert!(sent <= LENGTH + SEED_LOSS, "{} MiB were sent twice", (sent - LENGTH) / MIB);
        assert_eq!(self.origin.counts().blob(&self.layer.digest()).heads, 1);
    }

    /// Checks that a daemon that was killed had to fetch only what it had not. What comes from a peer is signed before it is
    /// stored; of what a seed held, some may not have been.
    async fn check_resumed(&self, node: usize, held: u32, unsigned: u32) {
        let held = held - unsigned;
        let blob = figures(&self.cluster, node, &self.layer.digest()).await.unwrap();
        assert!(blob.complete, "{blob:?}");
        let fetched = blob.bytes_from_origin + blob.bytes_from_peers;
        let missing = u64::from(PIECES - held) * MIB;
        assert!(fetched <= missing + LEEWAY, "{held} pieces were held and {} MiB fetched after that", fetched / MIB);
        let rechecked = self.cluster.metric(node, r#"shoal_pieces_verified_total{from="disk"}"#).await.unwrap();
        assert!(rechecked >= f64::from(held), "{held} pieces were held and {rechecked} checked again");
    }
}

async fn finish(clients: Vec<Client>) {
    for outcome in try_join_all(clients).await.unwrap() {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_goes_on_and_the_origin_sends_nothing_twice() {
    let _machine = support::whole_machine().await;
    let mut pull = HalfWay::reached(|origin| support::daemons(3, origin), 20).await;
    let victim = (pull.seed().await + 1) % 3;
    let held = pull.kill(victim, 48).await;
    pull.cluster.restart(victim).await.unwrap();
    pull.finish().await;
    let counts = pull.origin.counts().blob(&pull.layer.digest());
    assert_eq!((counts.bytes_sent, counts.heads), (LENGTH, 1));
    pull.check_resumed(victim, held, 0).await;
    let blob = figures(&pull.cluster, victim, &pull.layer.digest()).await.unwrap();
    assert_eq!(blob.bytes_from_origin, 0);
    pull.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_seed_is_killed_at_most_64_mib_are_sent_twice() {
    let _machine = support::whole_machine().await;
    let mut pull = HalfWay::reached(|origin| support::daemons(3, origin), 21).await;
    let seed = pull.seed().await;
    let held = pull.kill(seed, 64).await;
    pull.cluster.restart(seed).await.unwrap();
    pull.finish().await;
    pull.check_seed_loss();
    pull.check_resumed(seed, held, UNSIGNED).await;
    pull.cluster.shutdown().await.unwrap();
}

/// The others finish while the seed stays away.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_stays_away_is_succeeded() {
    let _machine = support::whole_machine().await;
    let mut pull = HalfWay::reached(|origin| support::daemons(3, origin), 22).await;
    let seed = pull.seed().await;
    let orphan = pull.clients.remove(seed);
    pull.kill(seed, 64).await;
    pull.finish().await;
    pull.check_seed_loss();

    // It comes back to a swarm that has finished, and has everything from there.
    let sent = pull.sent();
    pull.cluster.restart(seed).await.unwrap();
    finish(vec![orphan]).await;
    assert_eq!(pull.sent(), sent);
    pull.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_alone_that_is_killed_goes_on() {
    let _machine = support::half_machine().await;
    let mut pull = HalfWay::reached(|origin| support::daemons(1, origin).alone(), 23).await;
    let held = pull.kill(0, 64).await;
    pull.cluster.restart(0).await.unwrap();
    pull.finish().await;
    pull.check_seed_loss();
    pull.check_resumed(0, held, UNSIGNED).await;
    pull.cluster.shutdown().await.unwrap();
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
