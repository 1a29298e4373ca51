//! Pieces in, bytes out.

use shoal_blob::{Algorithm, PieceSet};
use shoal_store::{Store, StoreError};

use crate::sample::{Sample, config};

#[test]
fn gives_back_what_was_put_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    for sample in [Sample::new(1, 10_000, 1024), Sample::of(Algorithm::Sha512, 2, 5000, 512)] {
        let blob = store.admit(&sample.digest, sample.layout).unwrap();
        sample.check(&blob);
        for number in (0..sample.layout.count()).rev() {
            sample.put(&blob, [number]);
            sample.check(&blob);
        }
        assert!(!blob.is_complete());
        blob.complete(&sample.proven()).unwrap();
        assert!(blob.is_complete());
        let mut out = vec![0; 3000];
        blob.read(777, &mut out).unwrap();
        assert_eq!(out, sample.data[777..3777]);
        assert_eq!(blob.proven().unwrap(), Some(sample.proven()));
    }
    let usage = store.usage();
    assert_eq!((usage.reserved, usage.stored, usage.blobs, usage.complete), (15_000, 15_000, 2, 2));
}

#[test]
fn an_empty_blob_is_one_empty_piece() {
    let dir = tempfile::tempdir().unwrap();
    let sample = Sample::new(0, 0, 1024);
    for _ in 0..2 {
        let store = Store::open(&config(dir.path(), 0)).unwrap();
        let blob = store.admit(&sample.digest, sample.layout).unwrap();
        sample.put_all(&blob);
        assert_eq!(blob.read_bytes(0..0).unwrap().len(), 0);
        store.close().unwrap();
    }
    let store = Store::open(&config(dir.path(), 0)).unwrap();
    assert!(store.blob(&sample.digest).unwrap().is_complete());
}

#[test]
fn an_empty_piece_survives_an_unclean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let sample = Sample::new(0, 0, 1024);
    let store = Store::open(&config(dir.path(), 0)).unwrap();
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    blob.put(&sample.pieces[0]).unwrap();
    drop((blob, store));
    let store = Store::open(&config(dir.path(), 0)).unwrap();
    let blob = store.blob(&sample.digest).unwrap();
    assert_eq!(blob.recheck(&mut sample.chain(), 1).unwrap().verified.held(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    let (sample, other) = (Sample::new(1, 3000, 1024), Sample::new(1, 9000, 1024));
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    assert!(matches!(blob.put(&other.pieces[2]), Err(StoreError::Foreign { number: 2, bytes: 1024, .. })));
    assert!(matches!(blob.put(&other.pieces[5]), Err(StoreError::Foreign { number: 5, .. })));
    let wide = Sample::of(Algorithm::Sha512, 1, 3000, 1024);
    assert!(matches!(blob.put(&wide.pieces[0]), Err(StoreError::Foreign { .. })));
    assert!(matches!(blob.complete(&other.proven()), Err(StoreError::OtherChain { .. })));
    assert!(matches!(blob.complete(&sample.proven()), Err(StoreError::Incomplete { missing: 3, .. })));
    assert!(matches!(blob.recheck(&mut other.chain(), 1), Err(StoreError::OtherChain { .. })));
    assert!(matches!(store.admit(&sample.digest, other.layout), Err(StoreError::OtherLayout { .. })));
    sample.put(&blob, 0..3);
    assert!(matches!(blob.read_bytes(2990..3001), Err(StoreError::Range { .. })));
    let backwards = std::ops::Range { start: 20, end: 10 };
    assert!(matches!(blob.read_bytes(backwards), Err(StoreError::Range { .. })));
    assert!(matches!(blob.read(u64::MAX, &mut [0; 2]), Err(StoreError::Range { .. })));
    assert_eq!(blob.read_bytes(3000..3000).unwrap().len(), 0);
}

#[test]
fn what_is_withdrawn_cannot_be_read_and_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let sample = Sample::new(3, 8000, 1024);
    let config = config(dir.path(), 1 << 20);
    let store = Store::open(&config).unwrap();
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    sample.put_all(&blob);
    blob.doubt(&sample.set([1, 2])).unwrap();
    blob.forget(&sample.set([3])).unwrap();
    assert!(!blob.is_complete());
    assert_eq!((blob.pieces().held(), blob.unchecked()), (5, sample.set([1, 2])));
    sample.check(&blob);
    assert_eq!(blob.proven().unwrap(), Some(sample.proven()), "a proven chain stays proven");
    drop((blob, store));

    // The sidecar once said that the blob was complete: an unclean stop must not believe that.
    let store = Store::open(&config).unwrap();
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    assert!(!blob.is_complete() && blob.pieces().is_empty());
    let mut chain = blob.proven().unwrap().unwrap().doubt();
    blob.recheck(&mut chain, 2).unwrap();
    sample.put_all(&blob);
    assert!(blob.is_complete());
    drop((blob, store));
    let store = Store::open(&config).unwrap();
    assert!(store.blob(&sample.digest).unwrap().is_complete());
}

#[test]
fn claims_are_kept_in_order_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 20)).unwrap();
    let sample = Sample::new(1, 3000, 1024);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    blob.append_claim(b"one").unwrap();
    blob.append_claim(b"").unwrap();
    blob.append_claim(b"three").unwrap();
    assert_eq!(blob.claims().unwrap(), ["one", "", "three"]);
    let chunk = vec![7; 100_000];
    let refused = (0..20).find_map(|_| blob.append_claim(&chunk).err()).unwrap();
    assert!(matches!(refused, StoreError::TooManyClaims { .. }), "{refused}");
    blob.replace_claims(&["whole".into()]).unwrap();
    assert_eq!(blob.claims().unwrap(), ["whole"]);
    sample.put_all(&blob);
    blob.replace_claims(&[]).unwrap();
    assert_eq!(blob.proven().unwrap(), Some(sample.proven()));
}

#[test]
fn many_threads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&config(dir.path(), 1 << 24)).unwrap();
    let sample = Sample::new(9, 1 << 20, 4096);
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (blob, sample) = (&blob, &sample);
            scope.spawn(move || {
                for number in 0..sample.layout.count() {
                    sample.put(blob, [(number * 7 + thread * 64) % sample.layout.count()]);
                    if number % 16 == thread {
                        blob.forget(&sample.set([number])).unwrap();
                    }
                }
            });
            scope.spawn(move || (0..8).for_each(|_| sample.check_quietly(blob)));
        }
    });
    sample.put_all(&blob);
    assert_eq!(blob.pieces(), PieceSet::full(sample.layout.count()));
    sample.check(&blob);
}

impl Sample {
    /// Whatever can be read is right, while others write and withdraw.
    fn check_quietly(&self, blob: &shoal_store::Blob) {
        for index in self.layout.pieces() {
            let range = self.layout.byte_range(index);
            if let Ok(bytes) = blob.read_bytes(range.clone()) {
                assert_eq!(bytes, self.data[range.start as usize..range.end as usize]);
            }
        }
    }
}
