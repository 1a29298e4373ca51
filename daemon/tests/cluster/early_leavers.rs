//! Clients that go before they have an answer.

use std::time::Duration;

use shoal::fetch;
use tokio::time::timeout;

use crate::support::{self, MIB, blob_url, eventually, holds, pull_resuming};

const LENGTH: u64 = 128 * MIB;
const HELD: u64 = 96 * MIB;
/// How many clients come and go, each after one millisecond more.
const CLIENTS: u64 = 30;

/// A daemon that was killed checks what it has before it lets anybody read: meanwhile clients wait, and some go.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_while_a_blob_is_opened_are_not_waited_for() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 240);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    origin.hold_at(&digest, HELD);
    let mut cluster = support::ready(support::daemons(1, &origin).alone()).await;
    let url = blob_url(&cluster, 0, &digest);
    let first = tokio::spawn(pull_resuming(url.clone(), layer.clone()));
    holds(&cluster, 0, &digest, (HELD / MIB) as u32 - 8).await;
    first.abort();
    cluster.kill(0).await.unwrap();
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();

    for patience in 1..=CLIENTS {
        // Whether it had an answer by then is all the same.
        let _ = timeout(Duration::from_millis(patience), fetch::get(&url, None)).await;
    }
    eventually("what lay on the disk is checked", async || {
        let checked = cluster.metric(0, r#"shoal_pieces_verified_total{from="disk"}"#).await.unwrap();
        (checked > 0.0).then_some(())
    })
    .await;
    eventually("nobody is taken for a reader any more", async || {
        let figures = cluster.metrics(0).await.unwrap();
        let readers = figures.get("shoal_swarm_readers").copied()?;
        (readers == 0.0 && figures["shoal_mirror_open_readers"] == 0.0).then_some(())
    })
    .await;
    cluster.shutdown().await.unwrap();
}
