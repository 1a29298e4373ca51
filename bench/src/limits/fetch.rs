//! A fetch from one daemon into another that nobody reads, against the parts that it is made of.

use std::sync::Arc;

use anyhow::{Context, ensure};
use shoal::cluster::Cluster;
use shoal_registry::{Faults, Registry};
use tokio::task::spawn_blocking;

use super::{
    Setting, client,
    comparison::{Comparison, Goal, Unit},
    cost::{Cost, Meter, compare, figures},
    quic::Pair,
    raw::{self, Material},
};

/// How much more of the processors a fetch may need than its parts do.
const MOST_CPU: f64 = 1.15;
/// What a fetch needs of memory beside the layer's pages.
const BESIDE: u64 = 64 << 20;

pub(super) async fn measure(setting: &Setting<'_>) -> anyhow::Result<Vec<Comparison>> {
    let bytes = setting.layer.bytes();
    let origin = setting.layer.origin(Faults::none()).await?;
    let mut pair = Pair::start(setting.layer.file()).await?;
    let material = Arc::new(Material::make());
    let (mut fetches, mut quic, mut hashes, mut writes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        fetches.push(fetch(setting, &origin, &material).await?);
        quic.push(pair.run(bytes).await?);
        let (material, folder) = (material.clone(), setting.folder.to_owned());
        let parts = spawn_blocking(move || {
            let hashed = material.hash(bytes)?;
            // The first file leaves warm memory to the second.
            material.write(bytes, &folder)?;
            anyhow::Ok((hashed, material.write(bytes, &folder)?.1))
        });
        let (hashed, written) = parts.await??;
        hashes.push(hashed);
        writes.push(written);
    }
    let cpu = |costs: &[Cost]| costs.iter().map(Cost::cpu_per_byte).collect::<Vec<_>>();
    let parts = cpu(&quic).iter().zip(cpu(&hashes)).zip(cpu(&writes)).map(|((a, b), c)| a + b + c).collect::<Vec<_>>();
    let mut lines = Vec::new();
    for (name, costs) in [("raw QUIC", &quic), ("raw SHA-256", &hashes), ("raw positional writes", &writes)] {
        lines.push(compare("fetch, throughput", &fetches, name, costs, Unit::BytesPerSecond, Goal::None));
        lines.push(compare("fetch, CPU per byte", &fetches, name, costs, Unit::CpuPerByte, Goal::None));
    }
    let (what, all) = ("fetch, CPU per byte", "these three together");
    lines.push(figures(what, &cpu(&fetches), all, &parts, Unit::CpuPerByte, Goal::AtMost(MOST_CPU)));
    Ok(lines)
}

/// One daemon has the layer, another fetches it. Its client asks for the last byte, which comes when all others are there.
async fn fetch(setting: &Setting<'_>, origin: &Registry, material: &Arc<Material>) -> anyhow::Result<Cost> {
    let (bytes, path) = (setting.layer.bytes(), setting.layer.path(origin));
    let folder = tempfile::tempdir_in(setting.folder)?;
    let cluster = Cluster::builder(setting.program)
        .nodes(2)
        .dir(folder.path())
        .registry(&format!("{}={}", origin.addr(), origin.url()))
        .start()
        .await?;
    cluster.wait_all_ready().await?;
    let pull = |node: usize, range: Option<String>, expected| {
        let (mirror, path) = (cluster.mirror_addr(node), path.clone());
        spawn_blocking(move || client::get(mirror, &path, range.as_deref(), expected))
    };
    pull(0, None, bytes).await??;
    let (material, scratch) = (material.clone(), setting.folder.to_owned());
    let (warm, _) = spawn_blocking(move || material.write(bytes + BESIDE, &scratch)).await??;
    let pids: Vec<u32> = (0..2).filter_map(|node| cluster.pid(node)).collect();
    let meter = Meter::start(&pids)?;
    let giving_back = spawn_blocking(move || raw::give_back(&warm));
    let last = bytes - 1;
    let asked = pull(1, Some(format!("bytes={last}-{last}")), 1).await?;
    let cost = meter.stop(bytes)?;
    asked.with_context(|| format!("node-1; the end of its log:\n{}", cluster.log_tail(1)))?;
    let figures = cluster.blob(1, &setting.layer.digest()).await?.context("node-1 knows nothing of the layer")?;
    let (from_peers, from_origin) = (figures.bytes_from_peers, figures.bytes_from_origin);
    ensure!(from_peers == bytes, "node-1 had {from_peers} of {bytes} bytes from node-0, {from_origin} from the origin");
    giving_back.await??;
    cluster.shutdown().await?;
    Ok(cost)
}
