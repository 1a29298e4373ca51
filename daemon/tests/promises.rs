//! The page of promises names only what there is.
// Every one of these is a test.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

/// A row of the page: what is promised, what shows it, and what that came to.
struct Row<'a> {
    promise: &'a str,
    proofs: Vec<&'a str>,
    figure: &'a str,
}

/// All rows of all tables, without their heads.
fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [promise, proofs, figure] = cells[..] else { panic!("a row has three columns: {line}") };
        Row { promise, proofs: proofs.split('`').skip(1).step_by(2).collect(), figure }
    });
    rows.filter(|row| row.promise != "promise").collect()
}

/// Whether a file of Rust has a test of that name, which nothing keeps from being run.
fn has_test(code: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut is_test = false;
    for line in code.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_test = false;
        } else if line.contains("fn ") {
            if is_test && line.contains(&head) {
                return true;
            }
            is_test = false;
        }
    }
    false
}

/// What is wrong with a proof, if anything is: it has to be a test, or a measurement that the bench has.
fn fault(root: &Path, proof: &str) -> Option<String> {
    if let Some((file, test)) = proof.split_once("::") {
        return match fs::read_to_string(root.join(file)) {
            Err(error) => Some(format!("{file}: {error}")),
            Ok(code) => (!has_test(&code, test)).then(|| format!("{file} has no test {test}")),
        };
    }
    let measurement =
        proof.strip_prefix("cargo run --release -p shoal-bench -- ").and_then(|rest| rest.split(' ').next());
    let bench = fs::read_to_string(root.join("bench/src/main.rs")).unwrap();
    match measurement {
        None => Some(format!("neither `file::test` nor a command of shoal-bench: {proof}")),
        Some(name) => {
            let variant = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
            (!bench.contains(&format!("Command::{variant}("))).then(|| format!("shoal-bench has no command {name}"))
        }
    }
}

#[test]
fn every_promise_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 30, "only {} promises were found", rows.len());
    let mut faults = Vec::new();
    for row in &rows {
        if row.proofs.is_empty() {
            faults.push("nothing shows it".to_owned());
        }
        if row.figure.is_empty() {
            faults.push("it came to nothing".to_owned());
        }
        faults.extend(row.proofs.iter().filter_map(|proof| fault(&root, proof)));
        assert!(faults.is_empty(), "docs/promises.md: {:?}: {}", row.promise, faults.join("; "));
    }
}

#[test]
fn what_is_no_test_is_none() {
    let code = "#[test]\nfn here() {}\n#[tokio::test(flavor = \"x\")]\nasync fn there() {}\n#[test]\n#[ignore]\nfn off() {}\nfn helper() {}\n";
    assert!(has_test(code, "here") && has_test(code, "there"));
    for name in ["off", "helper", "her", "nowhere"] {
        assert!(!has_test(code, name), "{name}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wrong = [
        "daemon/tests/none.rs::x",
        "daemon/tests/promises.rs::x",
        "sleep 1",
        "cargo run --release -p shoal-bench -- x",
    ];
    for proof in wrong {
        assert!(fault(&root, proof).is_some(), "{proof}");
    }
}
