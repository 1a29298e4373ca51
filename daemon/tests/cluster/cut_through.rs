//! Bytes leave every node while the origin is still sending.

use futures::future::join_all;
use http::header;
use shoal::fetch;

use crate::support::{self, Copy, MIB, ask, blob_url, figures, seed, soon, take};

const LENGTH: u64 = 256 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_nodes_read_before_the_origin_has_sent_a_tenth() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 10);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    origin.hold_at(&digest, LENGTH / 10 - 1);
    let cluster = support::ready(support::daemons(4, &origin)).await;

    let started = join_all((0..4).map(async |node| {
        let mut answer = fetch::get(&blob_url(&cluster, node, &digest), None).await.unwrap();
        assert_eq!(answer.status, 200);
        let first = soon("the first bytes", answer.next()).await.unwrap().unwrap();
        let mut copy = Copy::of(layer);
        copy.push(&first);
        (answer, copy)
    }))
    .await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent < LENGTH / 10, "{sent} bytes had been sent by then");
    let mut seeds = 0;
    for node in 0..4 {
        seeds += u32::from(figures(&cluster, node, &digest).await.unwrap().bytes_from_origin > 0);
    }
    assert_eq!(seeds, 1, "the other three had their bytes from the seed");

    origin.release(&digest);
    join_all(started.into_iter().map(|(answer, copy)| take(answer, copy))).await;
    let counts = origin.counts().blob(&digest);
    assert_eq!((counts.bytes_sent, counts.heads), (LENGTH, 1));
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_beyond_what_the_origin_has_sent_waits_and_comes() {
    let _machine = support::half_machine().await;
    let model = support::model(64 * MIB, 11);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    origin.hold_at(&digest, 8 * MIB);
    let url = blob_url(&cluster, 0, &digest);
    let whole = fetch::get(&url, None);
    let ahead = async {
        seed(&cluster, &digest).await;
        fetch::get(&blob_url(&cluster, 1, &digest), Some(40 * MIB + 7)).await
    };
    let (whole, ahead) = tokio::join!(whole, ahead);
    let (whole, mut ahead) = (whole.unwrap(), ahead.unwrap());
    assert_eq!(ahead.status, 206);
    assert_eq!(ahead.headers[header::CONTENT_LENGTH], (24 * MIB - 7).to_string());
    let range = format!("bytes {}-{}/{}", 40 * MIB + 7, 64 * MIB - 1, 64 * MIB);
    assert_eq!(ahead.headers[header::CONTENT_RANGE], range);
    assert!(origin.counts().blob(&digest).bytes_sent <= 8 * MIB);
    origin.release(&digest);
    let reading_ahead = async {
        let mut at = 40 * MIB + 7;
        while let Some(bytes) = ahead.next().await.unwrap() {
            assert!(bytes == layer.read(at, bytes.len()), "wrong bytes at {at} or later");
            at += bytes.len() as u64;
        }
        assert_eq!(at, layer.len());
    };
    tokio::join!(take(whole, Copy::of(layer)), reading_ahead);
    assert_eq!(origin.counts().blob(&digest).bytes_sent, layer.len());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_blob_are_exact_before_and_after_it_is_here() {
    let _machine = support::half_machine().await;
    let model = support::model(16 * MIB + 123, 12);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    let length = layer.len();
    for node in [0, 1, 0] {
        for (first, last) in
            [(5 * MIB - 3, 7 * MIB + 1), (0, 0), (length - 1, length - 1), (MIB, 2 * MIB - 1), (15 * MIB, length - 1)]
        {
            let range = format!("bytes={first}-{last}");
            let url = blob_url(&cluster, node, &digest);
            let reply = ask(http::Method::GET, &url, &[(header::RANGE, &range)]).await;
            assert_eq!(reply.status, 206, "{range}");
            assert_eq!(reply.header("content-range"), format!("bytes {first}-{last}/{length}"));
            assert!(reply.body == layer.read(first, (last - first + 1) as usize), "wrong bytes in {range}");
        }
    }
    let suffix = ask(http::Method::GET, &blob_url(&cluster, 1, &digest), &[(header::RANGE, "bytes=-100")]).await;
    assert!(suffix.status == 206 && suffix.body == layer.read(length - 100, 100));
    assert_eq!(origin.counts().blob(&digest).bytes_sent, length, "each byte is read from the origin once");
    cluster.shutdown().await.unwrap();
}
