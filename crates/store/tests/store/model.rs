//! Any sequence of calls, against a model that knows only what must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use shoal_blob::Digest;
use shoal_store::{Departure, InUse, Store, StoreError};

use crate::sample::{Sample, config};

const CAPACITY: u64 = 10_000;

#[derive(Clone, Debug)]
enum Step {
    Admit(usize),
    Put(usize, u32),
    PutAll(usize),
    Forget(usize, u32),
    Doubt(usize, u32),
    Recheck(usize),
    Complete(usize),
    Hold(usize),
    Release(usize),
    Pin(usize, bool),
    Remove(usize),
    Discard(usize),
    Flush,
    Reopen { clean: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let (blob, piece) = (0usize..6, 0u32..12);
    prop_oneof![
        4 => blob.clone().prop_map(Step::Admit),
        6 => (blob.clone(), piece.clone()).prop_map(|(blob, piece)| Step::Put(blob, piece)),
        3 => blob.clone().prop_map(Step::PutAll),
        1 => (blob.clone(), piece.clone()).prop_map(|(blob, piece)| Step::Forget(blob, piece)),
        1 => (blob.clone(), piece).prop_map(|(blob, piece)| Step::Doubt(blob, piece)),
        2 => blob.clone().prop_map(Step::Recheck),
        3 => blob.clone().prop_map(Step::Complete),
        2 => blob.clone().prop_map(Step::Hold),
        2 => blob.clone().prop_map(Step::Release),
        1 => (blob.clone(), any::<bool>()).prop_map(|(blob, pinned)| Step::Pin(blob, pinned)),
        1 => blob.clone().prop_map(Step::Remove),
        1 => blob.prop_map(Step::Discard),
        1 => Just(Step::Flush),
        2 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

/// What the model knows of a blob that is in the store.
#[derive(Clone, Debug, Default)]
struct Known {
    readable: BTreeSet<u32>,
    unchecked: BTreeSet<u32>,
    complete: bool,
    pinned: bool,
}

struct World {
    dir: tempfile::TempDir,
    samples: Vec<Sample>,
    store: Option<Store>,
    known: BTreeMap<usize, Known>,
    holds: BTreeMap<usize, Vec<InUse>>,
    departed: Arc<Mutex<Vec<(Digest, Departure)>>>,
}

impl World {
    fn new() -> Self {
        let lengths = [0, 1000, 2000, 3000, 4500, 6000];
        let samples = lengths.iter().enumerate().map(|(n, &length)| Sample::new(n as u8 * 16, length, 512)).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            dir,
            samples,
            store: None,
            known: BTreeMap::new(),
            holds: BTreeMap::new(),
            departed: Arc::default(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let store = Store::open(&config(self.dir.path(), CAPACITY)).unwrap();
        let departed = self.departed.clone();
        store.on_departure(move |digest, why| departed.lock().unwrap().push((*digest, why)));
        self.store = Some(store);
    }

    fn held(&self, blob: usize) -> bool {
        self.holds.get(&blob).is_some_and(|holds| !holds.is_empty())
    }

    fn step(&mut self, step: &Step) {
        let store = self.store.clone().unwrap();
        let here = |blob: usize| store.blob(&self.samples[blob].digest);
        match *step {
            Step::Admit(number) => {
                let sample = &self.samples[number];
                let admitted = store.admit(&sample.digest, sample.layout);
                let was = self.known.contains_key(&number);
                self.take_departed(None);
                match admitted {
                    Ok(_) => drop(self.known.entry(number).or_default()),
                    Err(StoreError::Full(_)) => assert!(!was && !self.could_have_gone(number)),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Put(number, piece) => {
                let sample = &self.samples[number];
                if let (Some(blob), true) = (here(number), piece < sample.layout.count()) {
                    sample.put(&blob, [piece]);
                    let known = self.known.get_mut(&number).unwrap();
                    known.unchecked.remove(&piece);
                    known.readable.insert(piece);
                }
            }
            Step::PutAll(number) => {
                for piece in 0..self.samples[number].layout.count() {
                    self.step(&Step::Put(number, piece));
                }
            }
            Step::Forget(number, piece) | Step::Doubt(number, piece) => {
                if let Some(blob) = here(number) {
                    let set = self.samples[number].set([piece]);
                    let known = self.known.get_mut(&number).unwrap();
                    let was = known.readable.remove(&piece);
                    known.complete &= !was;
                    if matches!(step, Step::Doubt(..)) {
                        blob.doubt(&set).unwrap();
                        known.unchecked.extend(was.then_some(piece));
                    } else {
                        blob.forget(&set).unwrap();
                        known.unchecked.remove(&piece);
                    }
                }
            }
            Step::Recheck(number) => {
                if let Some(blob) = here(number) {
                    blob.recheck(&mut self.samples[number].chain(), 2).unwrap();
                    let known = self.known.get_mut(&number).unwrap();
                    // Pieces that were forgotten lie in the file still and may be found after an unclean stop.
                    known.readable.append(&mut known.unchecked);
                    assert!(blob.unchecked().is_empty());
                }
            }
            Step::Complete(number) => {
                if let Some(blob) = here(number) {
                    let sample = &self.samples[number];
                    let outcome = blob.complete(&sample.proven());
                    let known = self.known.get_mut(&number).unwrap();
                    let whole = known.readable.len() == sample.layout.count() as usize;
                    assert_eq!(outcome.is_ok(), whole, "{outcome:?}");
                    known.complete |= whole;
                }
            }
            Step::Hold(number) => {
                if let Some(hold) = store.hold(&self.samples[number].digest) {
                    self.holds.entry(number).or_default().push(hold);
                }
            }
            Step::Release(number) => drop(self.holds.get_mut(&number).and_then(Vec::pop)),
            Step::Pin(number, pinned) => {
                if let Some(blob) = here(number) {
                    blob.pin(pinned).unwrap();
                    self.known.get_mut(&number).unwrap().pinned = pinned;
                }
            }
            Step::Remove(number) => {
                match store.remove(&self.samples[number].digest) {
                    Ok(was) => assert_eq!(was, self.known.contains_key(&number)),
                    Err(StoreError::Held { .. }) => assert!(self.held(number)),
                    Err(other) => panic!("{other}"),
                }
                self.take_departed(Some(number));
            }
            Step::Discard(number) => {
                store.discard(&self.samples[number].digest).unwrap();
                self.holds.remove(&number);
                self.take_departed(Some(number));
            }
            Step::Flush => store.flush().unwrap(),
            Step::Reopen { clean } => {
                self.holds.clear();
                if clean {
                    store.close().unwrap();
                }
                drop(store);
                self.store = None;
                self.open();
                if !clean {
                    self.after_unclean_stop();
                }
            }
        }
    }

    /// A blob for which there was no room: would evicting all that may go have made some?
    fn could_have_gone(&self, number: usize) -> bool {
        let stays = |&(&other, known): &(&usize, &Known)| self.held(other) || known.pinned;
        let staying: u64 = self.known.iter().filter(stays).map(|(&n, _)| self.samples[n].layout.length()).sum();
        staying + self.samples[number].layout.length() <= CAPACITY
    }

    fn take_departed(&mut self, asked: Option<usize>) {
        for (digest, why) in self.departed.lock().unwrap().drain(..) {
            let number = self.samples.iter().position(|sample| sample.digest == digest).unwrap();
            let known = self.known.remove(&number).expect("what departs was here");
            let held = self.holds.get(&number).is_some_and(|holds| !holds.is_empty());
            assert!(!held, "blob {number} was held");
            assert_eq!(asked.is_some(), why != Departure::Evicted);
            assert!(asked.map_or(!known.pinned, |asked| asked == number));
        }
    }

    /// Complete blobs are as they were; of the others at least what was there is looked at, and nothing is believed.
    fn after_unclean_stop(&mut self) {
        let store = self.store.clone().unwrap();
        for (&number, known) in &mut self.known {
            let blob = store.blob(&self.samples[number].digest).expect("a blob outlives its process");
            assert_eq!(blob.is_complete(), known.complete);
            if known.complete {
                continue;
            }
            let had: BTreeSet<u32> = known.readable.union(&known.unchecked).copied().collect();
            let candidates = blob.unchecked();
            assert!(blob.pieces().is_empty());
            assert!(had.iter().all(|&piece| candidates.contains(piece)), "{had:?} not in {candidates:?}");
            // What else lies in the file is right or is not: checking says which, and the model takes its word.
            let sample = &self.samples[number];
            blob.recheck(&mut sample.chain(), 1).unwrap();
            known.readable = blob.pieces().iter().collect();
            known.unchecked.clear();
            assert!(had.is_subset(&known.readable));
        }
    }

    fn check(&self) {
        let store = self.store.as_ref().unwrap();
        let usage = store.usage();
        let lengths = self.known.keys().map(|&number| self.samples[number].layout.length());
        assert_eq!(usage.reserved, lengths.sum::<u64>());
        assert!(usage.reserved <= CAPACITY);
        assert!(usage.stored <= usage.reserved);
        assert_eq!(usage.blobs as usize, self.known.len());
        for (&number, known) in &self.known {
            let sample = &self.samples[number];
            let blob = store.blob(&sample.digest).unwrap();
            assert_eq!(blob.pieces().iter().collect::<BTreeSet<_>>(), known.readable);
            assert_eq!(blob.unchecked().iter().collect::<BTreeSet<_>>(), known.unchecked);
            assert_eq!(blob.is_complete(), known.complete);
            sample.check(&blob);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn holds_what_it_promises(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
