//! Disks that fill up, fail, or lose their power.

use std::sync::Arc;

use shoal_store::{Store, StoreError};

use crate::{
    faulty_disk::{EIO, ENOSPC, FaultyDisk},
    sample::{Sample, config},
};

#[test]
fn a_sync_that_fails_on_the_way_leaves_nothing_to_trust() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), &config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(9, 60_000, 4096);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    sample.put(&blob, 0..5);
    blob.sync_ahead().unwrap();
    assert_eq!(blob.pieces().held(), 5);
    sample.put(&blob, 5..8);
    disk.fail_syncs();
    assert!(matches!(blob.sync_ahead(), Err(StoreError::Io { .. })));
    assert_eq!((blob.pieces().held(), blob.unchecked().held()), (0, 8));
    disk.heal();
    // What was synced before is there still; of the rest memory alone had it, and that was not asked.
    let outcome = blob.recheck(&mut sample.chain(), 1).unwrap();
    assert_eq!((outcome.verified, outcome.dropped), (sample.set(0..5), sample.set(5..8)));
    sample.put(&blob, 5..sample.layout.count());
    blob.complete(&sample.proven()).unwrap();
}

#[test]
fn a_sync_is_due_once_for_each_32_mib() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 30)).unwrap();
    let sample = Sample::new(9, 65 << 20, 1 << 20);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    let due = (0..65).filter(|&piece| {
        sample.put(&blob, [piece]);
        blob.is_sync_due()
    });
    assert_eq!(due.collect::<Vec<_>>(), [31, 63]);
}

#[test]
fn a_full_disk_costs_the_piece_and_nothing_else() {
    for error in [ENOSPC, EIO] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        let store = Store::open_on(Arc::new(disk.clone()), &config(dir.path(), 1 << 20)).unwrap();
        let sample = Sample::new(1, 60_000, 4096);
        let blob = store.admit(&sample.digest, sample.layout).unwrap();
        sample.put(&blob, 0..5);
        disk.fail_after(0, error);
        match blob.put(&sample.pieces[7]).unwrap_err() {
            StoreError::Io { operation, path, source } => {
                assert_eq!(source.raw_os_error(), Some(error));
                assert!(operation.contains("write") && path.ends_with(sample.digest.hex()), "{operation} {path:?}");
            }
            other => panic!("{other}"),
        }
        assert!(blob.append_claim(b"a claim of some length").is_err());
        assert_eq!(blob.pieces().held(), 5);
        sample.check(&blob);
        disk.heal();
        sample.put(&blob, 5..15);
        sample.check(&blob);
        blob.complete(&sample.proven()).unwrap();
        assert_eq!(blob.claims().unwrap().len(), 15, "what was written of the failed claim is gone");
    }
}

#[test]
fn every_write_of_a_pull_may_fail() {
    let sample = Sample::new(1, 20_000, 4096);
    let pull = |store: &Store| -> Result<(), StoreError> {
        let blob = store.admit(&sample.digest, sample.layout)?;
        for piece in &sample.pieces {
            blob.append_claim(b"some claim")?;
            blob.put(piece)?;
        }
        blob.complete(&sample.proven())
    };
    for writes in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        let config = config(dir.path(), 1 << 20);
        let store = Store::open_on(Arc::new(disk.clone()), &config).unwrap();
        disk.fail_after(writes, ENOSPC);
        let outcome = pull(&store);
        disk.heal();
        if outcome.is_ok() {
            assert!(writes > 10, "a pull has a write for each piece and claim, and two more");
            break;
        }
        assert!(matches!(outcome, Err(StoreError::Io { .. })));
        if let Some(blob) = store.blob(&sample.digest) {
            assert!(!blob.is_complete());
            sample.check(&blob);
        } else {
            assert_eq!(store.usage().reserved, 0, "a blob that could not be made has nothing of the capacity");
        }
        pull(&store).unwrap();
        drop(store);
        let store = Store::open(&config).unwrap();
        let blob = store.blob(&sample.digest).unwrap();
        assert!(blob.is_complete());
        sample.check(&blob);
    }
}

#[test]
fn a_failed_sync_makes_everything_doubtful() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), &config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(1, 20_000, 4096);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    sample.put(&blob, 0..5);
    disk.fail_syncs();
    assert!(blob.complete(&sample.proven()).is_err());
    assert!(!blob.is_complete() && blob.pieces().is_empty());
    assert!(store.close().is_err());
    disk.heal();
    store.close().unwrap();
    drop((blob, store));
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    let blob = store.blob(&sample.digest).unwrap();
    assert_eq!(blob.unchecked().held(), 5);
    blob.recheck(&mut sample.chain_of_claims(&blob), 2).unwrap();
    blob.complete(&sample.proven()).unwrap();
}

#[test]
fn what_was_complete_survives_a_loss_of_power_and_the_rest_is_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let config = config(dir.path(), 1 << 20);
    let store = Store::open_on(Arc::new(disk.clone()), &config).unwrap();
    let (whole, part) = (Sample::new(1, 70_000, 4096), Sample::new(2, 90_000, 4096));
    whole.put_all(&store.admit(&whole.digest, whole.layout).unwrap());
    let blob = store.admit(&part.digest, part.layout).unwrap();
    part.put(&blob, 0..10);
    store.flush().unwrap();
    part.put(&blob, 10..15);
    drop((blob, store));
    disk.lose_power();
    // The index may say more than the disk has: it was not part of the loss.
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&whole.digest).unwrap();
    assert!(blob.is_complete());
    whole.check(&blob);
    let blob = store.blob(&part.digest).unwrap();
    assert_eq!(blob.claims().unwrap().len(), 10, "claims are synced before what needs them is indexed");
    assert!(blob.pieces().is_empty());
    let outcome = blob.recheck(&mut part.chain_of_claims(&blob), 2).unwrap();
    assert_eq!(outcome.verified.held(), 0, "no data was synced");
    part.put_all(&blob);
    part.check(&blob);
}

#[test]
fn a_clean_stop_survives_a_loss_of_power_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let config = config(dir.path(), 1 << 20);
    let store = Store::open_on(Arc::new(disk.clone()), &config).unwrap();
    let part = Sample::new(2, 90_000, 4096);
    part.put(&store.admit(&part.digest, part.layout).unwrap(), 3..12);
    store.close().unwrap();
    drop(store);
    disk.lose_power();
    let store = Store::open(&config).unwrap();
    let blob = store.blob(&part.digest).unwrap();
    assert_eq!(blob.pieces(), part.set(3..12));
    assert_eq!(blob.claims().unwrap().len(), 9);
    part.check(&blob);
}
