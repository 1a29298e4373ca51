//! Clients that mean ill: what they send is refused, costs little, and harms nobody else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use house::{Fake, House, digest_of, read_rest, soon, until};
use shoal_mirror::MirrorConfig;
use tokio::{io::AsyncWriteExt, time::sleep};

const LENGTH: u64 = 20_000;

fn data() -> Bytes {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A blob that counts how many reads of it are open, and how many ever were at once.
fn counted() -> (Fake, Arc<[AtomicUsize; 2]>) {
    struct Open(Arc<[AtomicUsize; 2]>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0[0].fetch_sub(1, SeqCst);
        }
    }
    let open = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counter = open.clone();
    let fake = Fake::reading(digest_of(&data()), LENGTH, move |range: Range<u64>| {
        let now = counter[0].fetch_add(1, SeqCst) + 1;
        counter[1].fetch_max(now, SeqCst);
        let held = Open(counter.clone());
        let part = data().slice(range.start as usize..range.end as usize);
        let keep = move |chunk| {
            let _held = &held;
            chunk
        };
        Ok(stream::iter([Ok(part)]).map(keep).boxed())
    });
    (fake, open)
}

#[tokio::test]
async fn thousands_of_ranges_cost_one_read_at_a_time() {
    let (fake, open) = counted();
    let house = House::new(fake).await;
    let list = |count: u64| (0..count).map(|at| format!("{}-{}", 3 * at, 3 * at)).collect::<Vec<_>>().join(",");
    // As many as are answered part by part.
    let answer = house.get(&house.blob_path(), &[("range", &format!("bytes={}", list(1024)))]).await;
    assert_eq!((answer.status, open[1].load(SeqCst)), (206, 1));
    let parts = String::from_utf8_lossy(&answer.body).matches("\r\nContent-Range: bytes ").count();
    assert_eq!(parts, 1024);
    // More, and those that overlap, are answered with the whole, once.
    for ranges in [list(1025), list(2000), vec!["0-"; 2000].join(","), vec!["-1"; 1025].join(",")] {
        let answer = house.get(&house.blob_path(), &[("range", &format!("bytes={ranges}"))]).await;
        assert_eq!((answer.status, answer.body.len() as u64), (200, LENGTH));
        assert!(answer.body == data());
    }
    // Ten thousand do not fit into a head.
    let text = format!("GET {} HTTP/1.1\r\nRange: bytes={}\r\n\r\n", house.blob_path(), list(10_000));
    let mut socket = house.send(&text).await;
    assert!(read_rest(&mut socket).await.unwrap().starts_with(b"HTTP/1.1 431"));
    until(|| open[0].load(SeqCst) == 0).await;
    assert_eq!(open[1].load(SeqCst), 1);
}

/// Whatever the framing says, what is the body of one request is never taken for another one.
#[tokio::test]
async fn a_request_within_a_request_is_not_answered() {
    let inner = "GET /v2/evil/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let length = inner.len();
    for (framing, body, refused) in [
        (format!("Content-Length: {length}"), inner.to_owned(), false),
        ("Transfer-Encoding: chunked".to_owned(), chunk.clone(), false),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(), chunk.clone(), false),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(), chunk.clone(), false),
        (format!("Content-Length: 0\r\nContent-Length: {length}"), inner.to_owned(), true),
        (format!("Content-Length: 0, {length}"), inner.to_owned(), true),
        (format!("Content-Length: +{length}"), inner.to_owned(), true),
        (format!("Content-Length : {length}"), inner.to_owned(), true),
        ("Transfer-Encoding: gzip".to_owned(), inner.to_owned(), true),
        ("Transfer-Encoding: chunked, identity".to_owned(), chunk.clone(), true),
        ("Transfer-Encoding : chunked".to_owned(), chunk.clone(), true),
        (format!("X: y\r\n Content-Length: {length}"), inner.to_owned(), true),
        (format!("X: y\rContent-Length: {length}"), inner.to_owned(), true),
    ] {
        let config = MirrorConfig { header_timeout: Duration::from_millis(200), ..MirrorConfig::default() };
        let house = House::with(Fake::of(vec![1]), config).await;
        let text = format!("GET /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}");
        let mut socket = house.send(&text).await;
        let answer = String::from_utf8(read_rest(&mut socket).await.unwrap_or_default()).unwrap();
        let asked = house.fake.asked.lock().unwrap().clone();
        assert!(asked.iter().all(|asked| !asked.contains("evil")), "{framing:?}: {asked:?}\n{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 400"), refused, "{framing:?}: {answer}");
        assert_eq!(asked.len(), usize::from(!refused), "{framing:?}: {asked:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_path_becomes_a_header_or_leads_elsewhere() {
    let house = House::new(Fake::of(vec![1])).await;
    let hex = "a".repeat(64);
    for path in [
        "/v2/../../etc/passwd",
        "/v2/a/blobs/../../../../etc/passwd",
        "/v2/a/manifests/../v1",
        "/v2/a/manifests/..%2f..%2fetc%2fpasswd",
        "/v2/a/manifests/%2e%2e",
        "/v2/a/manifests/v1%00",
        "/v2/%2e%2e/%2e%2e/manifests/v1",
        "/v2/a/./b/manifests/v1",
        "/v2//a/manifests/v1",
        "/v2/a//manifests/v1",
        "/v2/a\\b/manifests/v1",
        "/v2/a%5cb/manifests/v1",
        "/v2/a%0d%0aX-Evil:%201/manifests/v1",
        "/v2/a/manifests/v1?ns=r.io%0d%0aX-Evil:%201",
        "/v2/a/manifests/v1?ns=r.io/../q.io",
        "/v2/a/manifests/v1?ns=user:secret@r.io",
        "/v2/a/manifests/v1?ns=r.io%23",
        "/v2/a/blobs/sha256:%2e%2e%2f%2e%2e",
        &format!("/v2/a/blobs/sha256:{}", "A".repeat(64)),
        &format!("/v2/a/blobs/sha256:{hex}a"),
        &format!("/v2/a/blobs/sha256:{hex}/"),
        &format!("/v2/a/blobs/sha256:{hex}%2f.."),
        &format!("/v2/a/blobs/md5:{}", "a".repeat(32)),
        &format!("/v2/{}/manifests/v1", "a/".repeat(3000)),
    ] {
        // As it stands: no client mends it on its way.
        let mut socket = house.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        let answer = String::from_utf8(read_rest(&mut socket).await.unwrap()).unwrap();
        let status = answer.split(' ').nth(1).unwrap();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
        assert!(!answer.to_lowercase().contains("\r\nx-evil"), "{path}: {answer}");
    }
    assert!(house.fake.asked.lock().unwrap().is_empty());
}

/// They send a byte now and then, so none is ever silent; all have one time for the whole head.
#[tokio::test]
async fn heads_that_trickle_in_are_ended_and_others_are_served_meanwhile() {
    let header_timeout = Duration::from_millis(700);
    let config = MirrorConfig { header_timeout, max_connections: 60, ..MirrorConfig::default() };
    let house = House::with(Fake::of(vec![9; 3000]), config).await;
    let trickle = async {
        join_all((0..40).map(async |_| {
            let mut socket = house.send("GET /v2/ HTTP/1.1\r\nX: ").await;
            // Ended by the mirror: the write fails sooner or later.
            while socket.write_all(b"y").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        }))
        .await;
    };
    let others = async {
        until(|| house.counts.open_connections() == 40).await;
        for _ in 0..10 {
            assert_eq!(house.get(&house.blob_path(), &[]).await.body.len(), 3000);
        }
    };
    soon(async { tokio::join!(trickle, others) }).await;
    until(|| house.counts.open_connections() == 0).await;
}

#[tokio::test]
async fn a_crowd_beyond_the_limit_is_answered_503_to_the_last() {
    let config = MirrorConfig { max_connections: 4, ..MirrorConfig::default() };
    let house = House::with(Fake::of(vec![9; 3000]), config).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(house.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await);
    }
    until(|| house.counts.open_connections() == 4).await;
    // Many more than are listened to before they are told; some say nothing.
    let crowd = (0..200).map(async |number| {
        let text = if number % 4 == 0 { "" } else { "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n" };
        let mut socket = house.send(text).await;
        let answer = String::from_utf8(read_rest(&mut socket).await.expect("a clean end, not a reset")).unwrap();
        let told = answer.starts_with("HTTP/1.1 503") && answer.contains("UNAVAILABLE") && answer.ends_with("]}");
        assert!(told || (number % 4 == 0 && answer.is_empty()), "{number}: {answer}");
    });
    join_all(crowd).await;
    assert_eq!(house.counts.refused_connections(), 200);
    drop(first);
    until(|| house.counts.open_connections() == 0).await;
    assert_eq!(house.get(&house.blob_path(), &[]).await.body.len(), 3000);
}
