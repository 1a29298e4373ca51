//! The data file, lent.

use std::{os::unix::fs::FileExt, sync::Arc};

use shoal_store::Store;

use crate::{
    faulty_disk::FaultyDisk,
    sample::{Sample, config},
};

#[test]
fn a_lent_file_has_the_bytes_where_the_blob_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(3, 300_000, 1024);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    sample.put(&blob, 10..20);
    let lent = blob.lend().unwrap().unwrap();
    lent.bring_into_memory(10_241..20_479).unwrap();
    let mut out = vec![0; 10_238];
    lent.file().read_exact_at(&mut out, 10_241).unwrap();
    assert_eq!(out, sample.data[10_241..20_479]);
}

#[test]
fn only_what_is_readable_now_may_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(4, 10_000, 1024);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    let lent = blob.lend().unwrap().unwrap();
    assert!(!lent.may_read(0..1));
    sample.put_all(&blob);
    assert!(lent.may_read(0..10_000));
    assert!(!lent.may_read(0..10_001), "that is beyond the blob's end");
    blob.doubt(&sample.set([3])).unwrap();
    assert!(lent.may_read(0..3 * 1024) && lent.may_read(4 * 1024..10_000));
    assert!(!lent.may_read(4095..4097) && !lent.may_read(0..10_000));
}

#[test]
fn a_blob_stays_while_its_file_is_lent() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 10_000)).unwrap();
    let (first, second) = (Sample::new(5, 10_000, 1024), Sample::new(6, 10_000, 1024));
    let lent = {
        let blob = store.admit(&first.digest, first.layout).unwrap();
        first.put_all(&blob);
        blob.lend().unwrap().unwrap()
    };
    assert!(store.admit(&second.digest, second.layout).is_err());
    assert!(lent.may_read(0..10_000));
    drop(lent);
    store.admit(&second.digest, second.layout).unwrap();
    assert!(store.blob(&first.digest).is_none());
}

#[test]
fn a_disk_without_descriptors_lends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_on(Arc::new(FaultyDisk::new()), &config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(7, 10_000, 1024);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    assert!(blob.lend().unwrap().is_none());
}
