//! Manifests and tags.

use sha2::Digest as _;
use shoal_blob::Digest;
use shoal_store::{MAX_MANIFEST_BYTES, ManifestError, Store, StoreError};

use crate::sample::config;

fn named(bytes: &[u8]) -> Digest {
    Digest::Sha256(sha2::Sha256::digest(bytes).into())
}

#[test]
fn a_manifest_is_what_its_digest_says_or_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 0);
    let store = Store::open(&config).unwrap();
    let digest = named(b"{}");
    assert_eq!(store.manifest(&digest).unwrap(), None);
    assert!(matches!(store.put_manifest(&digest, "a/b", b"[]"), Err(ManifestError::Mismatch { .. })));
    let long = vec![0; MAX_MANIFEST_BYTES + 1];
    assert!(matches!(store.put_manifest(&named(&long), "a/b", &long), Err(ManifestError::TooLong { .. })));
    store.put_manifest(&named(&long[1..]), "a/b", &long[1..]).unwrap();
    store.put_manifest(&digest, "application/x", b"{}").unwrap();
    let wide = Digest::Sha512(sha2::Sha512::digest(b"{}").into());
    store.put_manifest(&wide, "application/y", b"{}").unwrap();
    store.close().unwrap();
    assert!(matches!(store.put_manifest(&digest, "a", b"{}"), Err(ManifestError::Store(StoreError::Closed { .. }))));
    drop(store);
    let store = Store::open(&config).unwrap();
    assert_eq!(store.usage().manifests, 3);
    let manifest = store.manifest(&digest).unwrap().unwrap();
    assert_eq!((manifest.content_type.as_str(), &manifest.bytes[..]), ("application/x", &b"{}"[..]));
    assert_eq!(store.manifest(&wide).unwrap().unwrap().content_type, "application/y");
}

#[test]
fn all_manifests_together_are_bounded_and_the_used_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 0)).unwrap();
    let many: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; MAX_MANIFEST_BYTES]).collect();
    for bytes in &many {
        store.put_manifest(&named(bytes), "a/b", bytes).unwrap();
        assert!(store.manifest(&named(&many[0])).unwrap().is_some());
    }
    let usage = store.usage();
    assert!(usage.manifest_bytes <= 64 << 20 && usage.manifests >= 15, "{usage:?}");
    assert!(store.manifest(&named(&many[1])).unwrap().is_none());
    assert!(store.manifest(&named(&many[19])).unwrap().is_some());
}

#[test]
fn tags_are_remembered_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 0);
    let store = Store::open(&config).unwrap();
    let (first, second) = (Digest::Sha256([1; 32]), Digest::Sha512([2; 64]));
    assert_eq!(store.tag("r.io/a", "b").unwrap(), None);
    store.remember_tag("r.io/a", "b", &first).unwrap();
    store.remember_tag("r.io/a", "b", &second).unwrap();
    store.remember_tag("r.io/ab", "", &first).unwrap();
    store.remember_tag(&"x".repeat(5000), "b", &first).unwrap();
    assert_eq!(store.tag(&"x".repeat(5000), "b").unwrap(), None);
    store.close().unwrap();
    drop(store);
    let store = Store::open(&config).unwrap();
    let tag = store.tag("r.io/a", "b").unwrap().unwrap();
    assert_eq!(tag.digest, second);
    assert!(tag.age().as_secs() < 3600, "{:?}", tag.age());
    for n in 0..9000 {
        store.remember_tag("r.io/many", &n.to_string(), &first).unwrap();
    }
    assert!(store.tag("r.io/many", "8999").unwrap().is_some());
    let kept = (0..9000).filter(|n| store.tag("r.io/many", &n.to_string()).unwrap().is_some()).count();
    assert!((7000..=8192).contains(&kept), "{kept}");
}
