//! Tags: asked of the origin each time, once for all who ask at the same moment; remembered for when it is away.

use std::time::Duration;

use futures::future::join_all;
use http::{Method, StatusCode, header};
use shoal_registry::{Faults, Refusal, Target};

use crate::support::{self, MIB, REPOSITORY, TAG, ask, log, url};

const CROWD: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_asks_at_once_is_one_question_to_the_origin() {
    let _machine = support::half_machine().await;
    let model = support::model(MIB, 410);
    // All of the crowd are there before the first has its answer.
    let origin = support::faulty_origin(&model, Faults::none().latency(Duration::from_secs(2))).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    let tag = url(&cluster, 0, REPOSITORY, &format!("manifests/{TAG}"));
    let digest = url(&cluster, 0, REPOSITORY, &format!("manifests/{}", model.manifest_digest()));
    let list = url(&cluster, 0, REPOSITORY, "tags/list");

    let heads = join_all((0..CROWD).map(async |_| ask(Method::HEAD, &tag, &[]).await)).await;
    for head in &heads {
        assert_eq!((head.status, head.header("docker-content-digest")), (200, &*model.manifest_digest().to_string()));
    }
    assert_eq!((origin.counts().manifest_heads, origin.counts().manifest_gets), (1, 0));
    for gets in [&digest, &tag] {
        let before = origin.counts().manifest_gets;
        let gets = join_all((0..CROWD).map(async |_| ask(Method::GET, gets, &[]).await)).await;
        assert!(gets.iter().all(|get| get.status == 200 && get.body == *model.manifest()));
        assert_eq!(origin.counts().manifest_gets - before, 1);
    }
    let before = requests(&cluster, "relay").await;
    let lists = join_all((0..CROWD).map(async |_| ask(Method::GET, &list, &[]).await)).await;
    assert!(lists.iter().all(|list| list.status == 200 && list.body == lists[0].body));
    assert_eq!(requests(&cluster, "relay").await - before, 1.0);

    // Nobody is told what was so before: who asks later asks anew.
    ask(Method::HEAD, &tag, &[]).await;
    assert_eq!(origin.counts().manifest_heads, 2);
    // By digest nothing is asked again.
    let before = origin.counts().manifest_gets;
    assert_eq!(ask(Method::GET, &digest, &[]).await.body, model.manifest());
    assert_eq!(origin.counts().manifest_gets, before);
    cluster.shutdown().await.unwrap();
}

async fn requests(cluster: &shoal::cluster::Cluster, kind: &str) -> f64 {
    cluster.metric(0, &format!("shoal_origin_requests_total{{kind=\"{kind}\"}}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_tag_stands_in_while_the_origin_is_away_and_says_so() {
    let _machine = support::half_machine().await;
    let model = support::model(MIB, 411);
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    let tag = url(&cluster, 0, REPOSITORY, &format!("manifests/{TAG}"));
    let other = url(&cluster, 0, REPOSITORY, "manifests/never-asked");
    let fresh = ask(Method::GET, &tag, &[]).await;
    assert_eq!((fresh.status, fresh.header("warning")), (200, ""));

    let manifests = |refusal: Refusal| Faults::none().refuse(refusal.of(Target::Manifests));
    let mut stale = 0.0;
    // It fails, or says nothing at all.
    for refusal in [Refusal::status(StatusCode::SERVICE_UNAVAILABLE), Refusal::hang()] {
        origin.set_faults(manifests(refusal));
        for method in [Method::HEAD, Method::GET] {
            let reply = ask(method.clone(), &tag, &[]).await;
            assert_eq!(
                (reply.status, reply.header("docker-content-digest")),
                (200, fresh.header("docker-content-digest"))
            );
            assert_eq!(reply.header("content-type"), fresh.header("content-type"));
            let warning = reply.header("warning");
            assert!(warning.starts_with("299 - \"") && warning.contains("cannot be reached"), "{warning}");
            assert!(method == Method::HEAD || reply.body == *model.manifest());
            stale += 1.0;
        }
    }
    assert_eq!(cluster.metric(0, "shoal_mirror_stale_tags_total").await.unwrap(), stale);
    assert!(log(&cluster, 0).contains("a remembered tag stands in"));

    // Nothing stands in for what was never known, nor for what the origin denies.
    origin.set_faults(manifests(Refusal::status(StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(ask(Method::GET, &other, &[]).await.status, 502);
    let list = ask(Method::GET, &url(&cluster, 0, REPOSITORY, "tags/list"), &[]).await;
    assert_eq!(list.status, 200, "a list is not a manifest");
    for status in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN] {
        origin.set_faults(manifests(Refusal::status(status)));
        assert_eq!(ask(Method::GET, &tag, &[]).await.status, status.as_u16());
    }
    origin.set_faults(Faults::none());
    let reply = ask(Method::GET, &tag, &[(header::IF_NONE_MATCH, fresh.header("etag"))]).await;
    assert_eq!((reply.status, reply.header("warning")), (304, ""));
    cluster.shutdown().await.unwrap();
}
