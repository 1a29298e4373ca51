//! An origin that does not keep its connections.

use futures::future::join_all;
use http::StatusCode;
use shoal_registry::{Faults, Refusal, Target};

use crate::support::{self, MIB, blob_url, pull};

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_breaks_after_a_random_number_of_bytes() {
    let _machine = support::half_machine().await;
    let model = support::model(48 * MIB, 30);
    let layer = model.layer();
    let faults = Faults::none().break_after(100_000..6_000_000, 7);
    let origin = support::faulty_origin(&model, faults).await;
    let cluster = support::ready(support::daemons(3, &origin)).await;
    join_all((0..3).map(async |node| pull(&blob_url(&cluster, node, &layer.digest()), layer).await)).await;
    let counts = origin.counts().blob(&layer.digest());
    assert!(counts.bodies_cut > 5, "{counts:?}");
    assert_eq!(counts.heads, 1);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_end_early_and_errors_in_between_are_got_over() {
    let _machine = support::half_machine().await;
    let model = support::model(16 * MIB, 31);
    let layer = model.layer();
    let faults = Faults::none()
        .truncate(2_500_000)
        .refuse(Refusal::status(StatusCode::SERVICE_UNAVAILABLE).of(Target::Blobs).first(2));
    let origin = support::faulty_origin(&model, faults).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    join_all((0..2).map(async |node| pull(&blob_url(&cluster, node, &layer.digest()), layer).await)).await;
    let counts = origin.counts().blob(&layer.digest());
    assert_eq!((counts.bytes_sent, counts.refused), (layer.len(), 2), "{counts:?}");
    cluster.shutdown().await.unwrap();
}
