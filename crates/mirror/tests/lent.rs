//! Bodies that are sent from a file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::{
    fs::File,
    io::Write,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use house::{Fake, Gone, House, digest_of, read_head, read_rest, soon, until};
use shoal_mirror::{Chunk, Lent, LentFile, MirrorConfig, ReadEnded};
use tokio::{io::AsyncReadExt, sync::oneshot};

const LENGTH: u64 = 5_000_000;
/// Longer than hyper's queue, and no multiple of anything.
const STEP: u64 = 700_001;

fn data() -> Vec<u8> {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A file that may be sent up to a limit.
struct Shelf {
    file: File,
    limit: AtomicU64,
    _gone: Option<Gone>,
}

impl LentFile for Shelf {
    fn file(&self) -> &File {
        &self.file
    }

    fn may_send(&self, range: Range<u64>) -> bool {
        range.end <= self.limit.load(SeqCst)
    }
}

fn shelf(content: &[u8], gone: Option<Gone>) -> Arc<Shelf> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(Shelf { file, limit: AtomicU64::new(u64::MAX), _gone: gone })
}

/// The steps of a range, each lent.
fn steps(shelf: &Arc<Shelf>, range: Range<u64>) -> Vec<Result<Chunk, ReadEnded>> {
    let starts = range.clone().step_by(STEP as usize);
    starts.map(|at| Ok(Lent::new(shelf.clone(), at..range.end.min(at + STEP)).into())).collect()
}

fn lending(shelf: Arc<Shelf>) -> Fake {
    Fake::giving(digest_of(&data()), LENGTH, move |range| Ok(stream::iter(steps(&shelf, range)).boxed()))
}

#[tokio::test]
async fn what_is_sent_from_a_file_is_what_was_asked_for() {
    let (house, data) = (House::new(lending(shelf(&data(), None))).await, data());
    assert!(house.get(&house.blob_path(), &[]).await.body == data);
    for (text, range) in [
        ("bytes=0-0", 0..1),
        ("bytes=4999999-", 4_999_999..5_000_000),
        ("bytes=1234567-", 1_234_567..5_000_000),
        ("bytes=699999-700002", 699_999..700_003),
        ("bytes=-3000000", 2_000_000..5_000_000),
    ] {
        let answer = house.get(&house.blob_path(), &[("range", text)]).await;
        assert_eq!(answer.status, 206);
        assert!(answer.body == data[range], "{text}");
    }
    assert_eq!(house.counts.bytes_to_clients(), 5_000_000 + 1 + 1 + 3_765_433 + 4 + 3_000_000);
}

#[tokio::test]
async fn parts_of_several_ranges_are_sent_from_the_file_too() {
    let (house, data) = (House::new(lending(shelf(&data(), None))).await, data());
    let answer = house.get(&house.blob_path(), &[("range", "bytes=10-19,1000000-2999999")]).await;
    let at = |part: &[u8]| answer.body.windows(part.len()).position(|window| window == part);
    let (first, second) = (at(&data[10..20]).unwrap(), at(&data[1_000_000..3_000_000]).unwrap());
    assert!(first < second && answer.body.ends_with(b"--\r\n"));
    assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string());
}

#[tokio::test]
async fn requests_that_wait_on_one_connection_are_answered_in_turn() {
    let (house, data) = (House::new(lending(shelf(&data(), None))).await, data());
    let mut socket = house.send(&house.get_text().repeat(3)).await;
    for _ in 0..3 {
        read_head(&mut socket).await;
        let mut body = vec![0; LENGTH as usize];
        soon(socket.read_exact(&mut body)).await.unwrap();
        assert!(body == data);
    }
    assert_eq!((house.counts.open_connections(), house.counts.open_readers()), (1, 0));
}

#[tokio::test]
async fn bytes_in_memory_and_in_the_file_keep_their_order() {
    let (shelf, bytes) = (shelf(&data(), None), Bytes::from(data()));
    let fake = Fake::giving(digest_of(&bytes), LENGTH, move |range| {
        let (shelf, bytes) = (shelf.clone(), bytes.clone());
        let chunks = range.clone().step_by(9_001).map(move |at| {
            let part = at..range.end.min(at + 9_001);
            Ok(match at % 3 {
                0 => Lent::new(shelf.clone(), part).into(),
                1 => Chunk::from(Bytes::new()),
                _ => bytes.slice(part.start as usize..part.end as usize).into(),
            })
        });
        let chunks: Vec<_> = chunks.collect();
        Ok(stream::iter(chunks).boxed())
    });
    let house = House::new(fake).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    let expected: Vec<u8> = (0..LENGTH)
        .step_by(9_001)
        .filter(|at| at % 3 != 1)
        .flat_map(|at| data()[at as usize..LENGTH.min(at + 9_001) as usize].to_vec())
        .collect();
    assert!(read_rest(&mut socket).await.unwrap() == expected);
}

#[tokio::test]
async fn a_file_that_may_be_sent_no_further_ends_the_body_short_and_clean() {
    let shelf = shelf(&data(), None);
    shelf.limit.store(3 * STEP, SeqCst);
    let house = House::new(lending(shelf)).await;
    let mut socket = house.send(&house.get_text().repeat(2)).await;
    read_head(&mut socket).await;
    let body = read_rest(&mut socket).await.expect("a clean end, not a reset");
    assert!(body == data()[..3 * STEP as usize], "{} bytes", body.len());
    until(|| house.counts.open_connections() == 0).await;
    assert_eq!((house.counts.short_bodies(), house.counts.abandoned_bodies()), (1, 0));
    assert_eq!((house.counts.open_readers(), house.counts.bytes_to_clients()), (0, 3 * STEP));
}

#[tokio::test]
async fn a_file_that_is_shorter_than_it_should_be_ends_the_body_short_and_clean() {
    let house = House::new(lending(shelf(&data()[..1_000_000], None))).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    assert!(read_rest(&mut socket).await.expect("a clean end, not a reset") == data()[..1_000_000]);
    assert_eq!(house.counts.short_bodies(), 1);
}

#[tokio::test]
async fn a_stream_that_fails_ends_after_all_that_was_lent() {
    let shelf = shelf(&data(), None);
    let fake = Fake::giving(digest_of(&data()), LENGTH, move |range| {
        let end = ReadEnded(shoal_mirror::Failure::StoreFull { reason: "the test said so".to_owned() });
        let steps = steps(&shelf, range.start..3 * STEP).into_iter().chain([Err(end)]);
        Ok(stream::iter(steps.collect::<Vec<_>>()).boxed())
    });
    let house = House::new(fake).await;
    let mut socket = house.send_get(4 << 10).await;
    read_head(&mut socket).await;
    assert!(read_rest(&mut socket).await.expect("a clean end, not a reset") == data()[..3 * STEP as usize]);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended_in_time_and_the_file_let_go() {
    let (sender, gone) = oneshot::channel();
    let lent = Mutex::new(Some(shelf(&data(), Some(Gone(Some(sender))))));
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let fake = Fake::giving(digest_of(&data()), LENGTH, move |range| {
        let (shelf, counter) = (lent.lock().unwrap().take().unwrap(), counter.clone());
        let counted = steps(&shelf, range).into_iter().inspect(move |_| {
            counter.fetch_add(STEP, SeqCst);
        });
        Ok(stream::iter(counted).boxed())
    });
    let config = MirrorConfig { stall_timeout: Duration::from_millis(500), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send_get(4 << 10).await;
    read_head(&mut socket).await;
    soon(gone).await.unwrap();
    until(|| house.counts.open_connections() == 0).await;
    assert_eq!((house.counts.abandoned_bodies(), house.counts.open_readers()), (1, 0));
    assert!(house.counts.bytes_to_clients() <= 1 << 20, "the socket took too much of it");
    assert!(taken.load(SeqCst) <= 3 * STEP, "more was asked for than the client had room for");
    let rest = read_rest(&mut socket).await.unwrap();
    assert!(rest == data()[..rest.len()]);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_file_at_once() {
    let (sender, gone) = oneshot::channel();
    let lent = Mutex::new(Some(shelf(&data(), Some(Gone(Some(sender))))));
    let fake = Fake::giving(digest_of(&data()), LENGTH, move |range| {
        let shelf = lent.lock().unwrap().take().unwrap();
        Ok(stream::iter(steps(&shelf, range)).boxed())
    });
    let house = House::new(fake).await;
    let mut socket = house.send_get(4 << 10).await;
    read_head(&mut socket).await;
    drop(socket);
    soon(gone).await.unwrap();
    until(|| house.counts.open_readers() == 0 && house.counts.open_connections() == 0).await;
    assert_eq!((house.counts.abandoned_bodies(), house.counts.short_bodies()), (1, 0));
}

#[tokio::test]
async fn draining_ends_a_body_after_what_was_lent() {
    let shelf = shelf(&data(), None);
    let fake = Fake::giving(digest_of(&data()), LENGTH, move |range| {
        let first = steps(&shelf, range.start..2 * STEP);
        Ok(stream::iter(first).chain(stream::pending()).boxed())
    });
    let config = MirrorConfig { drain: Duration::from_millis(100), ..MirrorConfig::default() };
    let house = House::with(fake, config).await;
    let mut socket = house.send(&house.get_text()).await;
    read_head(&mut socket).await;
    house.shutdown.cancel();
    assert!(read_rest(&mut socket).await.expect("a clean end, not a reset") == data()[..2 * STEP as usize]);
    drop(socket);
    soon(house.serving).await.unwrap();
    assert_eq!(house.counts.short_bodies(), 1);
}

#[tokio::test]
async fn a_head_request_borrows_nothing() {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = asked.clone();
    let fake = Fake::giving(digest_of(&data()), LENGTH, move |_| {
        flag.store(true, SeqCst);
        Ok(stream::pending().boxed())
    });
    let house = House::new(fake).await;
    let answer = house.ask(reqwest::Method::HEAD, &house.blob_path(), &[]).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("5000000")));
    assert!(!asked.load(SeqCst));
}
