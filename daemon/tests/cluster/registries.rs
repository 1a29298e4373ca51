//! The way to registries: Docker Hub's names, several endpoints, proxies, credential programs, and where no name leads.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use futures::future::join_all;
use http::{Method, StatusCode};
use shoal_registry::{Artifact, Blob, Faults, Refusal, Registry};

use crate::support::{self, MIB, REGISTRY, REPOSITORY, SEED_LOSS, TAG, ask, blob_url, pull, pull_resuming, soon, url};

#[tokio::test(flavor = "multi_thread")]
async fn docker_hub_is_found_by_all_its_names_and_keeps_its_own_under_library() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 160).under("library/alpine");
    let origin = support::origin(&model).await;
    let registry = format!("docker.io={}", origin.url());
    let cluster = support::ready(support::bare_daemons(1).registry(&registry)).await;
    let mirror = cluster.mirror_url(0);
    for path in [
        format!("/v2/library/alpine/manifests/{TAG}?ns=docker.io"),
        format!("/v2/alpine/manifests/{TAG}?ns=docker.io"),
        format!("/v2/alpine/manifests/{TAG}?ns=index.docker.io"),
        format!("/v2/library/alpine/manifests/{TAG}?ns=registry-1.docker.io"),
        format!("/v2/docker.io/library/alpine/manifests/{TAG}"),
        format!("/v2/docker.io/alpine/manifests/{TAG}"),
    ] {
        let reply = ask(Method::GET, &format!("{mirror}{path}"), &[]).await;
        assert_eq!((reply.status, &reply.body), (200, model.manifest()), "{path}");
    }
    let digest = model.layer().digest();
    pull(&format!("{mirror}/v2/alpine/blobs/{digest}?ns=docker.io"), model.layer()).await;
    pull(&format!("{mirror}/v2/docker.io/library/alpine/blobs/{digest}"), model.layer()).await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, model.layer().len());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_endpoint_falls_silent_the_seed_reads_on_at_the_next() {
    let _machine = support::half_machine().await;
    let model = support::model(48 * MIB, 161);
    let layer = model.layer();
    let digest = layer.digest();
    let (first, second) = (support::origin(&model).await, support::origin(&model).await);
    first.hold_at(&digest, 16 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shoal.toml");
    let urls = format!("[registries.\"{REGISTRY}\"]\nurl = [\"{}\", \"{}\"]\n", first.url(), second.url());
    fs::write(&file, urls).unwrap();
    let cluster = support::ready(support::bare_daemons(3).flag("config", &file.to_string_lossy())).await;
    // Not even a client notices.
    join_all((0..3).map(async |node| pull(&blob_url(&cluster, node, &digest), layer).await)).await;
    let (here, there) = (first.counts().blob(&digest), second.counts().blob(&digest));
    assert_eq!(here.bytes_sent, 16 * MIB);
    assert!(there.bytes_sent >= 32 * MIB && there.bytes_sent <= 48 * MIB, "{there:?}");

    // The first one goes: what is asked next does not wait for it.
    let next = support::model(8 * MIB, 162);
    second.put(&next).unwrap();
    first.stop().await;
    let digest = next.layer().digest();
    let pulls = (0..3).map(|node| pull_resuming(blob_url(&cluster, node, &digest), next.layer().clone()));
    for outcome in soon("all have the next", join_all(pulls)).await {
        outcome.unwrap();
    }
    assert!(second.counts().blob(&digest).bytes_sent <= next.layer().len() + SEED_LOSS);
    cluster.shutdown().await.unwrap();
}

/// The registry has a name that leads nowhere, so that only the proxy can reach it: which the test's origin plays itself,
/// since a plain request to a proxy is one with a whole URL.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_is_used_but_for_what_is_excepted() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 163);
    let origin = support::origin(&model).await;
    let builder = support::bare_daemons(4)
        .alone()
        .registry(&format!("{REGISTRY}=http://{REGISTRY}"))
        .env("NO_PROXY", "")
        .env("HTTP_PROXY", &origin.url())
        .env_of(1, "NO_PROXY", "other.test,.test")
        .flag_of(2, "proxy", "none")
        .flag_of(3, "proxy", &origin.url())
        .env_of(3, "HTTP_PROXY", "http://127.0.0.1:1");
    let cluster = support::ready(builder).await;
    for (node, reached) in [(0, true), (1, false), (2, false), (3, true)] {
        let reply = ask(Method::GET, &url(&cluster, node, REPOSITORY, &format!("manifests/{TAG}")), &[]).await;
        assert_eq!(reply.status, if reached { 200 } else { 502 }, "node-{node}: {:?}", reply.body);
    }
    pull(&blob_url(&cluster, 0, &model.layer().digest()), model.layer()).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_program_is_asked_and_its_answer_kept() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 164);
    let builder = Registry::builder().artifact(model.clone()).token_auth("puller", "right", Duration::from_secs(300));
    let origin = builder.listen("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let program = dir.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >> {0}/runs\n\
         [ \"$server\" = {REGISTRY} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\ncat {0}/answer\n",
        dir.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let answer = |password: &str| {
        let text = format!(r#"{{"ServerURL":"{REGISTRY}","Username":"puller","Secret":"{password}"}}"#);
        fs::write(dir.join("answer"), text).unwrap();
    };
    let config = dir.join("config.json");
    fs::write(&config, format!(r#"{{"credHelpers":{{"{REGISTRY}":"test","other.test":"test"}}}}"#)).unwrap();
    answer("right");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let cluster = support::daemons(1, &origin)
        .registry(&format!("other.test={}", origin.url()))
        .flag("credentials", &config.to_string_lossy())
        .flag("access", &format!("{REGISTRY}=node,other.test=node"))
        .env("PATH", &path);
    let cluster = support::ready(cluster).await;
    pull(&blob_url(&cluster, 0, &model.layer().digest()), model.layer()).await;
    let manifest = url(&cluster, 0, REPOSITORY, &format!("manifests/{TAG}"));
    assert_eq!(ask(Method::GET, &manifest, &[]).await.status, 200);
    assert_eq!(fs::read_to_string(dir.join("runs")).unwrap(), format!("get {REGISTRY}\n"), "it is run once");
    // One that has nothing for a registry leaves this node anybody there.
    let elsewhere = manifest.replace(REGISTRY, "other.test");
    assert_eq!(ask(Method::GET, &elsewhere, &[]).await.status, 403);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_leads_to_this_machine_or_to_the_metadata_service() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 165);
    let digest = model.layer().digest();
    let origin = support::origin(&model).await;
    let port = origin.addr().port();
    let cluster = support::bare_daemons(1).registry(&format!("lan.test=http://127.0.0.2:{port}"));
    let cluster = support::ready(cluster.flag("allow-any-registry", "true")).await;
    let mirror = cluster.mirror_url(0);
    let own = |url: &str| url.trim_start_matches("http://").to_owned();
    let names = [
        "169.254.169.254".to_owned(),
        "2852039166".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        own(&mirror),
        own(&cluster.admin_url(0)),
        own(&cluster.admin_url(0)).replace("127.0.0.1", "localhost"),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "10.0.0.1".to_owned(),
    ];
    for name in &names {
        for what in [format!("blobs/{digest}"), format!("manifests/{TAG}"), "tags/list".to_owned()] {
            let reply = ask(Method::GET, &format!("{mirror}/v2/{REPOSITORY}/{what}?ns={name}"), &[]).await;
            // A name that no registry can have is one too few to refuse.
            assert!([400, 403].contains(&reply.status), "{name} {what}: {} {:?}", reply.status, reply.body);
        }
    }
    assert_eq!(origin.counts().connections, 0, "a name led to this machine");

    // Nor does a registry that is configured lead to another address of this machine than its own.
    let metadata = support::origin(&model).await;
    let elsewhere = format!("http://127.0.0.3:{}", metadata.addr().port());
    let sends = Artifact::synthetic(REPOSITORY, TAG, MIB, 166);
    let faults = Faults::none().redirect_blobs(&elsewhere);
    let lan =
        Registry::builder().artifact(sends.clone()).faults(faults).listen(format!("127.0.0.2:{port}")).await.unwrap();
    let blob = format!("{mirror}/v2/{REPOSITORY}/blobs/{}?ns=lan.test", sends.layer().digest());
    let reply = ask(Method::GET, &blob, &[]).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"), "{:?}", reply.body);
    assert!(lan.counts().blob(&sends.layer().digest()).redirected > 0);
    assert_eq!(metadata.counts().connections, 0);
    cluster.shutdown().await.unwrap();
}

/// A signature is found through the mirror as it is at the registry, on every node; and where the registry cannot say what
/// there is, nobody is told that there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_an_artifact_is_passed_through_with_the_same_digests() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 167);
    let subject = model.manifest_digest();
    let refers = |kind: &str| {
        let payload = Blob::new(format!("{kind} of {subject}"));
        let (digest, size) = (payload.digest(), payload.len());
        let text = format!(
            r#"{{"schemaVersion":2,"artifactType":"{kind}","layers":[{{"digest":"{digest}","size":{size}}}],"subject":{{"digest":"{subject}"}}}}"#
        );
        Artifact::new(REPOSITORY, MANIFEST, text).blob(payload)
    };
    let (signature, report) = (refers("test/signature"), refers("test/report"));
    let builder = Registry::builder().artifact(model.clone()).artifact(signature.clone()).artifact(report);
    let origin = builder.listen("127.0.0.1:0").await.unwrap();
    let cluster = support::ready(support::daemons(2, &origin)).await;
    for node in 0..2 {
        for query in ["", "artifactType=test/signature"] {
            let path = format!("/v2/{REPOSITORY}/referrers/{subject}");
            let direct = ask(Method::GET, &format!("{}{path}?{query}", origin.url()), &[]).await;
            let through =
                ask(Method::GET, &format!("{}{path}?ns={REGISTRY}&{query}", cluster.mirror_url(node)), &[]).await;
            assert_eq!((through.status, &through.body), (200, &direct.body), "{query}");
            for name in ["content-type", "oci-filters-applied"] {
                assert_eq!(through.header(name), direct.header(name), "{name}");
            }
            let list: serde_json::Value = serde_json::from_slice(&through.body).unwrap();
            let digests: Vec<&str> =
                list["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
            assert!(digests.contains(&signature.manifest_digest().to_string().as_str()), "{digests:?}");
            assert_eq!(digests.len(), if query.is_empty() { 2 } else { 1 });
        }
        let manifest = url(&cluster, node, REPOSITORY, &format!("manifests/{}", signature.manifest_digest()));
        assert_eq!(ask(Method::GET, &manifest, &[]).await.body, *signature.manifest());
        pull(&blob_url(&cluster, node, &signature.layer().digest()), signature.layer()).await;
    }
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE] {
        origin.set_faults(Faults::none().refuse(Refusal::status(status)));
        let list = url(&cluster, 0, REPOSITORY, &format!("referrers/{subject}"));
        let told = ask(Method::GET, &list, &[]).await;
        assert!(told.status >= 500, "{status}: {} {:?}", told.status, told.body);
    }
    cluster.shutdown().await.unwrap();
}
