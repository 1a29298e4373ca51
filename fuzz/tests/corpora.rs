//! What was found is fed again, and more that is like it.
// Every one of these is a test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use shoal_fuzz::{ALL, Eater, seeds};

/// How many inputs like those of the corpus are tried of each target.
const LIKE_THEM: u64 = 3000;
/// The longest input.
const LONGEST: usize = 8192;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target)
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// One input like those of the corpus: cut, joined, and changed here and there.
fn like(corpus: &[(PathBuf, Vec<u8>)], rng: &mut StdRng) -> Vec<u8> {
    let pick = |rng: &mut StdRng| corpus[rng.random_range(0..corpus.len())].1.clone();
    let mut bytes = pick(rng);
    if rng.random_bool(0.3) {
        bytes.truncate(rng.random_range(0..=bytes.len()));
        let other = pick(rng);
        bytes.extend(&other[rng.random_range(0..=other.len())..]);
    }
    for _ in 0..rng.random_range(0..8) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 => bytes.insert(at, rng.random()),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            3 if at < bytes.len() => bytes[at] = [0, 1, 127, 128, 255][rng.random_range(0..5)],
            _ => bytes.extend((0..rng.random_range(0..32)).map(|_| rng.random::<u8>())),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Feeds one input; one that makes it panic is shown, in a form that can be kept.
fn feed(target: &str, eat: Eater, bytes: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| eat(bytes));
    if let Err(panic) = outcome {
        let path = std::env::temp_dir().join(format!("shoal-{target}-{}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        eprintln!("{target}: {what} makes it panic; the input is in {}", path.display());
        std::panic::resume_unwind(panic);
    }
}

/// `SHOAL_FUZZ_SECONDS=60` goes on for so long with each target, with chances that are new each time.
fn try_all(only: &str) {
    let long = std::env::var("SHOAL_FUZZ_SECONDS").ok().map(|text| Duration::from_secs(text.parse().unwrap()));
    let (target, eat) = ALL.into_iter().find(|(name, _)| *name == only).unwrap();
    let corpus = corpus(target);
    assert!(corpus.len() >= 4, "the corpus of {target} has only {} inputs", corpus.len());
    for (path, bytes) in &corpus {
        feed(target, eat, bytes, &path.display().to_string());
    }
    let began = Instant::now();
    let mut tried = 0;
    let mut rng = match long {
        Some(_) => rand::make_rng(),
        None => StdRng::seed_from_u64(5),
    };
    while long.map_or(tried < LIKE_THEM, |long| began.elapsed() < long) {
        feed(target, eat, &like(&corpus, &mut rng), "an input like those of the corpus");
        tried += 1;
    }
    println!("{target}: {} inputs of the corpus and {tried} like them", corpus.len());
}

#[test]
fn challenge() {
    try_all("challenge");
}

#[test]
fn codec() {
    try_all("codec");
}

#[test]
fn coordination() {
    try_all("coordination");
}

#[test]
fn manifest() {
    try_all("manifest");
}

#[test]
fn range() {
    try_all("range");
}

#[test]
fn reference() {
    try_all("reference");
}

#[test]
fn settings() {
    try_all("settings");
}

#[test]
fn swarm() {
    try_all("swarm");
}

#[test]
fn each_target_has_a_program_for_the_fuzzer_and_a_test() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut paths: Vec<_> = fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).eq(ALL.map(|(name, _)| name)));
    for (name, _) in ALL {
        assert!(include_str!("corpora.rs").contains(&format!("try_all(\"{name}\");")), "{name} has no test");
    }
}

#[test]
fn the_seeds_are_in_the_corpora() {
    for (target, _) in ALL {
        for (name, bytes) in seeds::of(target) {
            let path = folder(target).join(name);
            if std::env::var_os("SHOAL_BLESS").is_some() {
                fs::create_dir_all(folder(target)).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let there = fs::read(&path).unwrap_or_default();
            assert!(there == bytes, "{}: SHOAL_BLESS=1 cargo test -p shoal-fuzz seeds", path.display());
        }
    }
}
