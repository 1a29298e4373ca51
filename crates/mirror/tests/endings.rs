//! How bodies and connections end, seen from a bare socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use house::{Fake, Gone, House, digest_of, failing, read_head, read_rest, soon, until};
use shoal_mirror::{Failure, MirrorConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

const LENGTH: u64 = 64 << 20;

fn chunk(at: u64) -> Bytes {
    Bytes::from(vec![at as u8; 64 << 10])
}

/// A blob whose stream gives these chunks and then fails.
fn ending_after(chunks: u64) -> Fake {
    Fake::reading(digest_of(b"any"), LENGTH, move |_| Ok(failing((0..chunks).map(chunk).collect())))
}

/// A blob whose stream gives one chunk and then nothing; the receiver hears when the stream is dropped.
fn waiting() -> (Fake, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    let gone = Mutex::new(Some(Gone(Some(sender))));
    let fake = Fake::reading(digest_of(b"any"), LENGTH, move |_| {
        let gone = gone.lock().unwrap().take();
        let silence = stream::pending().map(move |never: std::convert::Infallible| {
            let _ = &gone;
            match never {}
        });
        Ok(stream::iter([Ok(chunk(7))]).chain(silence).boxed())
    });
    (fake, receiver)
}

#[tokio::test]
async fn a_body_ends_short_and_clean() {
    for chunks in [1, 2, 40, 200] {
        let house = House::new(ending_after(chunks)).await;
        let mut socket = house.send(&house.get_text()).await;
        let head = read_head(&mut socket).await;
        assert!(head.contains(&format!("content-length: {LENGTH}\r\n")), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        let body = read_rest(&mut socket).await.expect("a clean end, not a reset");
        let expected: Vec<u8> = (0..chunks).flat_map(chunk).collect();
        assert!(body == expected, "{} of {} bytes", body.len(), expected.len());
        assert_eq!((house.counts.short_bodies(), house.counts.open_readers()), (1, 0));
    }
}

#[tokio::test]
async fn it_ends_clean_though_the_client_reads_late_and_has_sent_more() {
    let house = House::new(ending_after(200)).await;
    let mut socket = house.send_get(4 << 10).await;
    // Requests that nobody will read are what makes a careless close a reset.
    socket.write_all(house.get_text().repeat(300).as_bytes()).await.unwrap();
    read_head(&mut socket).await;
    let body = read_rest(&mut socket).await.expect("a clean end, not a reset");
    assert_eq!(body.len(), 200 * (64 << 10));
}

#[tokio::test]
async fn a_stream_that_ends_early_without_a_word_is_short_too() {
    let fake = Fake::reading(digest_of(b"any"), LENGTH, |_| Ok(stream::iter([Ok(chunk(1))]).boxed()));
    let house = House::new(fake).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    assert_eq!(read_rest(&mut socket).await.unwrap().len(), 64 << 10);
}

#[tokio::test]
async fn a_stream_that_gives_too_much_is_cut_to_length() {
    let fake = Fake::reading(digest_of(b"any"), 100, |_| Ok(stream::repeat_with(|| Ok(chunk(1))).boxed()));
    let house = House::new(fake).await;
    for _ in 0..2 {
        assert_eq!(house.get(&house.blob_path(), &[]).await.body.len(), 100);
    }
}

#[tokio::test]
async fn a_failure_before_the_first_byte_is_a_status() {
    let house = House::new(ending_after(0)).await;
    let answer = house.get(&house.blob_path(), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "UNAVAILABLE"));
    assert_eq!(house.counts.open_readers(), 0);
}

#[tokio::test]
async fn headers_go_out_before_the_first_byte_when_it_takes_long() {
    let fake = Fake::reading(digest_of(b"any"), LENGTH, |_| Ok(stream::pending().boxed()));
    let config = MirrorConfig { hold_headers: Duration::from_millis(10), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send(&house.get_text()).await;
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_first_bytes_arrive_while_the_rest_is_awaited() {
    let (fake, _gone) = waiting();
    let house = House::new(fake).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    let mut first = vec![0; 64 << 10];
    soon(socket.read_exact(&mut first)).await.unwrap();
    assert_eq!(house.counts.open_readers(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_read_at_once() {
    let (fake, gone) = waiting();
    let house = House::new(fake).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    drop(socket);
    soon(gone).await.unwrap();
    until(|| house.counts.open_readers() == 0 && house.counts.open_connections() == 0).await;
    assert_eq!((house.counts.abandoned_bodies(), house.counts.short_bodies()), (1, 0));
}

#[tokio::test]
async fn a_client_that_leaves_while_the_library_thinks_is_noticed() {
    let (sender, gone) = oneshot::channel();
    let mut fake = Fake::of(vec![1]);
    fake.hang = Some(Mutex::new(Some(Gone(Some(sender)))));
    let house = House::new(fake).await;
    let socket = house.send(&house.get_text()).await;
    until(|| !house.fake.asked.lock().unwrap().is_empty()).await;
    drop(socket);
    soon(gone).await.unwrap();
}

#[tokio::test]
async fn a_library_that_does_not_answer_is_a_504() {
    let mut fake = Fake::of(vec![1]);
    fake.hang = Some(Mutex::new(None));
    let config = MirrorConfig { answer_within: Duration::from_millis(200), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    assert_eq!(house.get(&house.blob_path(), &[]).await.status, 504);
}

/// A blob without end; the counter says how many bytes were taken of it.
fn endless() -> (Fake, Arc<AtomicU64>) {
    let given = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&given);
    let fake = Fake::reading(digest_of(b"any"), 1 << 40, move |_| {
        let counter = Arc::clone(&counter);
        Ok(stream::repeat_with(move || {
            counter.fetch_add(64 << 10, SeqCst);
            Ok(chunk(3))
        })
        .boxed())
    });
    (fake, given)
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_for_and_is_ended_in_time() {
    let (fake, given) = endless();
    let config = MirrorConfig { stall_timeout: Duration::from_millis(500), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send_get(4 << 10).await;
    read_head(&mut socket).await;
    until(|| house.counts.abandoned_bodies() == 1).await;
    let given = given.load(SeqCst);
    assert!(given <= 1 << 20, "{given} bytes were read for a client that took none");
    assert_eq!(house.counts.open_readers(), 0);
    // What the kernel had taken still arrives, and then a clean end.
    assert!(read_rest(&mut socket).await.is_ok());
}

#[tokio::test]
async fn an_upload_is_refused_without_a_reset() {
    let house = House::new(Fake::of(vec![1])).await;
    let head = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n";
    let mut socket = house.send(head).await;
    socket.write_all(&[0; 40_000]).await.unwrap();
    until(|| house.counts.requests().any(|count| count.status == 405)).await;
    let answer = String::from_utf8(read_rest(&mut socket).await.expect("a clean end, not a reset")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection_without_a_408() {
    let config = MirrorConfig { header_timeout: Duration::from_millis(100), ..MirrorConfig::default() };
    let house = House::with(Fake::of(vec![1]), config).await;
    for text in ["", "GET /v2/ HTTP/1.1\r\nHost"] {
        let mut socket = house.send(text).await;
        assert_eq!(read_rest(&mut socket).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let config = MirrorConfig { max_connections: 1, ..MirrorConfig::default() };
    let house = House::with(Fake::of(vec![1]), config).await;
    let mut first = house.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = house.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = String::from_utf8(read_rest(&mut second).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("UNAVAILABLE"), "{answer}");
    assert_eq!(house.counts.refused_connections(), 1);
    drop(first);
    until(|| house.counts.open_connections() == 0).await;
    assert_eq!(house.get("/v2/", &[]).await.status, 200);
}

#[tokio::test]
async fn readers_beyond_the_limit_are_told_so() {
    let (fake, gone) = waiting();
    let config = MirrorConfig { max_readers: 1, ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut first = house.send(&house.get_text()).await;
    read_head(&mut first).await;
    let answer = house.get(&house.blob_path(), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    drop(first);
    soon(gone).await.unwrap();
}

#[tokio::test]
async fn draining_lets_readers_finish() {
    let (release, released) = oneshot::channel::<()>();
    let released = Mutex::new(Some(released));
    let fake = Fake::reading(digest_of(b"any"), 2 * (64 << 10), move |_| {
        let released = released.lock().unwrap().take().unwrap();
        let later = stream::once(async { released.await.map(|()| Ok(chunk(2))).unwrap() });
        Ok(stream::iter([Ok(chunk(1))]).chain(later).boxed())
    });
    let house = House::new(fake).await;
    let mut idle = house.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_head(&mut idle).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    house.shutdown.cancel();
    assert_eq!(read_rest(&mut idle).await.unwrap(), b"{}");
    until(|| house.counts.open_connections() == 1).await;
    release.send(()).unwrap();
    assert_eq!(read_rest(&mut socket).await.unwrap().len(), 2 * (64 << 10));
    drop(socket);
    soon(house.serving).await.unwrap();
    assert_eq!(house.counts.short_bodies(), 0);
}

#[tokio::test]
async fn draining_ends_the_others_short_and_clean() {
    let (fake, gone) = waiting();
    let config = MirrorConfig { drain: Duration::from_millis(100), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    house.shutdown.cancel();
    assert_eq!(read_rest(&mut socket).await.unwrap(), chunk(7));
    soon(gone).await.unwrap();
    drop(socket);
    soon(house.serving).await.unwrap();
    assert_eq!(house.counts.short_bodies(), 1);
}

#[tokio::test]
async fn draining_answers_those_who_still_wait() {
    let mut fake = Fake::of(vec![1]);
    fake.hang = Some(Mutex::new(None));
    let config = MirrorConfig { drain: Duration::from_millis(100), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send(&house.get_text()).await;
    until(|| !house.fake.asked.lock().unwrap().is_empty()).await;
    house.shutdown.cancel();
    let answer = String::from_utf8(read_rest(&mut socket).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(&Failure::Draining.to_string()), "{answer}");
    drop(socket);
    soon(house.serving).await.unwrap();
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let house = House::new(Fake::of(vec![9; 3000])).await;
    let mut socket = house.send(&house.get_text().repeat(3)).await;
    for _ in 0..3 {
        read_head(&mut socket).await;
        let mut body = [0; 3000];
        soon(socket.read_exact(&mut body)).await.unwrap();
        assert_eq!(body, [9; 3000]);
    }
    assert_eq!(house.counts.open_connections(), 1);
}
