//! What is found again after a stop.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use shoal_blob::Digest;
use shoal_store::{Store, StoreConfig, StoreError};

use crate::sample::{Sample, config};

fn data(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("store/blobs").join(digest.algorithm().name()).join(&digest.hex()[..2]).join(digest.hex())
}

fn sidecar(dir: &Path, digest: &Digest) -> PathBuf {
    data(dir, digest).with_extension("chain")
}

/// A complete blob and a partial one.
fn filled(config: &StoreConfig) -> (Store, Sample, Sample) {
    let store = Store::open(config).unwrap();
    let (whole, part) = (Sample::new(1, 70_000, 4096), Sample::new(2, 90_000, 4096));
    whole.put_all(&store.admit(&whole.digest, whole.layout).unwrap());
    part.put(&store.admit(&part.digest, part.layout).unwrap(), (0..20).filter(|n| n % 3 != 1));
    (store, whole, part)
}

#[test]
fn a_clean_stop_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    let before = store.list();
    store.close().unwrap();
    store.close().unwrap();
    let blob = store.blob(&part.digest).unwrap();
    assert!(matches!(blob.put(&part.pieces[1]), Err(StoreError::Closed { .. })));
    part.check(&blob);
    drop((blob, store));
    let store = Store::open(&config).unwrap();
    assert_eq!(store.list(), before);
    for sample in [&whole, &part] {
        let blob = store.blob(&sample.digest).unwrap();
        assert!(blob.unchecked().is_empty());
        sample.check(&blob);
    }
    drop(store);
    // Nothing was done, and still it was not closed.
    let store = Store::open(&config).unwrap();
    assert!(store.blob(&part.digest).unwrap().pieces().is_empty());
}

#[test]
fn after_an_unclean_stop_partial_blobs_are_checked_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    let held = store.blob(&part.digest).unwrap().pieces();
    drop(store);
    let store = Store::open(&config).unwrap();
    assert!(store.blob(&whole.digest).unwrap().is_complete());
    whole.check(&store.blob(&whole.digest).unwrap());
    let blob = store.hold(&part.digest).unwrap();
    assert!(blob.pieces().is_empty());
    assert!(matches!(blob.read_bytes(0..10), Err(StoreError::Missing { .. })));
    part.check(&blob);
    assert!(!blob.unchecked().lacks_any_of(&held), "everything that was written is looked at");
    // A piece that comes anew need not be checked.
    part.put(&blob, [3]);
    let mut chain = part.chain_of_claims(&blob);
    let outcome = blob.recheck(&mut chain, 2).unwrap();
    assert_eq!(outcome.verified.held(), held.held() - 1);
    assert_eq!(blob.pieces(), held);
    assert!(blob.unchecked().is_empty());
    assert_eq!(chain.closed().held(), held.held() - 1);
    part.check(&blob);
    assert_eq!(blob.recheck(&mut chain, 2).unwrap().verified.held(), 0);
    part.put_all(&blob);
}

#[test]
fn unchecked_pieces_stay_unchecked_over_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, _, part) = filled(&config);
    let held = store.blob(&part.digest).unwrap().pieces();
    drop(store);
    let store = Store::open(&config).unwrap();
    part.put(&store.blob(&part.digest).unwrap(), [0]);
    store.close().unwrap();
    drop(store);
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&part.digest).unwrap();
    assert_eq!(blob.pieces(), part.set([0]));
    blob.recheck(&mut part.chain_of_claims(&blob), 1).unwrap();
    assert_eq!(blob.pieces(), held);
}

#[test]
fn flipped_bytes_are_found_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    let held = store.blob(&part.digest).unwrap().pieces();
    drop(store);
    for digest in [&part.digest, &whole.digest] {
        let file = fs::OpenOptions::new().write(true).open(data(dir.path(), digest)).unwrap();
        file.write_all_at(b"x", 4096 * 2 + 7).unwrap();
        file.write_all_at(b"x", 4096 * 9).unwrap();
    }
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&part.digest).unwrap();
    let outcome = blob.recheck(&mut part.chain_of_claims(&blob), 3).unwrap();
    assert_eq!(blob.pieces().held(), held.held() - 2);
    assert!(outcome.dropped.contains(2) && outcome.dropped.contains(9));
    part.check(&blob);
    // A complete blob is checked when it is blamed.
    drop(blob);
    let blob = store.blob(&whole.digest).unwrap();
    blob.doubt(&whole.set(0..whole.layout.count())).unwrap();
    let mut chain = blob.proven().unwrap().unwrap().doubt();
    assert_eq!(blob.recheck(&mut chain, 2).unwrap().dropped, whole.set([2, 9]));
    whole.check(&blob);
    drop((blob, store));
    let store = Store::open(&config).unwrap();
    assert!(!store.blob(&whole.digest).unwrap().is_complete());
}

#[test]
fn pieces_without_a_link_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, _, part) = filled(&config);
    drop(store);
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&part.digest).unwrap();
    let mut chain = shoal_blob::ClaimedChain::new(part.digest, part.layout);
    for number in [0, 5] {
        let link = part.pieces[number as usize].link();
        chain.claim(number, &[link.from, link.to]).unwrap();
    }
    blob.recheck(&mut chain, 2).unwrap();
    assert_eq!(blob.pieces(), part.set([0, 5]));
}

#[test]
fn a_lost_or_broken_index_is_rebuilt_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    let held = store.blob(&part.digest).unwrap().pieces();
    store.close().unwrap();
    drop(store);
    let index = dir.path().join("store/index");
    let breakages: [&dyn Fn(); 4] = [
        &|| fs::remove_dir_all(&index).unwrap(),
        &|| fs::write(index.join("db"), vec![0xa5; 100_000]).unwrap(),
        &|| fs::write(index.join("conf"), b"a configuration that is no configuration").unwrap(),
        &|| {
            fs::remove_dir_all(&index).unwrap();
            fs::write(&index, b"not even a folder").unwrap();
        },
    ];
    for (number, breakage) in breakages.iter().enumerate() {
        breakage();
        let store = Store::open(&config).unwrap();
        let blob = store.blob(&whole.digest).unwrap();
        assert!(blob.is_complete(), "breakage {number}");
        whole.check(&blob);
        assert_eq!(blob.proven().unwrap(), Some(whole.proven()));
        let blob = store.blob(&part.digest).unwrap();
        assert!(blob.pieces().is_empty(), "breakage {number}: nothing says that this was checked");
        blob.recheck(&mut part.chain_of_claims(&blob), 2).unwrap();
        assert_eq!(blob.pieces(), held, "breakage {number}");
        assert_eq!(store.usage().reserved, 160_000);
        drop(blob);
        store.close().unwrap();
    }
}

#[test]
fn a_torn_sidecar_costs_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    drop(store);
    for digest in [&whole.digest, &part.digest] {
        let file = fs::OpenOptions::new().write(true).open(sidecar(dir.path(), digest)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    }
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&part.digest).unwrap();
    assert_eq!(blob.claims().unwrap().len(), 13 - 1);
    blob.recheck(&mut part.chain_of_claims(&blob), 2).unwrap();
    part.check(&blob);
    assert!(blob.pieces().held() >= 12);
    let blob = store.blob(&whole.digest).unwrap();
    assert!(!blob.is_complete(), "without its proof it is as good as its claims");
    blob.recheck(&mut whole.chain_of_claims(&blob), 2).unwrap();
    blob.complete(&whole.proven()).unwrap();
}

#[test]
fn a_damaged_proof_is_noticed_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, _) = filled(&config);
    store.close().unwrap();
    drop(store);
    let path = sidecar(dir.path(), &whole.digest);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&whole.digest).unwrap();
    assert!(blob.is_complete());
    assert_eq!(blob.proven().unwrap(), None);
    assert!(!blob.is_complete() && blob.pieces().is_empty());
    blob.recheck(&mut whole.chain(), 2).unwrap();
    blob.complete(&whole.proven()).unwrap();
    assert_eq!(blob.proven().unwrap(), Some(whole.proven()));
}

#[test]
fn a_lost_sidecar_costs_the_claims_and_lost_data_costs_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, part) = filled(&config);
    store.close().unwrap();
    drop(store);
    fs::remove_file(sidecar(dir.path(), &part.digest)).unwrap();
    fs::remove_file(data(dir.path(), &whole.digest)).unwrap();
    let store = Store::open(&config).unwrap();
    assert!(store.blob(&whole.digest).is_none());
    assert!(!sidecar(dir.path(), &whole.digest).exists());
    let blob = store.blob(&part.digest).unwrap();
    assert_eq!(blob.pieces().held(), 13);
    assert!(blob.claims().unwrap().is_empty());
    part.put_all(&blob);
}

#[test]
fn a_file_that_was_cut_short_is_not_complete() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, whole, _) = filled(&config);
    store.close().unwrap();
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(data(dir.path(), &whole.digest)).unwrap();
    file.set_len(50_000).unwrap();
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&whole.digest).unwrap();
    assert!(!blob.is_complete());
    blob.recheck(&mut blob.proven().unwrap().unwrap().doubt(), 2).unwrap();
    assert_eq!(blob.pieces(), whole.set(0..50_000 / 4096));
    whole.check(&blob);
}

#[test]
fn a_second_opener_is_refused_while_anything_of_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let (store, _, part) = filled(&config);
    let error = Store::open(&config).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    let blob = store.blob(&part.digest).unwrap();
    drop(store);
    assert!(matches!(Store::open(&config), Err(StoreError::Locked { .. })));
    drop(blob);
    Store::open(&config).unwrap();
}
