//! A process that writes all the time, killed at 200 moments that nobody chose.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use shoal_blob::Digest;
use shoal_faulty_disk::Chance;
use shoal_store::Store;

use crate::sample::{Sample, config};

const CHILD: &str = "SHOAL_STORE_TEST_WRITER";
const LIVES: u64 = 200;
/// Two thirds of what the samples have together, so that some make room for others.
const CAPACITY: u64 = 200_000;

fn samples() -> Vec<Sample> {
    [0, 9_000, 33_000, 50_000, 64_000, 144_000]
        .into_iter()
        .zip(1..)
        .map(|(length, n)| Sample::new(n, length, 4096))
        .collect()
}

/// A word to the parent: whole at once, so that one that arrives is true.
fn say(word: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n{word}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn open(dir: &Path) -> Store {
    let store = Store::open(&config(dir, CAPACITY)).expect("the store opens");
    store.on_departure(|digest, _| say(&format!("gone {digest}")));
    store
}

/// Does whatever a daemon does with a store, for ever. What was promised is said after it was, what is taken back before.
#[test]
fn writer_that_will_be_killed() {
    let Some(arguments) = std::env::var(CHILD).ok() else { return };
    let (seed, dir) = arguments.split_once(' ').unwrap();
    let (mut chance, dir) = (Chance::new(seed.parse().unwrap()), PathBuf::from(dir));
    let samples = samples();
    let mut store = Some(open(&dir));
    loop {
        let sample = &samples[chance.below(6) as usize];
        let digest = sample.digest;
        say("step");
        if chance.percent(3) {
            let open_still = store.take().unwrap();
            if chance.percent(70) {
                open_still.close().unwrap();
            }
            drop(open_still);
            store = Some(open(&dir));
        }
        let store = store.as_ref().unwrap();
        let Ok(blob) = store.admit(&digest, sample.layout) else { continue };
        match chance.below(20) {
            0 => {
                drop(blob);
                drop(store.remove(&digest));
            }
            1 => drop(store.discard(&digest)),
            2 => {
                say(&format!("gone {digest}"));
                let piece = chance.below(u64::from(sample.layout.count())) as u32;
                blob.doubt(&sample.set([piece])).unwrap();
            }
            3 => store.flush().unwrap(),
            4 => drop(blob.recheck(&mut sample.chain(), 1).unwrap()),
            5 => {
                let claims = blob.claims().unwrap();
                blob.replace_claims(&claims[..claims.len().min(20)]).unwrap();
            }
            6 => blob.pin(false).unwrap(),
            7 => blob.sync_ahead().unwrap(),
            8..14 => {
                for _ in 0..4 {
                    sample.put(&blob, [chance.below(u64::from(sample.layout.count())) as u32]);
                }
            }
            _ => {
                sample.put_all(&blob);
                say(&format!("whole {digest}"));
            }
        }
    }
}

/// Lets a process live until it has begun so many steps, and a little longer. Takes what it said.
fn live(dir: &Path, seed: u64, steps: u64, whole: &mut BTreeSet<Digest>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::writer_that_will_be_killed", "--nocapture"])
        .env(CHILD, format!("{seed} {}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut hear = |line: &str| match line.split_once(' ') {
        Some(("whole", digest)) => drop(whole.insert(digest.parse().unwrap())),
        Some(("gone", digest)) => drop(whole.remove(&digest.parse().unwrap())),
        _ => {}
    };
    let mut begun = 0;
    while begun < steps {
        let line = lines.next().and_then(Result::ok);
        let line = line.unwrap_or_else(|| panic!("seed {seed}: the writer ended by itself: {:?}", child.wait()));
        begun += u64::from(line == "step");
        hear(&line);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(|line| hear(&line));
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples();
    let (mut whole, mut found, mut partial) = (BTreeSet::new(), 0, 0);
    for seed in 0..LIVES {
        let mut chance = Chance::new(seed ^ 0x5eed);
        live(dir.path(), seed, 1 + chance.below(40), &mut whole);
        let store = Store::open(&config(dir.path(), CAPACITY)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for sample in &samples {
            let Some(blob) = store.blob(&sample.digest) else {
                assert!(!whole.contains(&sample.digest), "seed {seed}: a whole blob is gone");
                continue;
            };
            assert!(blob.is_complete() || !whole.contains(&sample.digest), "seed {seed}: a blob is no longer whole");
            sample.check(&blob);
            found += u32::from(blob.is_complete());
            partial += blob.unchecked().held();
            // What was written by a process that died is in the system's memory still: checking finds only right pieces.
            if chance.percent(30) {
                blob.recheck(&mut sample.chain(), 1).unwrap();
                sample.check(&blob);
            }
        }
        assert!(store.usage().reserved <= CAPACITY);
        if chance.percent(30) {
            store.close().unwrap();
        }
    }
    println!("{LIVES} kills: {found} whole blobs and {partial} pieces of others were found, all right");
    assert!(found > 200 && partial > 200, "{found}, {partial}");
}
