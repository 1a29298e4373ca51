//! The mirror serving a layer that it has, against a web server serving a file.

use std::net::SocketAddr;

use shoal_registry::Faults;
use tokio::task::spawn_blocking;

use super::{
    Setting, client,
    comparison::{Comparison, Goal, Unit},
    cost::{Cost, Meter, compare},
};
use crate::web_server::WebServer;

const LEAST_THROUGHPUT: f64 = 0.95;
const MOST_CPU: f64 = 1.1;
/// How often the layer is read in a round from each: processor time is told in hundredths of a second.
const PASSES: u64 = 4;

pub(super) async fn measure(setting: &Setting<'_>) -> anyhow::Result<Vec<Comparison>> {
    let (layer, bytes) = (setting.layer, setting.layer.bytes());
    let origin = layer.origin(Faults::none()).await?;
    let folder = tempfile::tempdir_in(setting.folder)?;
    let cluster = setting.lone_daemon(folder.path(), &origin).await?;
    let server = WebServer::start(layer.file(), folder.path()).await?;
    let mirror = cluster.mirror_addr(0);
    let path = layer.path(&origin);
    // What is pulled now is stored; so are the pages of the file that the web server has.
    read(mirror, &path, bytes, &[]).await?;
    read(server.address(), server.path(), bytes, &[]).await?;
    let pids: Vec<u32> = cluster.pid(0).into_iter().collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        ours.push(read(mirror, &path, bytes, &pids).await?);
        theirs.push(read(server.address(), server.path(), bytes, &[server.pid()]).await?);
    }
    let name = server.name();
    drop(server);
    cluster.shutdown().await?;
    let (least, most) = (Goal::AtLeast(LEAST_THROUGHPUT), Goal::AtMost(MOST_CPU));
    Ok(vec![
        compare("mirror, throughput", &ours, name, &theirs, Unit::BytesPerSecond, least),
        compare("mirror, CPU per byte", &ours, name, &theirs, Unit::CpuPerByte, most),
    ])
}

async fn read(server: SocketAddr, path: &str, bytes: u64, pids: &[u32]) -> anyhow::Result<Cost> {
    let meter = Meter::start(pids)?;
    let path = path.to_owned();
    spawn_blocking(move || (0..PASSES).try_for_each(|_| client::get(server, &path, None, bytes))).await??;
    meter.stop(bytes * PASSES)
}
