//! The whole store, index and all, on a mounted file system that is ill.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use shoal_faulty_disk::{Chance, FaultyDisk};
use shoal_store::{Blob, Store, StoreError};

use crate::sample::{Sample, config};

const CAPACITY: u64 = 200_000;

/// An empty disk, where one can be mounted. Says why not.
fn disk() -> Option<(FaultyDisk, tempfile::TempDir)> {
    if let Some(why) = FaultyDisk::missing() {
        let required = std::env::var_os("SHOAL_REQUIRE_REAL").is_some_and(|value| value == "1");
        assert!(!required, "SHOAL_REQUIRE_REAL=1, and {why}");
        // Not `eprintln!`, whose output is kept from view where a test passes.
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        writeln!(std::io::stderr(), "SKIPPED: {test}: {why}").ok();
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::mount(dir.path()).expect("the disk is mounted");
    Some((disk, dir))
}

fn samples() -> Vec<Sample> {
    [1_000, 9_000, 33_000, 50_000, 64_000, 90_000]
        .into_iter()
        .zip(1..)
        .map(|(length, n)| Sample::new(n, length, 4096))
        .collect()
}

/// Which blobs are whole.
type Promised = BTreeSet<usize>;

/// Whatever a daemon does, until something fails. What was promised by then is in `promised`.
fn work(dir: &Path, chance: &mut Chance, promised: &mut Promised) -> Result<(), StoreError> {
    let samples = samples();
    let store = Store::open(&config(dir, CAPACITY))?;
    let there = |promised: &mut Promised| {
        promised.retain(|&number| store.blob(&samples[number].digest).is_some());
    };
    there(promised);
    for _ in 0..12 {
        let number = chance.below(6) as usize;
        let sample = &samples[number];
        let admitted = store.admit(&sample.digest, sample.layout);
        there(promised);
        let blob = admitted?;
        match chance.below(8) {
            0 => {
                drop(blob);
                promised.remove(&number);
                store.remove(&sample.digest)?;
            }
            1 => {
                promised.remove(&number);
                blob.doubt(&sample.set([0]))?;
            }
            2 => drop(blob.recheck(&mut sample.chain(), 1)?),
            3 => store.flush()?,
            _ => {
                for piece in &sample.pieces {
                    blob.append_claim(b"some claim")?;
                    blob.put(piece)?;
                }
                blob.complete(&sample.proven())?;
                promised.insert(number);
            }
        }
    }
    if chance.percent(50) { store.close() } else { Ok(()) }
}

/// What can be read is right; whether all of it can be is open.
fn check_readable(sample: &Sample, blob: &Blob) {
    for index in sample.layout.pieces() {
        let range = sample.layout.byte_range(index);
        if let Ok(bytes) = blob.read_bytes(range.clone()) {
            assert_eq!(bytes, sample.data[range.start as usize..range.end as usize], "piece {index} is wrong");
        }
    }
}

/// What a healthy disk has: every promise, and nothing wrong.
fn check(dir: &Path, promised: &Promised, case: &str) {
    let samples = samples();
    // With room for what a loss of power has brought back.
    let store = Store::open(&config(dir, 10 * CAPACITY)).unwrap_or_else(|error| panic!("{case}: {error}"));
    for (number, sample) in samples.iter().enumerate() {
        let Some(blob) = store.blob(&sample.digest) else {
            assert!(!promised.contains(&number), "{case}: blob {number}, which was whole, is gone");
            continue;
        };
        assert!(blob.is_complete() || !promised.contains(&number), "{case}: blob {number} is no longer whole");
        sample.check(&blob);
        blob.recheck(&mut sample.chain(), 1).unwrap();
        sample.check(&blob);
    }
}

#[test]
fn the_power_may_be_cut_at_any_moment() {
    let Some((mut disk, dir)) = disk() else { return };
    let dir: PathBuf = dir.path().to_owned();
    let mut promised = Promised::new();
    let mut cuts = 0;
    for seed in 0..150 {
        let mut chance = Chance::new(seed);
        disk.faults().cut_power_after(1 + chance.below(500));
        cuts += u32::from(work(&dir, &mut chance, &mut promised).is_err());
        let kept = [0, 50, 90, 100][chance.below(4) as usize];
        disk.lose_power(|| chance.percent(kept)).unwrap();
        check(&dir, &promised, &format!("seed {seed}, {kept} % kept"));
    }
    println!("{cuts} cuts of power in the middle of something, 150 losses in all: nothing that was whole was lost");
    assert!(cuts > 30, "{cuts}");
}

#[test]
fn errors_now_and_then_cost_no_blob_and_no_byte() {
    let Some((disk, dir)) = disk() else { return };
    let mut promised = Promised::new();
    let (mut errors, samples) = (0, samples());
    for seed in 0..40 {
        let mut chance = Chance::new(seed);
        disk.faults().fail([5, 20, 100][chance.below(3) as usize], seed);
        for _ in 0..3 {
            errors += u32::from(work(dir.path(), &mut chance, &mut promised).is_err());
            if let Ok(store) = Store::open(&config(dir.path(), CAPACITY)) {
                promised.retain(|&number| store.blob(&samples[number].digest).is_some());
                for (sample, blob) in samples.iter().filter_map(|sample| Some((sample, store.blob(&sample.digest)?))) {
                    check_readable(sample, &blob);
                }
            }
        }
        disk.faults().heal();
        check(dir.path(), &promised, &format!("seed {seed}"));
    }
    println!("{errors} of 120 lives ended with EIO: nothing that was whole was lost");
    assert!(errors > 20, "{errors}");
}

#[test]
fn a_disk_that_is_full_harms_nothing_and_is_used_again_when_there_is_room() {
    let Some((disk, dir)) = disk() else { return };
    let mut promised = Promised::new();
    let mut chance = Chance::new(1);
    for round in 0..25u64 {
        // More than what is there already, and less than what comes.
        disk.faults().set_capacity(700_000 + chance.below(300_000));
        let outcome = work(dir.path(), &mut chance, &mut promised);
        disk.faults().heal();
        check(dir.path(), &promised, &format!("round {round}, {outcome:?}"));
    }
}

#[test]
fn a_slow_disk_is_waited_for_and_holds_up_nobody_who_needs_no_disk() {
    let Some((disk, dir)) = disk() else { return };
    let sample = Sample::new(1, 50_000, 4096);
    let store = Store::open(&config(dir.path(), CAPACITY)).unwrap();
    let blob = store.admit(&sample.digest, sample.layout).unwrap();
    disk.faults().set_delay(Duration::from_millis(5));
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| sample.put_all(&blob));
        let (mut looks, before) = (0, disk.faults().changes());
        while !writer.is_finished() {
            let _ = (blob.pieces(), store.list(), blob.holding());
            looks += 1;
        }
        let changes = disk.faults().changes() - before;
        assert!(
            changes > 20 && looks > 10 * changes,
            "{looks} looks in the time of {changes} changes: they wait for the disk"
        );
    });
    assert!(blob.is_complete());
    sample.check(&blob);
}
