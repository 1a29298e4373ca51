//! Ranges over HTTP: what arrives is the slice that was asked for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, stream};
use house::{Answer, Fake, House};
use proptest::prelude::*;
use shoal_mirror::Failure;

const LENGTH: u64 = 5000;

fn data() -> Vec<u8> {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn slice(range: Range<u64>) -> Vec<u8> {
    data()[range.start as usize..range.end as usize].to_vec()
}

async fn range(house: &House, value: &str) -> Answer {
    house.get(&house.blob_path(), &[("range", value)]).await
}

/// The parts of a multipart body: the range that each names, and its bytes. Panics where the body is not exactly that.
fn parts(answer: &Answer) -> Vec<(Range<u64>, Vec<u8>)> {
    let boundary = answer.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut rest = &answer.body[..];
    let mut parts = Vec::new();
    let after = |rest: &'_ [u8], text: &str| rest.starts_with(text.as_bytes()).then_some(text.len());
    let preface = format!("\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ");
    while let Some(at) = after(rest, &preface) {
        rest = &rest[at..];
        let line = std::str::from_utf8(rest.split(|&byte| byte == b'\r').next().unwrap()).unwrap();
        rest = rest[line.len()..].strip_prefix(b"\r\n\r\n").unwrap();
        let (first, last) = line.strip_suffix("/5000").unwrap().split_once('-').unwrap();
        let range = first.parse().unwrap()..last.parse::<u64>().unwrap() + 1;
        let (body, after) = rest.split_at((range.end - range.start) as usize);
        parts.push((range, body.to_vec()));
        rest = after;
    }
    assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
    parts
}

#[tokio::test]
async fn single_ranges_are_exact() {
    let house = House::new(Fake::of(data())).await;
    for (value, expected) in [
        ("bytes=0-", 0..5000),
        ("bytes=1234-", 1234..5000),
        ("bytes=-10", 4990..5000),
        ("bytes=-9999", 0..5000),
        ("bytes=4999-", 4999..5000),
        ("bytes=10-19", 10..20),
        ("bytes=10-99999", 10..5000),
        ("bytes=10-19,6000-", 10..20),
    ] {
        let answer = range(&house, value).await;
        assert_eq!(answer.status, 206, "{value}");
        assert_eq!(answer.body, slice(expected.clone()), "{value}");
        let content_range = format!("bytes {}-{}/5000", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), Some(content_range.as_str()));
        assert_eq!(answer.header("content-length"), Some((expected.end - expected.start).to_string().as_str()));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("docker-content-digest"), Some(house.fake.digest.to_string().as_str()));
    }
}

#[tokio::test]
async fn bad_ranges_are_416_and_other_units_are_ignored() {
    let house = House::new(Fake::of(data())).await;
    for value in ["bytes=5000-", "bytes=-0", "bytes=9-3", "bytes=x", "bytes", "bytes=", "bytes=1-2-3"] {
        let answer = range(&house, value).await;
        assert_eq!((answer.status, answer.code().as_str()), (416, "RANGE_INVALID"), "{value}");
        assert_eq!(answer.header("content-range"), Some("bytes */5000"));
    }
    let answer = range(&house, "lines=1-2").await;
    assert_eq!((answer.status, answer.body.len()), (200, 5000));
    let twice = house.get(&house.blob_path(), &[("range", "bytes=0-1"), ("range", "bytes=0-1")]).await;
    assert_eq!(twice.status, 416);
}

#[tokio::test]
async fn if_range_names_the_digest() {
    let house = House::new(Fake::of(data())).await;
    let etag = format!("\"{}\"", house.fake.digest);
    for (tag, status) in [(etag.as_str(), 206), ("\"other\"", 200), ("Sat, 29 Oct 1994 19:43:31 GMT", 200)] {
        let answer = house.get(&house.blob_path(), &[("range", "bytes=1-2"), ("if-range", tag)]).await;
        assert_eq!(answer.status, status, "{tag}");
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let house = House::new(Fake::of(data())).await;
    let answer = range(&house, "bytes=0-99,4000-, 200-1999").await;
    assert_eq!((answer.status, answer.header("content-range")), (206, None));
    let expected: Vec<_> = [0..100, 4000..5000, 200..2000].map(|range| (range.clone(), slice(range))).into();
    assert_eq!(parts(&answer), expected);
    assert_eq!(range(&house, "bytes=0-4000,1-4001").await.status, 200);
}

#[tokio::test]
async fn an_empty_blob_is_whole_at_once() {
    let house = House::new(Fake::of(Vec::new())).await;
    for headers in [&[][..], &[("range", "bytes=0-")]] {
        let answer = house.get(&house.blob_path(), headers).await;
        assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 0, Some("0")));
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_read_ends_the_body() {
    let digest = house::digest_of(&data());
    let house = House::new(Fake::reading(digest, LENGTH, |range| {
        if range.start > 0 {
            return Err(Failure::StoreFull { reason: "the test said so".to_owned() });
        }
        let bytes = Bytes::from(slice(range));
        Ok(stream::iter([Ok(bytes)]).boxed())
    }))
    .await;
    let range = "Range: bytes=0-9,20-29\r\nHost: x";
    let mut socket = house.send(&format!("GET {} HTTP/1.1\r\n{range}\r\n\r\n", house.blob_path())).await;
    assert!(house::read_head(&mut socket).await.starts_with("HTTP/1.1 206"));
    assert!(house::read_rest(&mut socket).await.unwrap().ends_with(&slice(0..10)));
    // Where even the first part fails, there is a status to say so.
    assert_eq!(self::range(&house, "bytes=1-9,20-29").await.status, 503);
}

#[test]
fn any_range_is_the_slice_it_names() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(async { House::new(Fake::of(data())).await });
    let client = house::client();
    let spec = prop_oneof![
        (0..6000u64, 0..3000u64).prop_map(|(first, more)| (
            format!("{first}-{}", first + more),
            first,
            first + more + 1
        )),
        (0..6000u64).prop_map(|first| (format!("{first}-"), first, LENGTH)),
        (0..6000u64).prop_map(|last| (format!("-{last}"), LENGTH.saturating_sub(last), LENGTH)),
    ];
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(specs in prop::collection::vec(spec, 1..4))| {
        let text: Vec<_> = specs.iter().map(|(text, ..)| text.as_str()).collect();
        let expected: Vec<_> = specs
            .iter()
            .map(|&(_, first, end)| first..end.min(LENGTH))
            .filter(|range| range.start < range.end)
            .map(|range| (range.clone(), slice(range)))
            .collect();
        let answer = runtime.block_on(async {
            let request = client.get(house.url(&house.blob_path())).header("range", format!("bytes={}", text.join(",")));
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Answer { status, headers, body: response.bytes().await.unwrap() }
        });
        let sum: u64 = expected.iter().map(|(range, _)| range.end - range.start).sum();
        match expected.len() {
            0 => prop_assert_eq!(answer.status, 416),
            1 => prop_assert_eq!((answer.status, &answer.body[..]), (206, &expected[0].1[..])),
            _ if sum > LENGTH => prop_assert_eq!((answer.status, &answer.body[..]), (200, &data()[..])),
            _ => prop_assert_eq!(parts(&answer), expected),
        }
    });
}
