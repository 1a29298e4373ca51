//! The life of a daemon as its supervisor sees it: start, ready, reload, drain, end.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    process::{Command, Stdio},
    time::Duration,
};

use shoal::{cluster::Cluster, fetch};
use tokio::time::{Instant, sleep, timeout};

/// How long something may take that should take no time; a bound for failures only.
const SOON: Duration = Duration::from_secs(30);

fn one() -> shoal::cluster::Builder {
    Cluster::builder(env!("CARGO_BIN_EXE_shoal")).registry("127.0.0.1:9=http://127.0.0.1:9")
}

async fn until(mut met: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !met().await {
        assert!(Instant::now() < deadline, "the condition was not met in {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn starts_becomes_ready_and_ends_with_zero_on_sigterm() {
    let mut cluster = one().start().await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    for path in ["healthz", "readyz"] {
        assert!(fetch::text(&format!("{}/{path}", cluster.admin_url(0))).await.is_ok());
    }
    assert!(fetch::text(&format!("{}/v2/", cluster.mirror_url(0))).await.is_ok());
    assert!(cluster.peak_rss(0).unwrap() < 256 << 20);
    assert_eq!(cluster.metric(0, "shoal_bytes_total{from=\"origin\",to=\"node\"}").await.unwrap(), 0.0);

    assert!(cluster.terminate(0).await.unwrap().success());
    let log = fs::read_to_string(cluster.log(0)).unwrap();
    assert!(log.contains("draining") && log.contains("ended"), "{log}");
    assert!(cluster.pid(0).is_none());
}

#[tokio::test]
async fn comes_back_on_the_same_ports_after_sigkill() {
    let mut cluster = one().start().await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    let first = cluster.pid(0);
    cluster.kill(0).await.unwrap();
    assert!(fetch::text(&format!("{}/healthz", cluster.admin_url(0))).await.is_err());
    assert!(cluster.kill(0).await.is_err());
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    assert_ne!(cluster.pid(0), first);
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn sighup_reads_the_settings_again_and_keeps_the_old_where_they_are_wrong() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("shoal.toml");
    fs::write(&file, "zone = \"a\"\n").unwrap();
    let mut cluster = one().flag("config", file.to_str().unwrap()).start().await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    let count = async |outcome: &str| {
        cluster.metric(0, &format!("shoal_reloads_total{{outcome=\"{outcome}\"}}")).await.unwrap()
    };

    fs::write(&file, "zone = \"b\"\nin_flight = \"64MiB\"\n").unwrap();
    cluster.reload(0).unwrap();
    until(async || count("applied").await == 1.0).await;
    fs::write(&file, "zoen = \"b\"\n").unwrap();
    cluster.reload(0).unwrap();
    until(async || count("refused").await == 1.0).await;

    let log = fs::read_to_string(cluster.log(0)).unwrap();
    let waiting = log.lines().find(|line| line.contains("wait for a restart")).unwrap();
    assert!(waiting.contains("zone") && !waiting.contains("in_flight"), "{waiting}");
    assert!(log.contains("zoen"), "{log}");
    assert!(cluster.terminate(0).await.unwrap().success());
}

#[tokio::test]
async fn logs_are_json_where_that_is_asked_for() {
    let mut cluster = one().alone().flag("log-format", "json").start().await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    assert!(cluster.terminate(0).await.unwrap().success());
    let log = fs::read_to_string(cluster.log(0)).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("ALONE")));
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["mirror-listen", "admin-listen", "peer-listen"] {
        let cluster = one().flag_of(0, setting, &address).start().await.unwrap();
        until(async || fs::read_to_string(cluster.log(0)).is_ok_and(|log| log.contains(&setting.replace('-', "_"))))
            .await;
        let log = fs::read_to_string(cluster.log(0)).unwrap();
        assert!(log.contains(&address), "{log}");
    }
}

/// A daemon whose starter dies without a word must not stay behind.
#[tokio::test]
async fn ends_when_its_starter_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["daemon", "--until-stdin-closes", "--mirror-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
        .args(["--peer-listen=127.0.0.1:0", "--registry=r.io", "--min-free=0", "--data-dir"])
        .arg(dir.path().join("data"))
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let status = timeout(SOON, child.wait()).await.expect("it ends soon").unwrap();
    assert!(status.success(), "{status}");
}

/// What the system shows of a process to others of its user, it owns itself where the process is closed to them.
#[test]
fn nobody_looks_into_its_memory() {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let user = if is_root { NOBODY } else { rustix::process::geteuid().as_raw() };
    // Where the program lies others may not be let in.
    let program = dir.path().join("shoal");
    fs::copy(env!("CARGO_BIN_EXE_shoal"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["daemon", "--until-stdin-closes", "--mirror-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
        .args(["--peer-listen=127.0.0.1:0", "--registry=r.io", "--min-free=0", "--data-dir"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    if is_root {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("listening")), "it did not start: {:?}", child.wait());
    let of = |what: &str| fs::metadata(format!("/proc/{}/{what}", child.id())).unwrap().uid();
    assert_eq!(of(""), user, "it runs as that user");
    for what in ["environ", "mem", "maps", "auxv"] {
        assert_eq!(of(what), 0, "/proc/PID/{what} is open to the user that it runs as");
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}
