//! One cold pull in parts against one by a plain reader, each through a daemon of its own that is alone, over a link of 1 Gbit/s.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::Context;
use futures::future::try_join_all;
use shoal_registry::{Faults, Registry};
use tokio::task::spawn_blocking;

use super::{
    Setting, client,
    cold::LINK,
    comparison::{Comparison, Goal, Unit},
    cost::figures,
};

const MOST_TIME: f64 = 1.1;
/// containerd's `concurrent_layer_fetch_buffer`, and how many parts it fetches at a time.
const CONTAINERD: (u64, u64) = (8 << 20, 8);
/// Into how many parts Ollama cuts a layer; it asks for all at once.
const OLLAMA: u64 = 16;

/// How a client reads.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// All of it, in one go.
    Plain,
    /// Parts in order, eight at a time: each is asked for without an end, read and left.
    Containerd,
    /// Sixteen ranges at once.
    Ollama,
}

pub(super) async fn measure(setting: &Setting<'_>) -> anyhow::Result<Vec<Comparison>> {
    let origin = setting.layer.origin(Faults::none().rate(LINK)).await?;
    let (mut plain, mut containerd, mut ollama) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        for (manner, times) in
            [(Manner::Plain, &mut plain), (Manner::Containerd, &mut containerd), (Manner::Ollama, &mut ollama)]
        {
            times.push(cold(setting, &origin, manner).await?);
        }
    }
    let line =
        |what, ours: &[f64]| figures(what, ours, "one reader, cold", &plain, Unit::Seconds, Goal::AtMost(MOST_TIME));
    Ok(vec![line("cold, containerd's parts", &containerd), line("cold, Ollama's ranges", &ollama)])
}

async fn cold(setting: &Setting<'_>, origin: &Registry, manner: Manner) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(setting.folder)?;
    let cluster = setting.lone_daemon(folder.path(), origin).await?;
    let (server, path, bytes) = (cluster.mirror_addr(0), setting.layer.path(origin), setting.layer.bytes());
    let begun = Instant::now();
    let read = read(server, path, bytes, manner).await;
    let took = begun.elapsed().as_secs_f64();
    read.with_context(|| format!("{manner:?}; the end of the daemon's log:\n{}", cluster.log_tail(0)))?;
    cluster.shutdown().await?;
    Ok(took)
}

async fn read(server: SocketAddr, path: String, bytes: u64, manner: Manner) -> anyhow::Result<()> {
    let (part, at_once) = match manner {
        Manner::Plain => return spawn_blocking(move || client::get(server, &path, None, bytes)).await?,
        Manner::Containerd => CONTAINERD,
        Manner::Ollama => (bytes.div_ceil(OLLAMA), OLLAMA),
    };
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..at_once).map(|_| {
        let (next, path) = (next.clone(), path.clone());
        spawn_blocking(move || {
            loop {
                let from = next.fetch_add(1, Relaxed) * part;
                if from >= bytes {
                    return Ok(());
                }
                let length = part.min(bytes - from);
                match manner {
                    Manner::Ollama => {
                        let range = format!("bytes={from}-{}", from + length - 1);
                        client::get(server, &path, Some(&range), length)?;
                    }
                    _ => client::get_and_leave(server, &path, from, length)?,
                }
            }
        })
    });
    let ended: Vec<anyhow::Result<()>> = try_join_all(workers).await?;
    ended.into_iter().collect()
}
