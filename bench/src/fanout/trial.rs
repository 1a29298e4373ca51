//! One fan-out: everybody asks, and what that took.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use shoal::cluster::{Cluster, Host};
use shoal_blob::Digest;
use tokio::{
    process::Command,
    time::{interval, sleep, sleep_until},
};

use super::{
    origin::{Layers, Origin, REPOSITORY},
    reader::{Read, Reader},
    settle::fill_page_cache,
    torrent::Torrent,
};
use crate::{
    cpu::{self, Machine},
    lab::{Carried, Lab, Traffic},
};

/// How often the links are looked at.
const GLANCE: Duration = Duration::from_millis(100);
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long the daemons have known each other when they are asked: those of a cluster have for days. Whoever has just met the
/// others asks around for half a second before it lets anybody read the origin.
const ACQUAINTED: Duration = Duration::from_secs(6);
/// The origin's name, as the clients use it.
const REGISTRY: &str = "fanout.test:5000";

/// How the layers get to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Through a daemon on each node
    Shoal,
    /// Every node pulls from the origin
    Direct,
    /// libtorrent on each node, and one at the origin that has all
    Bittorrent,
}

/// What a trial is made with.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) lab: &'a Lab,
    pub(super) layers: &'a Layers,
    pub(super) program: &'a Path,
    /// Settings of all daemons beside the bench's own.
    pub(super) flags: &'a [(String, String)],
    pub(super) stagger: Duration,
    pub(super) dir: &'a Path,
    /// Whether the daemons' logs stay.
    pub(super) keep: bool,
}

/// What one fan-out took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trial {
    pub(super) mode: Mode,
    /// From the first request of all to the last byte at each node.
    pub(super) seconds: Vec<f64>,
    /// From a node's request to the first byte of the body.
    pub(super) first_byte: Vec<f64>,
    /// Body bytes that the origin's log says it sent.
    pub(super) origin_log_bytes: u64,
    /// What the origin's link carried away from it, headers and repeats included.
    pub(super) origin_wire_bytes: u64,
    pub(super) nodes: Vec<NodeFigures>,
    /// What came into each zone; empty where there is one.
    pub(super) into_zones: Vec<u64>,
    /// Packets that found a link's queue full.
    pub(super) lost_packets: u64,
    /// The part of the processors' time in which nothing ran, from 0 to 1.
    pub(super) idle: f64,
    pub(super) moments: Vec<Moment>,
}

/// What one node needed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct NodeFigures {
    /// Over its link, headers included.
    pub(super) wire_up: u64,
    pub(super) wire_down: u64,
    /// Body bytes, as its daemon counts them; none where there is no daemon.
    pub(super) from_origin: u64,
    pub(super) from_peers: u64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_resident: u64,
}

/// What the links carried since the glance before: bytes as their interfaces count them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Moment {
    pub(super) seconds: f64,
    pub(super) origin: u64,
    pub(super) up: Vec<u64>,
    pub(super) down: Vec<u64>,
}

impl Bench<'_> {
    /// Runs one fan-out, from an empty cluster to the last byte.
    pub(super) async fn run(&self, mode: Mode) -> anyhow::Result<Trial> {
        let mut folder = tempfile::Builder::new().prefix("trial-").tempdir_in(self.dir)?;
        folder.disable_cleanup(self.keep);
        fill_page_cache(self.dir)?;
        if mode == Mode::Bittorrent {
            return self.torrent(folder.path()).await;
        }
        let origin = self.layers.serve(&self.lab.origin(), folder.path()).await?;
        let mut trial = if mode == Mode::Direct {
            let read = |node: usize, digest: &Digest| Reader::of(&self.lab.node(node), &origin.url(digest));
            self.pull(mode, &[], read).await?
        } else {
            self.through_daemons(folder.path(), &origin).await?
        };
        trial.origin_log_bytes = origin.stop().await?;
        Ok(trial)
    }

    async fn torrent(&self, folder: &Path) -> anyhow::Result<Trial> {
        let nodes: Vec<Host> = (0..self.lab.plan.nodes).map(|node| self.lab.node(node)).collect();
        let (layer, piece_bytes) = self.layers.only_file(self.dir)?;
        let torrent = Torrent::start(&self.lab.origin(), &nodes, &layer, piece_bytes, folder).await?;
        let fetch = |node: usize, _: &Digest| torrent.leech(&nodes[node], node, &folder.join(format!("node-{node}")));
        let mut trial = self.pull(Mode::Bittorrent, &[], fetch).await?;
        trial.origin_log_bytes = torrent.stop().await?;
        Ok(trial)
    }

    async fn through_daemons(&self, folder: &Path, origin: &Origin) -> anyhow::Result<Trial> {
        let plan = &self.lab.plan;
        let mut builder = Cluster::builder(self.program)
            .hosts((0..plan.nodes).map(|node| self.lab.node(node)).collect())
            .dir(folder)
            .registry(&format!("{REGISTRY}=http://{}", origin.address))
            .ready_within(READY_WITHIN);
        for (name, value) in self.flags {
            builder = builder.flag(name, value);
        }
        if plan.zones > 1 {
            for node in 0..plan.nodes {
                builder = builder.flag_of(node, "zone", &format!("zone-{}", plan.zone(node)));
            }
        }
        let cluster = builder.start().await?;
        cluster.wait_all_ready().await?;
        sleep(ACQUAINTED).await;
        let read = |node: usize, digest: &Digest| {
            let url = format!("{}/v2/{REPOSITORY}/blobs/{digest}?ns={REGISTRY}", cluster.mirror_url(node));
            Reader::of(&self.lab.node(node), &url)
        };
        let daemons = (0..plan.nodes).map(|node| cluster.pid(node).context("a daemon has ended"));
        let outcome = self.pull(Mode::Shoal, &daemons.collect::<anyhow::Result<Vec<_>>>()?, read).await;
        let tails = || (0..plan.nodes).map(|node| cluster.log_tail(node)).collect::<Vec<_>>().join("\n");
        let mut trial = outcome.with_context(|| format!("the ends of the daemons' logs:\n{}", tails()))?;
        for (node, figures) in trial.nodes.iter_mut().enumerate() {
            figures.peak_resident = cluster.peak_rss(node).context("a daemon has ended")?;
            for layer in &self.layers.blobs {
                let blob = cluster.blob(node, &layer.digest()).await?.context("a daemon knows nothing of a layer")?;
                figures.from_origin += blob.bytes_from_origin;
                figures.from_peers += blob.bytes_from_peers;
            }
        }
        cluster.shutdown().await?;
        Ok(trial)
    }

    /// Lets every node's clients begin, and watches links and processors until the last has all. The processes `daemons` do
    /// the nodes' work; where there are none the clients do.
    async fn pull(
        &self,
        mode: Mode,
        daemons: &[u32],
        client: impl Fn(usize, &Digest) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Trial> {
        let starts = (0..self.lab.plan.nodes).map(|node| {
            let digests = self.layers.blobs.iter().map(shoal_registry::Blob::digest);
            let commands = digests.map(|digest| Ok((client(node, &digest)?, digest)));
            let commands = commands.collect::<anyhow::Result<Vec<_>>>();
            async { try_join_all(commands?.into_iter().map(|(command, digest)| Reader::start(command, digest))).await }
        });
        let mut readers = try_join_all(starts).await?;
        let clients = readers.iter().map(|of_node| of_node.iter().filter_map(Reader::pid).collect());
        let workers: Vec<Vec<u32>> =
            if daemons.is_empty() { clients.collect() } else { daemons.iter().map(|pid| vec![*pid]).collect() };
        let work = || -> anyhow::Result<Vec<Duration>> {
            workers.iter().map(|pids| pids.iter().map(|pid| cpu::of_process(*pid)).sum()).collect()
        };

        let (worked, machine, lost) = (work()?, Machine::now()?, self.lab.lost_packets()?);
        let mut watch = Watch::begin(self.lab)?;
        let began = Instant::now();
        let nodes = readers.iter_mut().enumerate().map(async |(node, readers)| {
            let begin = began + self.stagger * node as u32;
            sleep_until(begin.into()).await;
            let reads = try_join_all(readers.iter_mut().map(Reader::read));
            let reads = reads.await.with_context(|| format!("a client of node-{node}"))?;
            anyhow::Ok((reads, began.elapsed().as_secs_f64()))
        });
        let reads = watch.during(try_join_all(nodes)).await??;
        let idle = Machine::now()?.idle_since(machine);
        let worked = work()?.into_iter().zip(worked).map(|(after, before)| (after - before).as_secs_f64());

        let (before, after) = watch.ends();
        let figures = worked.enumerate().map(|(node, cpu_seconds)| NodeFigures {
            wire_up: after.nodes[node].up - before.nodes[node].up,
            wire_down: after.nodes[node].down - before.nodes[node].down,
            cpu_seconds,
            ..NodeFigures::default()
        });
        let first = |reads: &[Read]| reads.iter().map(|read| read.first_byte).fold(0.0, f64::max);
        Ok(Trial {
            mode,
            seconds: reads.iter().map(|(_, seconds)| *seconds).collect(),
            first_byte: reads.iter().map(|(reads, _)| first(reads)).collect(),
            origin_log_bytes: 0,
            origin_wire_bytes: after.origin.up - before.origin.up,
            nodes: figures.collect(),
            into_zones: after.into_zones.iter().zip(&before.into_zones).map(|(after, before)| after - before).collect(),
            lost_packets: self.lab.lost_packets()? - lost,
            idle,
            moments: watch.moments,
        })
    }
}

/// The links under observation.
struct Watch<'a> {
    lab: &'a Lab,
    began: Instant,
    seen: Vec<Traffic>,
    moments: Vec<Moment>,
}

impl<'a> Watch<'a> {
    fn begin(lab: &'a Lab) -> anyhow::Result<Self> {
        Ok(Self { lab, began: Instant::now(), seen: vec![lab.traffic()?], moments: Vec::new() })
    }

    /// Looks at the links again and again until `work` is done, and once more.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut ticks = interval(GLANCE);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.look()?;
                    return Ok(done);
                }
                _ = ticks.tick() => self.look()?,
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let now = self.lab.traffic()?;
        let before = self.seen.last().context("a watch begins with a look")?;
        let each = |part: fn(&Carried) -> u64| {
            now.nodes.iter().zip(&before.nodes).map(|(now, before)| part(now) - part(before)).collect()
        };
        self.moments.push(Moment {
            seconds: self.began.elapsed().as_secs_f64(),
            origin: now.origin.up - before.origin.up,
            up: each(|carried| carried.up),
            down: each(|carried| carried.down),
        });
        self.seen.truncate(1);
        self.seen.push(now);
        Ok(())
    }

    fn ends(&self) -> (&Traffic, &Traffic) {
        (&self.seen[0], &self.seen[self.seen.len() - 1])
    }
}
