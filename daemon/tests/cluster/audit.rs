//! The audit log of real daemons: who read what, when, and where it came from.

use std::{fs, path::Path};

use http::{Method, header};
use serde_json::Value;

use crate::support::{self, MIB, REGISTRY, REPOSITORY, TAG, ask, blob_url, eventually, pull, url};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn wait_for(path: &Path, count: usize) -> Vec<Value> {
    eventually("the lines are written", async || Some(lines(path)).filter(|lines| lines.len() >= count)).await
}

fn from(line: &Value) -> [u64; 3] {
    ["store", "peers", "origin"].map(|source| line["from"][source].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_is_a_line_that_says_who_read_what_and_where_it_came_from() {
    let _machine = support::half_machine().await;
    let model = support::model(12 * MIB, 420);
    let layer = model.layer();
    let (digest, length) = (layer.digest().to_string(), layer.len());
    let origin = support::origin(&model).await;
    let folder = tempfile::tempdir().unwrap();
    let logs = [0, 1].map(|node| folder.path().join(format!("audit-{node}")));
    let builder = (0..2).fold(support::daemons(2, &origin), |builder, node| {
        builder.flag_of(node, "audit-log", &logs[node].to_string_lossy())
    });
    let cluster = support::ready(builder).await;

    pull(&blob_url(&cluster, 0, &layer.digest()), layer).await;
    let line = &wait_for(&logs[0], 1).await[0];
    assert_eq!(from(line), [0, 0, length], "{line}");
    for (key, value) in [
        ("method", "GET"),
        ("kind", "blob"),
        ("registry", REGISTRY),
        ("repository", REPOSITORY),
        ("reference", &*digest),
        ("digest", &*digest),
        ("verdict", "served"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &length.into()));
    assert!(line["caller"].as_str().unwrap().starts_with("127.0.0.1:") && line["took_ms"].is_u64(), "{line}");
    let time = humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!(time.elapsed().unwrap() < support::LIMIT);

    // Peers gave it to the other node, and then it had it.
    for _ in 0..2 {
        pull(&blob_url(&cluster, 1, &layer.digest()), layer).await;
    }
    let seen = wait_for(&logs[1], 2).await;
    assert_eq!((from(&seen[0]), from(&seen[1])), ([0, length, 0], [length, 0, 0]), "{seen:?}");

    // Manifests, by tag and then by the digest that it led to.
    let manifest = model.manifest_digest().to_string();
    ask(Method::HEAD, &url(&cluster, 0, REPOSITORY, &format!("manifests/{TAG}")), &[]).await;
    for _ in 0..2 {
        ask(Method::GET, &url(&cluster, 0, REPOSITORY, &format!("manifests/{manifest}")), &[]).await;
    }
    ask(Method::GET, &blob_url(&cluster, 0, &layer.digest()), &[(header::RANGE, "bytes=5-14")]).await;
    ask(Method::GET, &url(&cluster, 0, "not/there", "manifests/v1"), &[]).await;
    let seen = wait_for(&logs[0], 6).await;
    let bytes = model.manifest().len() as u64;
    assert_eq!(
        (&seen[1]["reference"], &seen[1]["digest"], &seen[1]["bytes"]),
        (&TAG.into(), &manifest.clone().into(), &0.into())
    );
    assert_eq!((from(&seen[2]), from(&seen[3])), ([0, 0, bytes], [bytes, 0, 0]));
    assert_eq!(
        (&seen[4]["range"], &seen[4]["status"], from(&seen[4])),
        (&"bytes=5-14".into(), &206.into(), [10, 0, 0])
    );
    assert_eq!(
        (&seen[5]["verdict"], &seen[5]["code"], &seen[5]["status"]),
        (&"refused".into(), &"MANIFEST_UNKNOWN".into(), &404.into())
    );

    // Moved away by a rotation: what follows goes into a new file after SIGHUP.
    let moved = folder.path().join("audit-0.1");
    fs::rename(&logs[0], &moved).unwrap();
    cluster.reload(0).unwrap();
    eventually("the file is opened anew", async || logs[0].exists().then_some(())).await;
    let applied = async || cluster.metric(0, r#"shoal_reloads_total{outcome="applied"}"#).await.unwrap();
    eventually("the settings are in force", async || (applied().await == 1.0).then_some(())).await;
    ask(Method::HEAD, &blob_url(&cluster, 0, &layer.digest()), &[]).await;
    let after = wait_for(&logs[0], 1).await;
    assert_eq!((after.len(), &after[0]["method"], lines(&moved).len()), (1, &"HEAD".into(), 6));
    assert_eq!(cluster.metric(0, "shoal_audit_lines_total").await.unwrap(), 7.0);
    assert_eq!(cluster.metric(0, "shoal_audit_lost_total").await.unwrap(), 0.0);

    // What was told before the end is written before the end.
    let before = lines(&logs[1]).len();
    ask(Method::HEAD, &blob_url(&cluster, 1, &layer.digest()), &[]).await;
    cluster.shutdown().await.unwrap();
    assert_eq!(lines(&logs[1]).len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_is_an_error_at_the_start_and_changes_nothing_later() {
    let _machine = support::half_machine().await;
    let model = support::model(MIB, 421);
    let origin = support::origin(&model).await;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("logs");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("audit");
    let cluster = support::ready(support::daemons(1, &origin).flag("audit-log", &path.to_string_lossy())).await;
    fs::remove_dir_all(&inner).unwrap();
    cluster.reload(0).unwrap();
    let refused = async || cluster.metric(0, r#"shoal_reloads_total{outcome="refused"}"#).await.unwrap();
    eventually("the reload is refused", async || (refused().await == 1.0).then_some(())).await;
    pull(&blob_url(&cluster, 0, &model.layer().digest()), model.layer()).await;
    assert!(support::log(&cluster, 0).contains("`audit_log`"));
    cluster.shutdown().await.unwrap();

    let builder = support::daemons(1, &origin).flag("audit-log", &path.to_string_lossy());
    let cluster = builder.start().await.unwrap();
    let failed = cluster.wait_ready(0).await.unwrap_err();
    assert!(format!("{failed:#}{}", support::log(&cluster, 0)).contains("`audit_log`"), "{failed:#}");
}
