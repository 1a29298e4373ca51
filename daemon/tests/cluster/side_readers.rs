//! Many readers of one cold blob: containerd's parts, and Ollama's.

use std::sync::Arc;

use futures::{StreamExt, future::try_join_all, stream};
use http::header;
use shoal::fetch;
use shoal_registry::Blob;

use crate::support::{self, MIB, blob_url, eventually, pull};

const LENGTH: u64 = 96 * MIB + 12_345;

/// containerd 2.1 and later with `concurrent_layer_fetch_buffer`: the first request is `bytes=0-`; its answer, and seven more
/// workers, are used for parts in order. Each part is asked for without an end, read, and left.
async fn as_containerd(url: &str, layer: &Blob, part: u64) -> anyhow::Result<()> {
    let length = layer.len();
    let first = fetch::get(url, Some(0)).await?;
    anyhow::ensure!(first.status == 206, "{}", first.status);
    assert_eq!(first.headers[header::CONTENT_RANGE], format!("bytes 0-{}/{length}", length - 1));
    assert_eq!(first.headers[header::CONTENT_LENGTH], length.to_string());
    let mut first = Some(first);
    let parts = (0..length.div_ceil(part)).map(|number| {
        let from = number * part;
        let first = first.take();
        async move {
            let mut answer = match first {
                Some(answer) => answer,
                None => fetch::get(url, Some(from)).await?,
            };
            anyhow::ensure!(answer.status == 206, "{} at {from}", answer.status);
            assert_eq!(answer.headers[header::CONTENT_LENGTH], (length - from).to_string());
            let end = length.min(from + part);
            let mut at = from;
            while at < end {
                let Some(bytes) = answer.next().await? else { anyhow::bail!("the body ended at {at}") };
                let bytes = bytes.slice(..bytes.len().min((end - at) as usize));
                assert!(bytes == layer.read(at, bytes.len()), "wrong bytes at {at} or later");
                at += bytes.len() as u64;
            }
            anyhow::Ok(())
        }
    });
    let outcomes: Vec<_> = stream::iter(parts).buffer_unordered(8).collect().await;
    outcomes.into_iter().collect()
}

/// Ollama: the length, then sixteen closed ranges side by side.
async fn as_ollama(url: &str, layer: &Blob) -> anyhow::Result<()> {
    let head = fetch::send(http::Method::HEAD, url, &[]).await?;
    let length: u64 = head.headers[header::CONTENT_LENGTH].to_str()?.parse()?;
    assert_eq!(length, layer.len());
    let part = length.div_ceil(16);
    let parts = (0..16).map(async |number| {
        let (from, end) = (number * part, length.min((number + 1) * part));
        let range = vec![(header::RANGE, format!("bytes={from}-{}", end - 1))];
        let mut answer = fetch::send(http::Method::GET, url, &range).await?;
        anyhow::ensure!(answer.status == 206, "{} at {from}", answer.status);
        assert_eq!(answer.headers[header::CONTENT_RANGE], format!("bytes {from}-{}/{length}", end - 1));
        let mut at = from;
        while let Some(bytes) = answer.next().await? {
            assert!(bytes == layer.read(at, bytes.len()), "wrong bytes at {at} or later");
            at += bytes.len() as u64;
        }
        anyhow::ensure!(at == end, "{at} where {end} was expected");
        anyhow::Ok(())
    });
    try_join_all(parts).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_cold_blob_come_right_and_the_origin_is_read_once() {
    let _machine = support::whole_machine().await;
    let model = support::model(LENGTH, 430);
    let layer = Arc::new(model.layer().clone());
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(3, &origin)).await;
    let urls: Vec<_> = (0..3).map(|node| blob_url(&cluster, node, &layer.digest())).collect();
    let (parts, ranges, ()) =
        tokio::join!(as_containerd(&urls[0], &layer, 4 * MIB), as_ollama(&urls[1], &layer), pull(&urls[2], &layer));
    parts.unwrap();
    ranges.unwrap();
    // Those who left in mid-body are gone from every node at once.
    for node in 0..3 {
        let readers = async || cluster.metric(node, "shoal_mirror_open_readers").await.unwrap();
        eventually("no reader is left", async || (readers().await == 0.0).then_some(())).await;
    }
    let left = cluster.metric(0, "shoal_mirror_abandoned_bodies_total").await.unwrap();
    assert!(left >= 8.0, "{left} bodies were left");
    // Once more, where it is stored, and in the other way.
    tokio::try_join!(as_ollama(&urls[0], &layer), as_containerd(&urls[1], &layer, MIB)).unwrap();
    let counts = origin.counts().blob(&layer.digest());
    assert_eq!((counts.bytes_sent, counts.heads), (LENGTH, 1));
    cluster.shutdown().await.unwrap();
}
