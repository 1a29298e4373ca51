//! What a search once found, replayed: none of it may break anything again.

#![allow(clippy::unwrap_used, reason = "a test that meets the impossible should stop there")]
#![allow(clippy::disallowed_methods, reason = "the crate is pure, its test reads the files")]

use std::path::Path;

use shoal_simulator::explore::{Found, trouble};

#[test]
fn nothing_that_was_found_breaks_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no file", folder.display());
    let mut broken = Vec::new();
    for file in files {
        let found: Found = serde_json::from_slice(&std::fs::read(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Some(what) = trouble(&found.scenario) {
            broken.push(format!("{}: {what}", file.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
