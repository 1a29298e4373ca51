//! Ranges of blobs from an origin that misbehaves.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use http::StatusCode;
use shoal_origin::{ErrorKind, Origins, Patience, Policy, Refusal, Trouble};
use shoal_registry::{Faults, Refusal as Refuse, Target};
use support::*;

const SIZE: u64 = 3 << 20;

#[tokio::test]
async fn a_range_is_exactly_that_range() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let origins = origins(&registry.url());
    let all = bytes_of(model.layer());
    for range in [0..SIZE, 0..1, 1..2, 1000..2_000_000, SIZE - 1..SIZE, 5..5] {
        let stream = origins.open(&repository(), &digest, range.clone(), Some(SIZE)).await.unwrap();
        let parts: Vec<bytes::Bytes> = stream.into_stream().try_collect().await.unwrap();
        assert_eq!(parts.concat(), all[range.start as usize..range.end as usize], "{range:?}");
    }
    let counts = registry.counts();
    assert_eq!(counts.blob(&digest).gets, 5, "an empty range asks for nothing");
    assert_eq!(counts.connections, 1, "a body that was read to its end leaves its connection for the next");
    assert_eq!(origins.counters().blob_bytes(), counts.blob_bytes_sent());
    for wrong in [0..SIZE + 1, Range { start: 6, end: 5 }] {
        let error = origins.open(&repository(), &digest, wrong, Some(SIZE)).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn broken_connections_are_resumed_and_nothing_is_delivered_twice() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    for faults in [Faults::none().break_after(1..400_000, 3), Faults::none().truncate(50_000)] {
        registry.set_faults(faults);
        let origins = origins(&registry.url());
        let stream = origins.open(&repository(), &digest, 10..SIZE, Some(SIZE)).await.unwrap();
        assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer())[10..]);
        assert!(origins.counters().retries() > 3);
    }
}

#[tokio::test]
async fn an_origin_that_never_gets_far_is_given_up() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().truncate(10));
    let origins = origins(&registry.url());
    let stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    let error = read_all(stream).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unavailable(Trouble::Network(_))), "{error}");
    assert_eq!(registry.counts().blob(&digest).gets, u64::from(patience().attempts));
}

#[tokio::test]
async fn trouble_is_waited_out_and_refusals_are_not() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let refuse = |status| Refuse::status(status).of(Target::Blobs);
    let origins = origins(&registry.url());
    registry.set_faults(
        Faults::none()
            .refuse(refuse(StatusCode::SERVICE_UNAVAILABLE).first(2))
            .refuse(refuse(StatusCode::TOO_MANY_REQUESTS).retry_after(Duration::from_secs(1)).first(1)),
    );
    let begun = Instant::now();
    let stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer()));

    registry.set_faults(
        Faults::none().refuse(refuse(StatusCode::TOO_MANY_REQUESTS).retry_after(Duration::from_secs(3600))),
    );
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited { retry_after: Some(Duration::from_secs(3600)) });

    registry.set_faults(Faults::none().refuse(refuse(StatusCode::BAD_GATEWAY)));
    let error = origins.open(&repository(), &digest, 0..SIZE, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Trouble::Status(502)));

    for (status, refusal) in [
        (StatusCode::UNAUTHORIZED, Refusal::Unauthorized),
        (StatusCode::FORBIDDEN, Refusal::Forbidden),
        (StatusCode::NOT_FOUND, Refusal::NotFound),
    ] {
        registry.set_faults(Faults::none().refuse(refuse(status)));
        let before = origins.counters().retries();
        let error = origins.open(&repository(), &digest, 0..SIZE, None).await.unwrap_err();
        assert_eq!(error.refusal(), Some(refusal), "{error}");
        assert_eq!(origins.counters().retries(), before, "a refusal is told at once");
    }
}

#[tokio::test]
async fn silence_is_noticed() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let patience = Patience { attempts: 2, ..patience() };
    let origins = Origins::new(vec![config(&registry.url())], Policy { patience, ..policy() }).unwrap();
    registry.hold_at(&digest, 100_000);
    let mut stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    let mut got = 0;
    let error = loop {
        match stream.chunk().await {
            Ok(bytes) => got += bytes.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Stalled(patience.stall));
    assert_eq!(got, 100_000);
    assert_eq!(stream.chunk().await.unwrap_err(), error, "the error stays");
    registry.release(&digest);
    let stream = origins.open(&repository(), &digest, stream.offset()..SIZE, Some(SIZE)).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer())[got..]);

    registry.set_faults(Faults::none().refuse(Refuse::hang().of(Target::Blobs)));
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stalled(patience.stall));
}

#[tokio::test]
async fn a_caller_who_does_not_read_is_no_stall() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let patience = Patience { attempts: 1, stall: Duration::from_millis(50), ..patience() };
    let origins = Origins::new(vec![config(&registry.url())], Policy { patience, ..policy() }).unwrap();
    let mut stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    // The only way to see that time does not count is to let some pass.
    tokio::time::sleep(4 * patience.stall).await;
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer())[first.len()..]);
}

#[tokio::test]
async fn an_origin_without_ranges_serves_beginnings_only() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().ignore_ranges());
    let origins = origins(&registry.url());
    let stream = origins.open(&repository(), &digest, 0..1000, Some(SIZE)).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer())[..1000]);
    let error = origins.open(&repository(), &digest, 1000..2000, Some(SIZE)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoRanges);
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_unavailable() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let origins = origins(&registry.url());
    registry.stop().await;
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert!(error.is_unavailable() && error.refusal().is_none(), "{error}");
}

#[tokio::test]
async fn a_blob_of_another_length_is_not_believed() {
    let (model, digest) = artifact(SIZE);
    let registry = registry(&model).await;
    let origins = origins(&registry.url());
    let error = origins.open(&repository(), &digest, 0..10, Some(SIZE + 1)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
    let error = origins.open(&repository(), &digest, SIZE..SIZE + 1, None).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
}
