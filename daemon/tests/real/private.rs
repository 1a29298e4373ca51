//! Registries that want something of those who come: tokens, client certificates.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use shoal::{
    cluster::{Builder, Cluster},
    fetch,
};
use shoal_registry::{Artifact, Blob};

use crate::{
    REGISTRY, containerd::Containerd, docker_registry::DockerRegistry, layout::Layout, needs, needs::Need, sent_once,
    skopeo, token_server::TokenServer, told, whole_and_proven,
};

/// The file in the image's layer.
const FILE_BYTES: u64 = 40 << 20;
/// Nobody is there: what does not come through the mirror does not come.
const NOWHERE: &str = "http://127.0.0.1:1";

fn builder(origin: &DockerRegistry, nodes: usize) -> Builder {
    Cluster::builder(env!("CARGO_BIN_EXE_shoal")).nodes(nodes).registry(&format!("{REGISTRY}={}", origin.url()))
}

async fn start(builder: Builder) -> anyhow::Result<Cluster> {
    let cluster = builder.start().await?;
    cluster.wait_all_ready().await?;
    Ok(cluster)
}

/// A docker config.json with the daemons' own name and password.
fn credentials(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("config.json");
    let auth = STANDARD.encode("daemon:its-own");
    fs::write(&path, json!({ "auths": { REGISTRY: { "auth": auth } } }).to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

/// Every pod's secret is proven at the registry; without one nothing is had, also not what the node has already.
#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_from_a_registry_with_tokens_as_who_it_is() -> anyhow::Result<()> {
    let programs = ["docker-registry", "skopeo", "containerd", "ctr"].map(Need::Program);
    if !needs::met(programs.into_iter().chain([Need::Root])) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path().join("image"))?;
    let image = layout.image("weights.bin", FILE_BYTES, "v1")?;
    let users = [("daemon", "its-own"), ("ann", "pear"), ("builder", "push-it")];
    let tokens = TokenServer::start(dir.path(), &users, &[]).await?;
    let mut origin = DockerRegistry::start_with(&dir.path().join("origin"), "http", &tokens.auth()).await?;
    skopeo::push_as(&layout, "v1", &origin.address("library/weights:v1"), "builder:push-it").await?;
    let before = origin.lines_of_push().await?;

    let cluster = builder(&origin, 3)
        .flag("credentials", &credentials(dir.path())?)
        .flag("access", &format!("{REGISTRY}=caller"));
    let cluster = start(cluster).await?;
    let client = async |node: usize| {
        let dir = dir.path().join(format!("containerd-{node}"));
        Containerd::start(&dir, REGISTRY, &cluster.mirror_url(node), NOWHERE).await
    };
    let clients = [client(0).await?, client(1).await?];
    let name = format!("{REGISTRY}/library/weights:v1");
    for (node, containerd) in clients.iter().enumerate() {
        // Before and after somebody has had it pulled to this node.
        for _ in 0..2 {
            assert!(containerd.pull(&name).await.is_err(), "nobody got a private image");
            assert!(containerd.pull_as(&name, "ann:wrong").await.is_err(), "a wrong password got a private image");
            told(&cluster, containerd.pull_as(&name, "ann:pear").await)?;
        }
        for digest in image.digests() {
            assert_eq!(containerd.digest_of_content(&digest).await?, digest, "{}", containerd.name());
        }
        whole_and_proven(&cluster, node, &image.layer.digest).await?;
    }
    assert!(tokens.served(Some("ann")) >= 2 && tokens.served(Some("daemon")) >= 1);
    for node in 0..3 {
        let blob =
            format!("{}/v2/library/weights/blobs/{}?ns={REGISTRY}", cluster.mirror_url(node), image.layer.digest);
        let answer = fetch::get(&blob, None).await?;
        assert_eq!(answer.status, 401, "node-{node}");
        let challenge = answer.headers["www-authenticate"].to_str()?.to_owned();
        assert!(challenge.contains("/token") && challenge.contains("repository:library/weights:pull"), "{challenge}");
    }
    cluster.shutdown().await?;
    let lines = &origin.stop().await?[before..];
    let sent =
        lines.iter().filter(|line| line.method == "GET" && line.path().ends_with(&image.layer.digest.to_string()));
    assert_eq!(sent.filter(|line| line.status < 300).map(|line| line.bytes).sum::<u64>(), image.layer.size);
    let stranger = lines.iter().find(|line| !line.user_agent.starts_with("shoal/"));
    assert!(stranger.is_none(), "a client went past the mirror: {stranger:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pulls_a_private_image_where_the_node_may_and_a_public_one_anywhere() -> anyhow::Result<()> {
    if !needs::met(["docker-registry", "skopeo"].map(Need::Program)) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path().join("image"))?;
    let image = layout.image("weights.bin", FILE_BYTES, "v1")?;
    let tokens = TokenServer::start(dir.path(), &[("daemon", "its-own")], &["library/open"]).await?;
    let origin = DockerRegistry::start_with(&dir.path().join("origin"), "http", &tokens.auth()).await?;
    for name in ["library/weights:v1", "library/open:v1"] {
        skopeo::push_as(&layout, "v1", &origin.address(name), "daemon:its-own").await?;
    }
    for (access, private) in [("node", true), ("caller", false)] {
        let cluster = builder(&origin, 2)
            .flag("credentials", &credentials(dir.path())?)
            .flag("access", &format!("{REGISTRY}={access}"));
        let cluster = start(cluster).await?;
        for node in 0..2 {
            let mirror = cluster.mirror_url(node).replace("http://", "");
            for (name, allowed) in [("weights", private), ("open", true)] {
                let copy = Layout::create(dir.path().join(format!("{access}-{node}-{name}")))?;
                let pulled = skopeo::pull(&format!("{mirror}/{REGISTRY}/library/{name}:v1"), &copy, "v1").await;
                assert_eq!(pulled.is_ok(), allowed, "{access}, node-{node}, {name}: {pulled:?}");
                if allowed {
                    assert_eq!(copy.tagged("v1")?, image.manifest.digest);
                    assert!(copy.read(&image.layer.digest)? == layout.read(&image.layer.digest)?);
                }
            }
        }
        cluster.shutdown().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_its_own_authority_that_wants_client_certificates_is_mirrored() -> anyhow::Result<()> {
    if !needs::met(["docker-registry", "skopeo"].map(Need::Program)) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path().join("image"))?;
    let image = layout.image("weights.bin", FILE_BYTES, "v1")?;
    // As skopeo wants them named.
    let certs = dir.path().join("certs");
    fs::create_dir(&certs)?;
    certificates(&certs)?;
    let path = |name: &str| certs.join(name).display().to_string();
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas:\n      - {}\n",
        path("server.pem"),
        path("server-key.pem"),
        path("ca.crt")
    );
    let mut origin = DockerRegistry::start_with(&dir.path().join("origin"), "https", &tls).await?;
    skopeo::push_with(&layout, "v1", &origin.address("library/weights:v1"), &certs).await?;
    let before = origin.lines_of_push().await?;

    let start_with = async |said: &str| {
        let file = dir.path().join("shoal.toml");
        fs::write(&file, format!("[registries.\"{REGISTRY}\"]\nurl = \"{}\"\n{said}", origin.url()))?;
        let builder = Cluster::builder(env!("CARGO_BIN_EXE_shoal")).nodes(2).flag("config", &file.to_string_lossy());
        start(builder).await
    };
    let ca = format!("ca_file = \"{}\"\n", path("ca.crt"));
    let shown = format!("client_cert = \"{}\"\nclient_key = \"{}\"\n", path("client.cert"), path("client.key"));
    // Without its authority, or without a certificate to show, there is no way in.
    for said in [&shown, &ca] {
        let cluster = start_with(said).await?;
        let manifest = format!("{}/v2/library/weights/manifests/v1?ns={REGISTRY}", cluster.mirror_url(0));
        assert_eq!(fetch::get(&manifest, None).await?.status, 502, "{said}");
        cluster.shutdown().await?;
    }
    let cluster = start_with(&format!("{ca}{shown}")).await?;
    for node in 0..2 {
        let copy = Layout::create(dir.path().join(format!("copy-{node}")))?;
        let mirror = cluster.mirror_url(node).replace("http://", "");
        let pulled = skopeo::pull(&format!("{mirror}/{REGISTRY}/library/weights:v1"), &copy, "v1").await;
        told(&cluster, pulled)?;
        assert_eq!(copy.tagged("v1")?, image.manifest.digest);
        assert!(copy.read(&image.layer.digest)? == layout.read(&image.layer.digest)?);
        whole_and_proven(&cluster, node, &image.layer.digest).await?;
    }
    cluster.shutdown().await?;
    sent_once(&origin.stop().await?[before..], &image.layer.digest, image.layer.size);
    Ok(())
}

/// An authority, and a server and a client that it vouches for.
fn certificates(dir: &Path) -> anyhow::Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::from_params(&params, &authority_key);
    fs::write(dir.join("ca.crt"), authority.pem())?;
    for (name, cert, key) in
        [("127.0.0.1", "server.pem", "server-key.pem"), ("client.test", "client.cert", "client.key")]
    {
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&pair, &issuer)?;
        fs::write(dir.join(cert), certificate.pem())?;
        fs::write(dir.join(key), pair.serialize_pem())?;
    }
    Ok(())
}

/// A registry without the referrers API says 404, and so does the mirror, so that clients go on to the tag that stands in for
/// it: what that leads to has the digests that it has at the registry.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_refers_to_an_image_is_found_through_the_mirror() -> anyhow::Result<()> {
    if !needs::met(["docker-registry", "skopeo"].map(Need::Program)) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path().join("image"))?;
    let image = layout.image("weights.bin", 1 << 20, "v1")?;
    let signature = signature(&image.manifest.digest.to_string(), image.manifest.size);
    let signed = Layout::create(dir.path().join("signature"))?;
    signed.artifact(&signature, "v1")?;
    let tag = format!("sha256-{}.sig", image.manifest.digest.hex());
    let origin = DockerRegistry::start(&dir.path().join("origin")).await?;
    skopeo::push(&layout, "v1", &origin.address("library/weights:v1")).await?;
    skopeo::push(&signed, "v1", &origin.address(&format!("library/weights:{tag}"))).await?;

    let cluster = start(builder(&origin, 2)).await?;
    for node in 0..2 {
        let mirror = cluster.mirror_url(node);
        let path = format!("/v2/library/weights/referrers/{}", image.manifest.digest);
        let direct = fetch::get(&format!("{}{path}", origin.url()), None).await?.status;
        assert_eq!(
            (direct.as_u16(), fetch::get(&format!("{mirror}{path}?ns={REGISTRY}"), None).await?.status),
            (404, direct)
        );
        let copy = Layout::create(dir.path().join(format!("copy-{node}")))?;
        let named = format!("{}/{REGISTRY}/library/weights:{tag}", mirror.replace("http://", ""));
        told(&cluster, skopeo::pull(&named, &copy, "v1").await)?;
        assert_eq!(copy.tagged("v1")?, signature.manifest_digest());
        let manifest = copy.read(&signature.manifest_digest())?;
        assert_eq!(manifest, signature.manifest()[..]);
        let manifest: Value = serde_json::from_slice(&manifest)?;
        assert_eq!(manifest["subject"]["digest"], image.manifest.digest.to_string());
        let payload: Value = serde_json::from_slice(&copy.read(&signature.layer().digest())?)?;
        assert_eq!(payload["critical"]["image"]["docker-manifest-digest"], image.manifest.digest.to_string());
    }
    cluster.shutdown().await
}

/// What cosign makes: a manifest with the signed words as its layer, and the image as its subject.
fn signature(subject: &str, size: u64) -> Artifact {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let payload = json!({ "critical": {
        "identity": { "docker-reference": "registry.test/library/weights" },
        "image": { "docker-manifest-digest": subject },
        "type": "cosign container image signature",
    } });
    let payload = Blob::new(payload.to_string());
    let config = json!({
        "architecture": "", "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [payload.digest()] },
    });
    let config = Blob::new(config.to_string());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest(), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": payload.digest(), "size": payload.len(),
            "annotations": { "dev.cosignproject.cosign/signature": "MEUCIQ==" },
        }],
        "subject": { "mediaType": MANIFEST, "digest": subject, "size": size },
    });
    Artifact::new("library/weights", MANIFEST, manifest.to_string()).blob(config).blob(payload)
}
