//! A store that is full, and a disk that is.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use http::Method;
use shoal::{cluster::Cluster, fetch};
use shoal_registry::{Artifact, Registry};

use crate::support::{
    self, Copy, MIB, SEED_LOSS, ask, blob_files, blob_url, eventually, log, pull, pull_resuming, soon,
};

/// An origin with layers of these sizes.
async fn layers(sizes: &[u64]) -> (Registry, Vec<shoal_registry::Blob>) {
    let blobs: Vec<_> = (80..).zip(sizes).map(|(seed, size)| support::model(*size, seed).layer().clone()).collect();
    let artifact = Artifact::new(support::REPOSITORY, "application/vnd.oci.image.manifest.v1+json", "{}");
    let artifact = blobs.iter().fold(artifact, |artifact, blob| artifact.blob(blob.clone()));
    (support::origin(&artifact).await, blobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_beyond_the_capacity_is_refused_and_others_make_room_for_each_other() {
    let _machine = support::half_machine().await;
    let (origin, layers) = layers(&[64 * MIB, 16 * MIB, 16 * MIB, 16 * MIB]).await;
    let cluster = support::ready(support::daemons(1, &origin).flag("capacity", "40MiB")).await;
    let too_large = layers[0].digest();
    let reply = ask(Method::GET, &blob_url(&cluster, 0, &too_large), &[]).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "UNAVAILABLE"));
    assert_eq!(origin.counts().blob(&too_large).bytes_sent, 0);
    eventually("the log names the layer", async || log(&cluster, 0).contains(&too_large.to_string()).then_some(()))
        .await;
    assert!(blob_files(&cluster.data_dir(0)).is_empty());

    for layer in &layers[1..] {
        pull(&blob_url(&cluster, 0, &layer.digest()), layer).await;
        let used = cluster.metric(0, "shoal_store_used_bytes").await.unwrap();
        assert!(used <= 40.0 * MIB as f64, "{used} bytes of 40 MiB are used");
    }
    assert_eq!(cluster.metric(0, "shoal_store_evictions_total").await.unwrap(), 1.0);
    // The least recently used has gone, the others are still here.
    for layer in [&layers[3], &layers[2]] {
        pull(&blob_url(&cluster, 0, &layer.digest()), layer).await;
        assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    }
    pull(&blob_url(&cluster, 0, &layers[1].digest()), &layers[1]).await;
    assert_eq!(origin.counts().blob(&layers[1].digest()).bytes_sent, 2 * layers[1].len());
    cluster.shutdown().await.unwrap();
}

/// A file system of a few megabytes, where this process may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: u64) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        for chunk in [vec![1; 1 << 20], vec![1; 4096]] {
            while file.write_all(&chunk).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// A daemon on a small disk; `None`, said in a word, where none can be mounted.
async fn daemon_on(origin: &Registry, folder: &Path, size: u64) -> Option<(SmallDisk, Cluster)> {
    let data = folder.join("data");
    let Some(disk) = SmallDisk::mount(&data, size) else {
        println!("skipped: no tmpfs can be mounted here");
        return None;
    };
    let cluster = support::daemons(1, origin).dir(folder).flag_of(0, "data-dir", &data.to_string_lossy());
    Some((disk, support::ready(cluster).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_small_refuses_what_does_not_fit() {
    let _machine = support::half_machine().await;
    let (origin, layers) = layers(&[64 * MIB, 4 * MIB]).await;
    let folder = tempfile::tempdir().unwrap();
    let Some((_disk, cluster)) = daemon_on(&origin, folder.path(), 32 * MIB).await else { return };
    let mut answer = fetch::get(&blob_url(&cluster, 0, &layers[0].digest()), None).await.unwrap();
    // What was found out before the first byte has a status, what was found out later ends short.
    if answer.status.is_success() {
        let mut copy = Copy::compared(&layers[0]);
        assert!(copy.read(&mut answer).await.is_err(), "a body ended as if it were whole");
    } else {
        assert_eq!(answer.status, 503);
    }
    let digest = layers[0].digest().to_string();
    eventually("the log names the layer", async || log(&cluster, 0).contains(&digest).then_some(())).await;
    pull_resuming(blob_url(&cluster, 0, &layers[1].digest()), layers[1].clone()).await.unwrap();
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_mid_pull_harms_no_blob() {
    let _machine = support::half_machine().await;
    let (origin, layers) = layers(&[64 * MIB, 4 * MIB, MIB]).await;
    let folder = tempfile::tempdir().unwrap();
    let Some((disk, cluster)) = daemon_on(&origin, folder.path(), 160 * MIB).await else { return };
    let [layer, before, after] = &layers[..] else { panic!("three layers") };
    pull(&blob_url(&cluster, 0, &before.digest()), before).await;
    origin.hold_at(&layer.digest(), 16 * MIB);
    let mut answer = fetch::get(&blob_url(&cluster, 0, &layer.digest()), None).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut copy = Copy::compared(layer);
    copy.push(&soon("the first bytes", answer.next()).await.unwrap().unwrap());
    soon("the origin holds", origin.until(|counts| counts.blob(&layer.digest()).bytes_sent == 16 * MIB)).await;

    let filler = disk.fill();
    origin.release(&layer.digest());
    assert!(copy.read(&mut answer).await.is_err(), "a body ended as if it were whole");
    let digest = layer.digest().to_string();
    eventually("the log names the layer", async || {
        log(&cluster, 0).lines().any(|line| line.contains("ERROR") && line.contains(&digest)).then_some(())
    })
    .await;
    assert!(fetch::text(&format!("{}/healthz", cluster.admin_url(0))).await.is_ok());
    // What is here is served as before.
    pull(&blob_url(&cluster, 0, &before.digest()), before).await;

    fs::remove_file(filler).unwrap();
    pull_resuming(blob_url(&cluster, 0, &after.digest()), after.clone()).await.unwrap();
    pull_resuming(blob_url(&cluster, 0, &layer.digest()), layer.clone()).await.unwrap();
    let sent = origin.counts().blob(&layer.digest()).bytes_sent;
    assert!(sent <= layer.len() + SEED_LOSS, "{} MiB were sent twice", (sent - layer.len()) / MIB);
    cluster.shutdown().await.unwrap();
}
