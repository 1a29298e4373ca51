//! Losses of power in the middle of anything, with any part of what was not synced lost.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use shoal_faulty_disk::Chance;
use shoal_store::{Store, StoreError};

use crate::{
    faulty_disk::FaultyDisk,
    sample::{Sample, config},
};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u32),
    PutAll(usize),
    SyncAhead(usize),
    Complete(usize),
    Doubt(usize, u32),
    Recheck(usize),
    ReplaceClaims(usize),
    Discard(usize),
    Flush,
    /// Syncs fail from here on, or no longer.
    SyncsFail(bool),
    /// The process ends, in order or not, and the store is opened again: what is in the system's memory stays.
    Reopen {
        clean: bool,
    },
    /// The power is lost, and of what was not synced so many in a hundred parts stay.
    LosePower {
        seed: u64,
        kept: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (blob, piece) = (0usize..3, 0u32..12);
    prop_oneof![
        5 => (blob.clone(), piece.clone()).prop_map(|(blob, piece)| Step::Put(blob, piece)),
        3 => blob.clone().prop_map(Step::PutAll),
        3 => blob.clone().prop_map(Step::SyncAhead),
        4 => blob.clone().prop_map(Step::Complete),
        1 => (blob.clone(), piece).prop_map(|(blob, piece)| Step::Doubt(blob, piece)),
        2 => blob.clone().prop_map(Step::Recheck),
        1 => blob.clone().prop_map(Step::ReplaceClaims),
        1 => blob.prop_map(Step::Discard),
        1 => Just(Step::Flush),
        2 => prop::bool::weighted(0.3).prop_map(Step::SyncsFail),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        4 => (any::<u64>(), prop_oneof![Just(0), Just(50), Just(90), Just(100)])
            .prop_map(|(seed, kept)| Step::LosePower { seed, kept }),
    ]
}

/// What has to be there after a loss of power.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// In the file for sure, and right: checking finds them.
    synced: BTreeSet<u32>,
    complete: bool,
}

struct World {
    dir: tempfile::TempDir,
    disk: FaultyDisk,
    samples: [Sample; 3],
    promised: [Promised; 3],
    store: Option<Store>,
}

impl World {
    fn new() -> Self {
        let samples = [(1, 3000), (2, 5500), (3, 6144)].map(|(seed, length)| Sample::new(seed, length, 512));
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { dir, disk: FaultyDisk::new(), samples, promised: Default::default(), store: None };
        world.open();
        world
    }

    fn open(&mut self) {
        let config = config(self.dir.path(), 1 << 20);
        self.store = Some(Store::open_on(Arc::new(self.disk.clone()), &config).expect("the store opens"));
    }

    fn step(&mut self, step: &Step) {
        let store = self.store.clone().unwrap();
        match *step {
            Step::Put(number, piece) => {
                let sample = &self.samples[number];
                if piece < sample.layout.count()
                    && let Ok(blob) = store.admit(&sample.digest, sample.layout)
                {
                    sample.put(&blob, [piece]);
                }
            }
            Step::PutAll(number) => {
                (0..self.samples[number].layout.count()).for_each(|piece| self.step(&Step::Put(number, piece)));
            }
            Step::SyncAhead(number) => {
                if let Some(blob) = store.blob(&self.samples[number].digest) {
                    // Only what is there before is promised.
                    let there = blob.pieces();
                    if blob.sync_ahead().is_ok() {
                        self.promised[number].synced.extend(there.iter());
                    }
                }
            }
            Step::Complete(number) => {
                let sample = &self.samples[number];
                if let Some(blob) = store.blob(&sample.digest)
                    && blob.complete(&sample.proven()).is_ok()
                {
                    let synced = (0..sample.layout.count()).collect();
                    self.promised[number] = Promised { synced, complete: true };
                }
            }
            Step::Doubt(number, piece) => {
                if let Some(blob) = store.blob(&self.samples[number].digest) {
                    let had = blob.pieces().contains(piece);
                    // When it fails, whether it is complete after a loss of power is open: either is right.
                    let _ = blob.doubt(&self.samples[number].set([piece]));
                    self.promised[number].complete &= !had;
                }
            }
            Step::Recheck(number) => {
                if let Some(blob) = store.blob(&self.samples[number].digest) {
                    let _ = blob.recheck(&mut self.samples[number].chain(), 1);
                }
            }
            Step::ReplaceClaims(number) => {
                if let Some(blob) = store.blob(&self.samples[number].digest) {
                    let claims = blob.claims().unwrap();
                    let _ = blob.replace_claims(&claims);
                }
            }
            Step::Discard(number) => {
                store.discard(&self.samples[number].digest).unwrap();
                self.promised[number] = Promised::default();
            }
            Step::Flush => drop(store.flush()),
            Step::SyncsFail(true) => self.disk.fail_syncs(),
            Step::SyncsFail(false) => self.disk.heal(),
            Step::Reopen { clean } => {
                if clean {
                    drop(store.close());
                }
                drop(store);
                self.disk.heal();
                self.store = None;
                self.open();
                self.check_promises();
            }
            Step::LosePower { seed, kept } => {
                drop(store);
                self.store = None;
                let mut chance = Chance::new(seed);
                self.disk.lose_power_but(|| chance.percent(kept));
                self.disk.heal();
                self.open();
                self.check_promises();
            }
        }
    }

    /// What was proven is complete still; what was synced is found when it is checked.
    fn check_promises(&self) {
        let store = self.store.as_ref().unwrap();
        for (sample, promised) in self.samples.iter().zip(&self.promised) {
            let blob = store.blob(&sample.digest);
            if promised.complete {
                assert!(blob.as_ref().is_some_and(|blob| blob.is_complete()), "a blob that was complete is not");
            }
            let Some(blob) = blob else {
                assert!(promised.synced.is_empty(), "a blob of which pieces were synced is gone");
                continue;
            };
            sample.check(&blob);
            blob.recheck(&mut sample.chain(), 1).unwrap();
            let lost: Vec<_> = promised.synced.iter().filter(|&&piece| !blob.pieces().contains(piece)).collect();
            assert!(lost.is_empty(), "pieces that were synced are lost: {lost:?}");
        }
    }

    /// No wrong byte, whatever is said to be here.
    fn check(&self) {
        let store = self.store.as_ref().unwrap();
        for sample in &self.samples {
            if let Some(blob) = store.blob(&sample.digest) {
                sample.check(&blob);
            }
        }
    }

    /// All is well in the end: what was harmed can be pulled again.
    fn finish(mut self) {
        self.disk.heal();
        for (sample, promised) in self.samples.iter().zip(&mut self.promised) {
            let blob = self.store.as_ref().unwrap().admit(&sample.digest, sample.layout).unwrap();
            sample.put(&blob, 0..sample.layout.count());
            match blob.complete(&sample.proven()) {
                Ok(()) => promised.complete = true,
                Err(StoreError::Incomplete { .. }) => panic!("all pieces were put"),
                Err(other) => panic!("{other}"),
            }
        }
        self.step(&Step::LosePower { seed: 0, kept: 0 });
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 1000, ..ProptestConfig::default() })]
    #[test]
    fn any_part_of_what_was_not_synced_may_be_lost(steps in proptest::collection::vec(step(), 1..50)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.finish();
    }
}
