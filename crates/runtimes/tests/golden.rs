//! What is written for each kind of configuration that people have, and what is said of it.
//!
//! A case is one file in `cases/`: what is done, the files before, and then the files and what is said after it.
//! `SHOAL_BLESS=1` writes the latter anew. Each case is undone too, and has to be as it was before.

// Every one of these is a test.
#![allow(clippy::unwrap_used)]

mod house;

use std::{fmt::Write, fs, path::Path};

use house::{House, Tree};
use shoal_runtimes::{Report, Version};

/// Between what is given and what comes of it.
const AFTER: &str = "==== after ====\n";

struct Case<'a> {
    install: Vec<&'a str>,
    set_config_path: bool,
    versions: Vec<Option<Version>>,
    given: Tree,
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Self {
        let (head, files) = text.split_once("\n-- ").map_or((text, None), |(head, files)| (head, Some(files)));
        let mut case = Self { install: Vec::new(), set_config_path: false, versions: vec![None], given: Tree::new() };
        for line in head.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            match key {
                "install" => case.install = value.split_whitespace().collect(),
                "set-config-path" => case.set_config_path = true,
                "versions" => {
                    let version = |word: &str| (word != "unknown").then(|| word.parse().unwrap());
                    case.versions = value.split_whitespace().map(version).collect();
                }
                other => panic!("{other:?} is not a directive"),
            }
        }
        for file in files.into_iter().flat_map(|files| files.split("\n-- ")) {
            let (name, text) = file.split_once(" --").unwrap();
            let text = text.strip_prefix('\n').unwrap_or_default();
            let text = if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
            case.given.insert(name.into(), text);
        }
        case
    }
}

fn run(kind: &str, check: impl Fn(&House, &Case<'_>) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(kind);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty());
    let mut wrong = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let (given, expected) = text.split_once(AFTER).unwrap_or((&text, ""));
        let case = Case::read(given.trim_end_matches('\n'));
        let house = House::new(&case.given);
        let said = check(&house, &case);
        if std::env::var_os("SHOAL_BLESS").is_some() {
            fs::write(&path, format!("{}\n\n{AFTER}{said}", given.trim_end_matches('\n'))).unwrap();
        } else if said != expected {
            wrong.push(format!(
                "{}\n{}",
                path.display(),
                similar::TextDiff::from_lines(expected, &said).unified_diff()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn tree_after(house: &House, given: &Tree) -> String {
    let mut said = String::new();
    for (name, text) in house.tree() {
        if given.get(&name) != Some(&text) {
            write!(said, "-- {name} --\n{text}").unwrap();
            if !text.is_empty() && !text.ends_with('\n') {
                said.push_str("<no line end>\n");
            }
        }
    }
    said
}

fn report(house: &House, version: Option<Version>, report: &Report) -> String {
    let version = version.map_or_else(|| "an unknown version".to_owned(), |version| version.to_string());
    let verdict = if report.in_use() { "in use" } else { "not in use" };
    format!("== status with {version}: {verdict}\n{}", house.shown(&report.to_string()))
}

#[test]
fn containerd() {
    run("containerd", |house, case| {
        let before = house.snapshot();
        let mut said = String::new();
        let containerd = house.containerd(case.versions[0]);
        match containerd.install(&house::registries(&case.install), &house::mirror(), case.set_config_path) {
            Ok(plan) => {
                plan.apply().unwrap();
                said += &tree_after(house, &case.given);
            }
            Err(error) => {
                writeln!(said, "error: {}", house.shown(&error.to_string())).unwrap();
                assert_eq!(house.snapshot(), before);
            }
        }
        for version in &case.versions {
            let status = house.containerd(*version).status(&[], &house::mirror()).unwrap();
            said += &report(house, *version, &status);
        }
        containerd.uninstall(&[]).unwrap().apply().unwrap();
        assert_eq!(house.snapshot(), before);
        said
    });
}

#[test]
fn crio() {
    run("crio", |house, case| {
        let before = house.snapshot();
        let mut said = String::new();
        match house.crio().install(&house::registries(&case.install), &house::mirror()) {
            Ok(plan) => {
                plan.apply().unwrap();
                said += &tree_after(house, &case.given);
            }
            Err(error) => {
                writeln!(said, "error: {}", house.shown(&error.to_string())).unwrap();
                assert_eq!(house.snapshot(), before);
            }
        }
        said += &report(house, None, &house.crio().status(&[], &house::mirror()).unwrap());
        house.crio().uninstall(&[]).unwrap().apply().unwrap();
        assert_eq!(house.snapshot(), before);
        said
    });
}
