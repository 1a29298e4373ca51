//! A real process, really killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use shoal_store::Store;

use crate::sample::{Sample, config};

const CHILD: &str = "SHOAL_STORE_TEST_CHILD";
const PUT: u32 = 150;

fn samples() -> (Sample, Sample) {
    (Sample::new(1, 300_000, 4096), Sample::new(2, 4 << 20, 16384))
}

#[test]
fn child_that_will_be_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let (whole, part) = samples();
    let store = Store::open(&config(&dir, 1 << 24)).unwrap();
    whole.put_all(&store.admit(&whole.digest, whole.layout).unwrap());
    let blob = store.admit(&part.digest, part.layout).unwrap();
    for number in 0..PUT {
        part.put(&blob, [number * 37 % part.layout.count()]);
    }
    println!("\nready");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_resumes_with_everything_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_that_will_be_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    assert!(ready, "the child ended by itself: {:?}", child.wait());
    child.kill().unwrap();
    child.wait().unwrap();

    let (whole, part) = samples();
    let store = Store::open(&config(dir.path(), 1 << 24)).unwrap();
    let blob = store.blob(&whole.digest).unwrap();
    assert!(blob.is_complete());
    whole.check(&blob);
    let blob = store.blob(&part.digest).unwrap();
    assert!(blob.pieces().is_empty());
    let outcome = blob.recheck(&mut part.chain_of_claims(&blob), 2).unwrap();
    assert_eq!(outcome.verified.held(), PUT);
    part.check(&blob);
    part.put_all(&blob);
}
