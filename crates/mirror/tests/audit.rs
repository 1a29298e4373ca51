//! What the audit is told of each answer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::{
    fs::File,
    io::Write,
    ops::Range,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use house::{Fake, House, digest_of, read_head, read_rest, until};
use reqwest::Method;
use shoal_mirror::{Answered, Audit, Chunk, Failure, Item, Lent, LentFile, MirrorConfig, ReadEnded, Source, Verdict};
use tokio::io::AsyncReadExt;

const LENGTH: u64 = 6_000_000;

#[derive(Default)]
struct Heard(Mutex<Vec<Answered>>);

impl Audit for Heard {
    fn answered(&self, answered: Answered) {
        self.0.lock().unwrap().push(answered);
    }
}

impl Heard {
    async fn next(&self) -> Answered {
        until(|| !self.0.lock().unwrap().is_empty()).await;
        self.0.lock().unwrap().remove(0)
    }
}

struct Shelf(File);

impl LentFile for Shelf {
    fn file(&self) -> &File {
        &self.0
    }

    fn may_send(&self, _: Range<u64>) -> bool {
        true
    }
}

fn data() -> Vec<u8> {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The first third is in the store, the second came from peers, the last from the origin; every second chunk is lent.
fn in_thirds() -> Fake {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&data()).unwrap();
    let (shelf, bytes) = (Arc::new(Shelf(file)), Bytes::from(data()));
    Fake::giving(digest_of(&bytes), LENGTH, move |range| {
        let (shelf, bytes) = (shelf.clone(), bytes.clone());
        let chunks = (0..LENGTH).step_by(500_000).filter_map(move |at| {
            let part = at.max(range.start)..(at + 500_000).min(range.end);
            let source = Source::ALL[(at / 2_000_000) as usize];
            let chunk = match at % 1_000_000 {
                0 => Chunk::from(Lent::new(shelf.clone(), part.clone())),
                _ => Chunk::from(bytes.slice(part.start.min(LENGTH) as usize..part.end.max(part.start) as usize)),
            };
            (part.start < part.end).then(|| Ok(chunk.from_source(source)))
        });
        Ok(stream::iter(chunks.collect::<Vec<_>>()).boxed())
    })
}

async fn house(fake: Fake, config: MirrorConfig) -> (House, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (House::telling(fake, config, Some(heard.clone())).await, heard)
}

fn sources(answered: &Answered) -> [u64; 3] {
    Source::ALL.map(|source| answered.from.of_source(source))
}

#[tokio::test]
async fn a_blob_is_told_with_all_that_was_asked_and_where_its_bytes_came_from() {
    let (house, heard) = house(in_thirds(), MirrorConfig::default()).await;
    let before = SystemTime::now();
    assert!(house.get(&house.blob_path(), &[]).await.body == data());
    let told = heard.next().await;
    assert!(told.at >= before && told.caller.ip().is_loopback());
    assert_eq!((told.method.clone(), told.what, told.status.as_u16()), (Method::GET, Item::Blob, 200));
    assert_eq!((told.repository.to_string().as_str(), told.digest), ("r.io/a", Some(house.fake.digest)));
    assert_eq!((told.reference.clone(), told.range.clone()), (house.fake.digest.to_string(), None));
    assert_eq!((told.bytes, sources(&told)), (LENGTH, [2_000_000; 3]));
    assert_eq!(told.verdict, Verdict::Served);

    house.get(&house.blob_path(), &[("range", "bytes=1999999-2000001")]).await;
    let told = heard.next().await;
    assert_eq!((told.bytes, sources(&told), told.status.as_u16()), (3, [1, 2, 0], 206));
    assert_eq!((told.range.as_deref(), told.verdict), (Some("bytes=1999999-2000001"), Verdict::Served));

    // What stands between the parts is sent too, and is no content.
    let answer = house.get(&house.blob_path(), &[("range", "bytes=0-9,5000000-5000009")]).await;
    let told = heard.next().await;
    assert_eq!((told.bytes, sources(&told)), (answer.body.len() as u64, [10, 0, 10]));
    assert_eq!(told.verdict, Verdict::Served);

    house.ask(Method::HEAD, &house.blob_path(), &[]).await;
    let told = heard.next().await;
    assert_eq!((told.method.clone(), told.bytes, told.verdict), (Method::HEAD, 0, Verdict::Served));
}

#[tokio::test]
async fn a_manifest_is_told_with_the_digest_that_its_tag_led_to() {
    let (house, heard) = house(Fake::of(vec![1]), MirrorConfig::default()).await;
    let digest = digest_of(&house.fake.manifest);
    house.get("/v2/r.io/a/b/manifests/v1", &[]).await;
    let told = heard.next().await;
    assert_eq!((told.what, told.reference.as_str(), told.digest), (Item::Manifest, "v1", Some(digest)));
    assert_eq!((told.bytes, sources(&told), told.verdict), (21, [0, 0, 21], Verdict::Served));
    assert_eq!(told.repository.to_string(), "r.io/a/b");

    house.ask(Method::HEAD, "/v2/r.io/a/b/manifests/v1", &[]).await;
    assert_eq!(heard.next().await.bytes, 0);
    house.get("/v2/r.io/a/b/manifests/v1", &[("if-none-match", &format!("\"{digest}\""))]).await;
    let told = heard.next().await;
    assert_eq!((told.status.as_u16(), told.bytes, told.verdict), (304, 0, Verdict::NotModified));
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_code_and_what_is_no_content_is_not_told() {
    let (house, heard) = house(Fake::of(vec![1]), MirrorConfig::default()).await;
    *house.fake.failure.lock().unwrap() = Some(Failure::CallerDenied { reason: "no".to_owned() });
    house.get(&house.blob_path(), &[]).await;
    let told = heard.next().await;
    assert_eq!((told.status.as_u16(), told.bytes, told.verdict), (403, 0, Verdict::Refused("DENIED")));
    house.get("/v2/a/manifests/v1?ns=r.io", &[]).await;
    let told = heard.next().await;
    assert_eq!((told.digest, told.verdict), (None, Verdict::Refused("DENIED")));

    // A line is one line: what cannot be a name is refused before it is one.
    for path in ["/v2/", "/v2/a/tags/list", "/v2/a%0a/manifests/v1", "/nothing"] {
        house.get(path, &[]).await;
    }
    house.ask(Method::PUT, "/v2/a/manifests/v1", &[]).await;
    assert!(heard.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_ends_early_is_told_with_what_was_sent_of_it() {
    let fake = Fake::giving(digest_of(b"any"), LENGTH, |_| {
        let end = ReadEnded(Failure::Stalled { reason: "the test said so".to_owned() });
        let bytes = Chunk::from(Bytes::from(vec![7; 1000])).from_source(Source::Peers);
        Ok(stream::iter([Ok(bytes), Err(end)]).boxed())
    });
    let (house, heard) = house(fake, MirrorConfig::default()).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    assert_eq!(read_rest(&mut socket).await.unwrap().len(), 1000);
    let told = heard.next().await;
    assert_eq!((told.bytes, sources(&told), told.verdict), (1000, [0, 1000, 0], Verdict::Short));
    assert_eq!(told.status.as_u16(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_is_told_with_what_it_took() {
    let (house, heard) = house(in_thirds(), MirrorConfig::default()).await;
    let mut socket = house.send_get(4 << 10).await;
    read_head(&mut socket).await;
    socket.read_exact(&mut [0; 1000]).await.unwrap();
    drop(socket);
    let told = heard.next().await;
    assert!((1000..3_000_000).contains(&told.bytes), "{told:?}");
    assert_eq!((told.bytes, told.verdict), (sources(&told).iter().sum(), Verdict::Left));
}
