//! `shoal demo` as a newcomer runs it.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use shoal_registry::{Artifact, Registry};
use tokio::process::Command;

const MIB: u64 = 1 << 20;

async fn demo(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(["demo", "--dir"]).arg(dir).args(args).output().await.unwrap()
}

/// The one JSON object on standard output.
fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_once_on_every_node(report: &Value, nodes: usize, bytes: u64) {
    assert_eq!(report["blob"]["bytes"], bytes);
    assert_eq!(report["origin"]["blob_bytes_sent"], bytes, "{report}");
    assert_eq!(report["nodes"].as_array().unwrap().len(), nodes);
    for node in report["nodes"].as_array().unwrap() {
        assert_eq!(node["verified"], true, "{report}");
        let from = |source: &str| node[source].as_u64().unwrap();
        assert!(from("bytes_from_origin") + from("bytes_from_peers") >= bytes, "{report}");
    }
}

#[tokio::test]
async fn prints_one_object_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path(), &["--nodes", "2", "--size", "12MiB", "--json"]).await;
    let report = object(&output);
    assert_once_on_every_node(&report, 2, 12 * MIB);
    assert_eq!(report["origin"]["blob_heads"], 1, "{report}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn keeps_the_folder_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path(), &["--nodes", "1", "--size", "1MiB", "--keep"]).await;
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    assert!(out.contains("node-0") && out.contains("1.00 x the layer"), "{out}");
    let kept = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    assert!(err.contains(kept.to_str().unwrap()), "{err}");
    assert_eq!(fs::metadata(kept.join("client-0/layer")).unwrap().len(), MIB);
    assert!(kept.join("node-0.log").is_file());
}

#[tokio::test]
async fn pulls_from_a_registry_that_runs_already() {
    let artifact = Artifact::synthetic("models/other", "v7", 9 * MIB, 3);
    let layer = artifact.layer().digest();
    let registry = Registry::builder().artifact(artifact).listen("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let args = ["--nodes", "3", "--json", "--registry", &registry.url(), "--image", "models/other:v7"];
    let report = object(&demo(dir.path(), &args).await);
    assert_once_on_every_node(&report, 3, 9 * MIB);
    assert_eq!(registry.counts().blob(&layer).bytes_sent, 9 * MIB);
    assert_eq!(report["blob"]["digest"], layer.to_string());
}

#[tokio::test]
async fn says_what_is_wrong_before_it_starts_anything() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["--size", "0"][..], "--size"),
        (&["--size", "900TiB", "--nodes", "64"], "free"),
        (&["--registry", "ftp://r.io", "--image", "a:b"], "--registry"),
        (&["--registry", "http://127.0.0.1:9", "--image", "A"], "--image"),
    ] {
        let output = demo(dir.path(), args).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
        assert!(output.stdout.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
