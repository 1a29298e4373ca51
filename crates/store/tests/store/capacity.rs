//! What goes when there is no room, and what does not.

use std::sync::{Arc, Mutex};

use shoal_store::{Departure, Store, StoreError};

use crate::{
    faulty_disk::FaultyDisk,
    sample::{Sample, config},
};

fn four() -> [Sample; 4] {
    std::array::from_fn(|n| Sample::new(16 * n as u8 + 16, 1000, 128))
}

#[test]
fn the_least_recently_used_goes_and_is_announced_before_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 3000)).unwrap();
    let [a, b, c, d] = four();
    let told = Arc::new(Mutex::new(Vec::new()));
    store.on_departure({
        let told = told.clone();
        let file = dir.path().join("store/blobs/sha256").join(&b.digest.hex()[..2]).join(b.digest.hex());
        move |digest, why| told.lock().unwrap().push((*digest, why, file.exists()))
    });
    for sample in [&a, &b, &c] {
        sample.put(&store.admit(&sample.digest, sample.layout).unwrap(), 0..3);
    }
    store.blob(&a.digest).unwrap().touch();
    store.admit(&d.digest, d.layout).unwrap();
    assert_eq!(*told.lock().unwrap(), [(b.digest, Departure::Evicted, true)]);
    assert!(store.blob(&b.digest).is_none());
    assert_eq!(store.usage().reserved, 3000);
    assert_eq!(store.blob(&a.digest).unwrap().pieces().held(), 3, "others keep what they had");
    assert_eq!(std::fs::read_dir(dir.path().join("store/blobs/sha256").join(&b.digest.hex()[..2])).unwrap().count(), 0);
}

#[test]
fn the_held_and_the_pinned_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 3000);
    let store = Store::open(&config).unwrap();
    let [a, b, c, d] = four();
    let reader = store.admit(&a.digest, a.layout).unwrap();
    store.admit(&b.digest, b.layout).unwrap().pin(true).unwrap();
    store.admit(&c.digest, c.layout).unwrap();
    let too_much = Sample::new(77, 1500, 128);
    match store.admit(&too_much.digest, too_much.layout).unwrap_err() {
        StoreError::Full(full) => {
            assert_eq!((full.needed, full.reserved, full.held, full.pinned), (1500, 3000, 1000, 1000));
        }
        other => panic!("{other}"),
    }
    assert!(store.blob(&c.digest).is_some(), "nothing goes in vain");
    store.admit(&d.digest, d.layout).unwrap();
    assert!(store.blob(&c.digest).is_none());
    let second = reader.clone();
    drop(reader);
    assert!(matches!(store.remove(&a.digest), Err(StoreError::Held { .. })));
    drop(second);
    assert!(store.remove(&a.digest).unwrap());
    assert!(!store.remove(&a.digest).unwrap());
    store.close().unwrap();
    drop(store);

    // A pin outlives the process; a capacity that was made smaller is kept.
    let store = Store::open(&shoal_store::StoreConfig { capacity: 1000, ..config }).unwrap();
    assert_eq!(store.list().iter().map(|one| (one.digest, one.pinned)).collect::<Vec<_>>(), [(b.digest, true)]);
}

#[test]
fn a_discarded_blob_is_gone_even_for_those_who_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 3000)).unwrap();
    let [a, ..] = four();
    let held = store.admit(&a.digest, a.layout).unwrap();
    a.put(&held, 0..4);
    assert!(store.discard(&a.digest).unwrap());
    assert!(matches!(held.put(&a.pieces[5]), Err(StoreError::Gone { .. })));
    assert!(matches!(held.append_claim(b"x"), Err(StoreError::Gone { .. })));
    assert!(held.read_bytes(0..10).is_err());
    assert!(matches!(held.blob().hold(), Err(StoreError::Gone { .. })));
    assert_eq!(store.usage().reserved, 0);
    let again = store.admit(&a.digest, a.layout).unwrap();
    assert!(again.pieces().is_empty() && again.claims().unwrap().is_empty());
    a.put_all(&again);
    drop(held);
    assert!(
        matches!(store.remove(&a.digest), Err(StoreError::Held { .. })),
        "the old one's guard is not the new one's"
    );
    a.check(&again);
}

#[test]
fn the_disk_keeps_its_free_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let config = shoal_store::StoreConfig { min_free: 500, ..config(dir.path(), 1 << 20) };
    let store = Store::open_on(Arc::new(disk.clone()), &config).unwrap();
    let [a, b, c, _] = four();
    disk.set_free(2600);
    let first = store.admit(&a.digest, a.layout).unwrap();
    a.put(&first, 0..4);
    disk.set_free(2600 - 512);
    let second = store.admit(&b.digest, b.layout).unwrap();
    // 2088 free, of which 488 and 1000 are promised: 600 remain, 500 must.
    for (free, fits) in [(2088, false), (2987, false), (2988, true)] {
        disk.set_free(free);
        let third = store.admit(&c.digest, c.layout);
        assert_eq!(third.is_ok(), fits, "{free} bytes free: {third:?}");
        assert!(fits || matches!(third, Err(StoreError::Full(full)) if full.held == 2000 && full.unwritten == 1488));
    }
    drop((first, second));
    a.check(&store.blob(&a.digest).unwrap());
    assert_eq!(store.usage().blobs, 3);
    store.blob(&b.digest).unwrap().touch();
    store.blob(&c.digest).unwrap().touch();
    disk.set_free(2987);
    store.relieve().unwrap();
    assert!(store.blob(&a.digest).is_none(), "the oldest goes when others fill the disk");
    assert_eq!(store.usage().blobs, 2);
}
