//! A registry with several endpoints: who is asked, and who is asked when that fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use http::StatusCode;
use shoal_blob::{Digest, Reference};
use shoal_origin::{ErrorKind, Listing, Origins, Patience, Policy, Refusal, RegistryConfig, RequestKind, Trouble};
use shoal_registry::{Artifact, Counts, Faults, Refusal as Refuse, Registry, Target};
use support::*;

const SIZE: u64 = 3 << 20;

/// Patient enough for a busy machine: what counts here is who was asked, and a false stall would ask elsewhere.
fn patience() -> Patience {
    Patience { stall: Duration::from_secs(4), ..support::patience() }
}

fn policy() -> Policy {
    Policy { patience: patience(), ..support::policy() }
}

fn config_at(registries: &[&Registry]) -> Vec<RegistryConfig> {
    let urls = registries.iter().map(|registry| registry.url()).collect();
    vec![RegistryConfig { urls, ..RegistryConfig::named(NAME) }]
}

fn origins_at(registries: &[&Registry]) -> Origins {
    Origins::new(config_at(registries), policy()).unwrap()
}

/// Two registries with the same model.
async fn pair() -> (Artifact, Digest, Registry, Registry) {
    let (model, digest) = artifact(SIZE);
    let (first, second) = (registry(&model).await, registry(&model).await);
    (model, digest, first, second)
}

fn asked(counts: &Counts, digest: &Digest) -> u64 {
    let blob = counts.blob(digest);
    blob.gets + blob.heads + blob.refused
}

#[tokio::test]
async fn while_the_first_works_nobody_else_is_asked() {
    let (model, digest, first, second) = pair().await;
    let origins = origins_at(&[&first, &second]);
    origins.head_blob(&repository(), &digest).await.unwrap();
    let stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer()));
    assert_eq!(second.counts().connections, 0);
}

#[tokio::test]
async fn one_that_is_gone_is_left_alone_and_nobody_waits_for_it_again() {
    let (model, digest, first, second) = pair().await;
    let origins = origins_at(&[&first, &second]);
    first.stop().await;
    origins.head_blob(&repository(), &digest).await.unwrap();
    let tag = Reference::Tag("v1".to_owned());
    assert_eq!(origins.manifest(&repository(), &tag, None).await.unwrap().bytes, *model.manifest());
    assert_eq!(origins.relay(&repository(), &Listing::Tags, None).await.unwrap().status, StatusCode::OK);
    assert!(origins.challenge(&repository()).await.unwrap().is_none());
    // One request found out; the others did not try.
    let counters = origins.counters();
    assert_eq!((counters.requests(RequestKind::BlobHead), counters.requests(RequestKind::Ping)), (1, 3));
    assert_eq!((counters.requests(RequestKind::ManifestGet), counters.requests(RequestKind::Relay)), (1, 1));
    assert_eq!(counters.retries(), 0, "going on elsewhere is no retry");
}

#[tokio::test]
async fn a_server_in_trouble_or_that_limits_the_rate_is_passed_over() {
    for refuse in [
        Refuse::status(StatusCode::BAD_GATEWAY),
        Refuse::status(StatusCode::TOO_MANY_REQUESTS).retry_after(Duration::from_secs(3600)),
        Refuse::hang(),
    ] {
        let (_, digest, first, second) = pair().await;
        first.set_faults(Faults::none().refuse(refuse.of(Target::Blobs)));
        let origins = origins_at(&[&first, &second]);
        origins.head_blob(&repository(), &digest).await.unwrap();
        let refused = asked(&first.counts(), &digest);
        origins.head_blob(&repository(), &digest).await.unwrap();
        assert_eq!((asked(&first.counts(), &digest), second.counts().blob(&digest).heads), (refused, 2));
    }
}

#[tokio::test]
async fn a_blob_is_read_on_elsewhere_at_the_same_offset() {
    let (model, digest, first, second) = pair().await;
    // It falls silent in mid-blob.
    first.hold_at(&digest, 1 << 20);
    let origins = origins_at(&[&first, &second]);
    let stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer()));
    let rest = 1 << 20..SIZE;
    assert_eq!(second.counts().blob(&digest).ranges, std::slice::from_ref(&rest));

    // It breaks its connections before they have brought anything.
    let (model, digest, first, second) = pair().await;
    first.set_faults(Faults::none().truncate(10));
    let origins = origins_at(&[&first, &second]);
    let stream = origins.open(&repository(), &digest, 0..SIZE, Some(SIZE)).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer()));
    let rest = 10..SIZE;
    assert_eq!(second.counts().blob(&digest).ranges, std::slice::from_ref(&rest));
    assert_eq!(first.counts().blob(&digest).gets, 1);
}

#[tokio::test]
async fn what_one_lacks_another_may_have_and_trouble_is_not_taken_for_a_lack() {
    let (model, digest) = artifact(SIZE);
    let (empty, full) = (Registry::builder().listen("127.0.0.1:0").await.unwrap(), registry(&model).await);
    let origins = origins_at(&[&empty, &full]);
    for _ in 0..2 {
        origins.head_blob(&repository(), &digest).await.unwrap();
    }
    assert_eq!(full.counts().blob(&digest).heads, 2);
    assert_eq!(empty.counts().errors, 2, "one that lacks something is not in trouble");
    let nowhere = origins.head_blob(&repository(), &Digest::Sha256([7; 32])).await.unwrap_err();
    assert_eq!(nowhere.refusal(), Some(Refusal::NotFound));

    let trouble = Refuse::status(StatusCode::SERVICE_UNAVAILABLE);
    full.set_faults(Faults::none().refuse(trouble.of(Target::Blobs)));
    let fresh = origins_at(&[&empty, &full]);
    let patience = Patience { attempts: 1, ..patience() };
    fresh.reload(config_at(&[&empty, &full]), Policy { patience, ..policy() }).unwrap();
    let error = fresh.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Trouble::Status(503)));
}

#[tokio::test]
async fn where_all_are_in_trouble_the_usual_attempts_are_made_and_no_more() {
    let (_, digest, first, second) = pair().await;
    for registry in [&first, &second] {
        registry.set_faults(Faults::none().refuse(Refuse::status(StatusCode::SERVICE_UNAVAILABLE).of(Target::Blobs)));
    }
    let origins = origins_at(&[&first, &second]);
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable(Trouble::Status(503)));
    let sum = asked(&first.counts(), &digest) + asked(&second.counts(), &digest);
    assert_eq!(sum, u64::from(patience().attempts) + 1, "both once, then one at a time");
    // When one is well again, it is found.
    second.set_faults(Faults::none());
    origins.reload(config_at(&[&first, &second]), policy()).unwrap();
    origins.head_blob(&repository(), &digest).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_the_answer_of_all() {
    let (_, digest, first, second) = pair().await;
    first.set_faults(Faults::none().refuse(Refuse::status(StatusCode::FORBIDDEN).of(Target::Blobs)));
    let error = origins_at(&[&first, &second]).head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!((error.refusal(), second.counts().connections), (Some(Refusal::Forbidden), 0));
}
