//! Who asks, how often, and what is told to nobody.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use shoal_blob::{Reference, Repository};
use shoal_origin::{
    Access, ConfigError, ErrorKind, Origins, Policy, Refusal, RegistryConfig, RequestKind, Verdict, Visibility,
};
use shoal_registry::{Faults, Refusal as Refuse, Registry, Target};
use support::*;

const LIFE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn an_open_registry_sees_one_head() {
    let (model, digest) = artifact(1000);
    let registry = registry(&model).await;
    let origins = origins(&registry.url());
    let head = origins.head_blob(&repository(), &digest).await.unwrap();
    assert_eq!((head.length, head.visibility), (1000, Visibility::Anonymous));
    let counts = registry.counts();
    assert_eq!((counts.blob(&digest).heads, counts.unauthorized), (1, 0));
    assert_eq!(origins.counters().requests(RequestKind::BlobHead), 1);
}

#[tokio::test]
async fn a_public_repository_of_a_token_registry_sees_one_head() {
    let (model, digest) = artifact(1000);
    let registry = Registry::builder()
        .artifact(model)
        .token_auth("me", "hunter2", LIFE)
        .public(REPOSITORY)
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    for (origins, _keep) in [(origins(&registry.url()), None), {
        let (origins, dir) = origins_as(&registry.url(), "me", "hunter2");
        (origins, Some(dir))
    }] {
        let before = registry.counts().blob(&digest);
        let head = origins.head_blob(&repository(), &digest).await.unwrap();
        assert_eq!(head.visibility, Visibility::Anonymous);
        let after = registry.counts().blob(&digest);
        assert_eq!((after.heads - before.heads, after.refused - before.refused), (1, 0));
    }
}

#[tokio::test]
async fn a_private_repository_is_remembered_as_such() {
    let (model, digest) = artifact(1000);
    let config = model.blobs()[0].digest();
    for tokens in [true, false] {
        let builder = Registry::builder().artifact(model.clone());
        let builder =
            if tokens { builder.token_auth("me", "hunter2", LIFE) } else { builder.basic_auth("me", "hunter2") };
        let registry = builder.listen("127.0.0.1:0").await.unwrap();
        let (origins, _dir) = origins_as(&registry.url(), "me", "hunter2");
        let head = origins.head_blob(&repository(), &digest).await.unwrap();
        assert_eq!((head.length, head.visibility), (1000, Visibility::Credential));
        let head = origins.head_blob(&repository(), &config).await.unwrap();
        assert_eq!(head.visibility, Visibility::Credential);
        let counts = registry.counts().blob(&config);
        assert_eq!((counts.heads, counts.refused), (1, 0), "the second blob of a private repository costs one HEAD");
        if tokens {
            assert_eq!(registry.counts().tokens_issued, 1, "the token is used again");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_that_shows_no_password() {
    let (model, digest) = artifact(1000);
    let registry =
        Registry::builder().artifact(model).token_auth("me", "right", LIFE).listen("127.0.0.1:0").await.unwrap();
    let (origins, _dir) = origins_as(&registry.url(), "me", "hunter2");
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Unauthorized));
    let secret = STANDARD.encode("me:hunter2");
    for text in [format!("{error}"), format!("{error:?}"), format!("{origins:?}")] {
        assert!(!text.contains("hunter2") && !text.contains(&secret), "{text}");
    }
    assert!(error.to_string().contains(NAME) && error.to_string().contains(&digest.to_string()), "{error}");
}

#[tokio::test]
async fn credentials_without_access_are_a_start_up_error() {
    let (path, _dir) = config_json(NAME, "me", "hunter2");
    let own = RegistryConfig { credentials: Some(path.clone()), ..config("https://origin.test") };
    let all = Policy { credentials: vec![path.clone()], ..policy() };
    for (config, policy) in [(own, policy()), (config("https://origin.test"), all.clone())] {
        let error = Origins::new(vec![config], policy).unwrap_err();
        assert!(matches!(&error, ConfigError::AccessMissing { registry, .. } if registry == NAME), "{error}");
        assert!(error.to_string().contains("`access`"), "{error}");
    }
    // A registry that the file says nothing about needs no word.
    Origins::new(vec![RegistryConfig::named("other.test")], all).unwrap();
    // A file that was named for one registry must know it.
    let named =
        RegistryConfig { credentials: Some(path), access: Some(Access::Caller), ..RegistryConfig::named("other.test") };
    assert!(matches!(Origins::new(vec![named], policy()), Err(ConfigError::Credentials { .. })));
}

#[tokio::test]
async fn a_token_service_in_trouble_is_not_a_refusal() {
    let (model, digest) = artifact(1000);
    let fault = || Refuse::status(StatusCode::SERVICE_UNAVAILABLE).of(Target::Token);
    let registry = Registry::builder()
        .artifact(model)
        .token_auth("me", "hunter2", LIFE)
        .public(REPOSITORY)
        .faults(Faults::none().refuse(fault().first(3)))
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    origins(&registry.url()).head_blob(&repository(), &digest).await.unwrap();
    registry.set_faults(Faults::none().refuse(fault()));
    let error = origins(&registry.url()).head_blob(&repository(), &digest).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn a_token_that_ends_in_mid_blob_is_replaced() {
    let (model, digest) = artifact(1 << 20);
    let registry = Registry::builder()
        .artifact(model.clone())
        .token_auth("me", "hunter2", LIFE)
        .faults(Faults::none().truncate(300_000))
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let (origins, _dir) = origins_as(&registry.url(), "me", "hunter2");
    let mut stream = origins.open(&repository(), &digest, 0..1 << 20, Some(1 << 20)).await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    registry.revoke_tokens();
    let mut all = first.to_vec();
    all.extend(read_all(stream).await.unwrap());
    assert_eq!(all, bytes_of(model.layer()));
    assert_eq!(registry.counts().blob(&digest).bytes_sent, 1 << 20);
}

#[tokio::test]
async fn a_reload_changes_what_is_asked_and_a_wrong_one_changes_nothing() {
    let (model, digest) = artifact(1000);
    let registry = Registry::builder().artifact(model).basic_auth("me", "hunter2").listen("127.0.0.1:0").await.unwrap();
    let origins = origins(&registry.url());
    assert!(origins.head_blob(&repository(), &digest).await.is_err());
    let (path, _dir) = config_json(NAME, "me", "hunter2");
    let mut next = RegistryConfig { credentials: Some(path), ..config(&registry.url()) };
    assert!(origins.reload(vec![next.clone()], policy()).is_err());
    assert!(origins.is_configured(NAME) && origins.access(NAME).is_none());
    next.access = Some(Access::Node);
    origins.reload(vec![next], policy()).unwrap();
    assert_eq!(origins.access(NAME), Some(Access::Node));
    origins.head_blob(&repository(), &digest).await.unwrap();
    origins.reload(Vec::new(), policy()).unwrap();
    let error = origins.head_blob(&repository(), &digest).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RegistryNotConfigured);
}

#[tokio::test]
async fn a_name_and_a_password_stand_in_files_or_in_the_first_config_that_knows_the_registry() {
    let (model, digest) = artifact(1000);
    let registry = Registry::builder().artifact(model).basic_auth("me", "hunter2").listen("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let node = RegistryConfig { access: Some(Access::Node), ..config(&registry.url()) };
    let pair = RegistryConfig {
        user_file: write("user", "me\n"),
        password_file: write("password", "hunter2\r\n"),
        ..node.clone()
    };
    let (other, _other) = config_json("other.test", "you", "wrong");
    let (right, _right) = config_json(NAME, "me", "hunter2");
    let (last, _last) = config_json(NAME, "me", "wrong");
    let mounted = dir.path().join("secret");
    std::fs::create_dir(&mounted).unwrap();
    std::fs::copy(&right, mounted.join(".dockerconfigjson")).unwrap();
    let all = |credentials: Vec<std::path::PathBuf>| Policy { credentials, ..policy() };
    for (config, policy) in [
        (pair.clone(), all(vec![last.clone()])),
        (node.clone(), all(vec![other.clone(), right.clone(), last.clone()])),
        (node.clone(), all(vec![mounted.clone()])),
        (RegistryConfig { credentials: Some(mounted.clone()), ..node.clone() }, all(vec![last])),
    ] {
        let origins = Origins::new(vec![config], policy).unwrap();
        let head = origins.head_blob(&repository(), &digest).await.unwrap();
        assert_eq!(head.visibility, Visibility::Credential);
    }

    let none = RegistryConfig { access: None, ..pair.clone() };
    assert!(matches!(Origins::new(vec![none], policy()), Err(ConfigError::AccessMissing { .. })));
    for (wrong, setting) in [
        (RegistryConfig { user_file: None, ..pair.clone() }, "password_file"),
        (RegistryConfig { password_file: None, ..pair.clone() }, "user_file"),
        (RegistryConfig { password_file: write("empty", "\n"), ..pair.clone() }, "password_file"),
        (RegistryConfig { user_file: write("lines", "me\nhunter2\n"), ..pair.clone() }, "user_file"),
        (RegistryConfig { user_file: Some("/nowhere".into()), ..pair }, "user_file"),
    ] {
        let error = Origins::new(vec![wrong], policy()).unwrap_err();
        assert!(matches!(&error, ConfigError::Pair { setting: of, .. } if *of == setting), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// A password that was changed on both sides is found at the first refusal, also that of a token service.
#[tokio::test]
async fn a_changed_password_is_used_at_once() {
    for tokens in [true, false] {
        let (model, digest) = artifact(1000);
        let builder = Registry::builder().artifact(model);
        let builder = if tokens { builder.token_auth("me", "new", LIFE) } else { builder.basic_auth("me", "new") };
        let registry = builder.listen("127.0.0.1:0").await.unwrap();
        let (path, _dir) = config_json(NAME, "me", "old");
        let config =
            RegistryConfig { credentials: Some(path.clone()), access: Some(Access::Node), ..config(&registry.url()) };
        let origins = Origins::new(vec![config], policy()).unwrap();
        let (next, _next) = config_json(NAME, "me", "new");
        std::fs::rename(next, path).unwrap();
        origins.head_blob(&repository(), &digest).await.unwrap();
    }
}

#[tokio::test]
async fn what_anybody_may_read_is_told_from_what_only_we_may() {
    let (model, digest) = artifact(1000);
    let builder = Registry::builder().artifact(model.clone()).artifact(model.under("models/open"));
    let registry = builder.token_auth("me", "hunter2", LIFE).public("models/open").listen("127.0.0.1:0").await.unwrap();
    let (origins, _dir) = origins_as(&registry.url(), "me", "hunter2");
    let (blob, tag) = (Reference::Digest(digest), Reference::Tag("v1".to_owned()));
    for (path, public) in [(REPOSITORY, false), ("models/open", true)] {
        let repository = Repository::new(NAME, path).unwrap();
        assert_eq!(origins.is_public(&repository, &blob, true).await.unwrap(), public, "{path}");
        assert_eq!(origins.is_public(&repository, &tag, false).await.unwrap(), public, "{path}");
    }
    registry.stop().await;
    assert!(origins.is_public(&repository(), &blob, true).await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn a_caller_proves_itself_with_its_own_word() {
    let (model, digest) = artifact(1000);
    let registry = Registry::builder().artifact(model).basic_auth("ann", "pear").listen("127.0.0.1:0").await.unwrap();
    let origins = origins(&registry.url());
    assert_eq!(origins.challenge(&repository()).await.unwrap().as_deref(), Some("Basic realm=\"shoal-registry\""));
    let blob = Reference::Digest(digest);
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let verdict = origins.prove(&repository(), &blob, true, &basic("ann:pear")).await.unwrap();
    let Verdict::Allowed { until } = verdict else { panic!("{verdict:?}") };
    assert!(until > Instant::now() && until <= Instant::now() + Duration::from_secs(60));
    assert_eq!(registry.counts().blob(&digest).heads, 1);
    for wrong in [basic("ann:plum"), "Bearer x".into(), "nonsense".into()] {
        let verdict = origins.prove(&repository(), &blob, true, &wrong).await.unwrap();
        let Verdict::Denied { challenge } = verdict else { panic!("{wrong}: {verdict:?}") };
        // What the origin never saw it did not challenge.
        assert_eq!(challenge.is_some(), wrong != "nonsense", "{wrong}: {challenge:?}");
    }
    let tag = Reference::Tag("v1".into());
    let verdict = origins.prove(&repository(), &tag, false, &basic("ann:pear")).await.unwrap();
    assert!(matches!(verdict, Verdict::Allowed { .. }));
    assert_eq!(registry.counts().manifest_heads, 1);
}

#[tokio::test]
async fn a_challenge_for_tokens_names_the_repository() {
    let (model, _) = artifact(1000);
    let registry =
        Registry::builder().artifact(model).token_auth("ann", "pear", LIFE).listen("127.0.0.1:0").await.unwrap();
    let challenge = origins(&registry.url()).challenge(&repository()).await.unwrap().unwrap();
    assert!(challenge.starts_with("Bearer realm=\"http://127.0.0.1"), "{challenge}");
    assert!(challenge.ends_with(",scope=\"repository:models/one:pull\""), "{challenge}");
}

#[tokio::test]
async fn any_registry_means_any_public_one() {
    let origins = Origins::new(Vec::new(), Policy { allow_any_registry: true, ..policy() }).unwrap();
    let (_, digest) = artifact(10);
    for name in ["127.0.0.1:5000", "localhost:5000", "169.254.169.254", "2130706433", "[::1]:5000", "10.0.0.1"] {
        let error = origins.head_blob(&Repository::new(name, "a/b").unwrap(), &digest).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::AddressRefused { .. }), "{name}: {error}");
    }
}

#[test]
fn every_operation_may_run_on_any_thread() {
    fn send<T: Send>(_: T) {}
    let origins = Origins::new(Vec::new(), policy()).unwrap();
    let (repository, tag) = (repository(), Reference::Tag("v1".into()));
    let (_, digest) = artifact(10);
    send(origins.head_blob(&repository, &digest));
    send(origins.open(&repository, &digest, 0..1, None));
    send(origins.manifest(&repository, &tag, None));
    send(origins.manifest_head(&repository, &tag, None));
    send(origins.relay(&repository, &shoal_origin::Listing::Tags, None));
    send(origins.challenge(&repository));
    send(origins.prove(&repository, &tag, false, "Basic x"));
    let mut runs =
        shoal_origin::Runs::new(origins.clone(), repository, digest, 10, shoal_origin::RunSettings::default());
    send(runs.next());
}
