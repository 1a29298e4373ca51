//! What goes wrong: daemons that are killed, ended or stopped, and ways that are cut, one or two at a time; then they are
//! mended.

use std::{ops::Range, time::Duration};

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;
use shoal::cluster::Cluster;
use tokio::time::{Instant, sleep};

use crate::lab::Lab;

/// How long all is well between two storms.
const CALM: Range<Duration> = Duration::ZERO..Duration::from_secs(3);
/// How long a trouble lasts.
const LASTS: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(4);
/// One in so many lasts longer: until those who wait have given up.
const LONG: u32 = 5;
const LASTS_LONG: Range<Duration> = Duration::from_secs(4)..Duration::from_secs(25);
/// The first nodes are never killed or ended: what they leak in all that time is seen at the end.
pub(super) const SPARED: usize = 2;

/// What a storm did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stormed {
    pub(super) killed: u64,
    pub(super) ended: u64,
    pub(super) stopped: u64,
    pub(super) cut: u64,
}

/// One thing that is broken.
#[derive(Clone, Debug)]
enum Trouble {
    /// A daemon is killed, and started again later.
    Killed(usize),
    /// A daemon is ended in order, and started again later.
    Ended(usize),
    /// A daemon stands still.
    Stopped(usize),
    /// Nothing that one node sends comes to another.
    Deaf(usize, usize),
    /// Two sides do not hear each other.
    Parted(Vec<usize>, Vec<usize>),
    /// A node is cut from the origin.
    Stranded(usize),
}

/// Breaks and mends until the end; then all is mended and every daemon has been started.
pub(super) async fn rage(lab: &Lab, cluster: &mut Cluster, rng: &mut StdRng, end: Instant) -> anyhow::Result<Stormed> {
    let mut stormed = Stormed::default();
    while Instant::now() < end {
        sleep(rng.random_range(CALM)).await;
        // At most one of what daemons suffer and one of what ways do, so that they do not undo each other.
        let daemon = rng.random_ratio(2, 3).then(|| of_daemon(rng, cluster.len()));
        let way = rng.random_ratio(1, 2).then(|| of_way(rng, cluster.len()));
        let troubles: Vec<Trouble> = daemon.into_iter().chain(way).collect();
        for trouble in &troubles {
            trouble.begin(lab, cluster, &mut stormed).await?;
        }
        let lasts = if rng.random_ratio(1, LONG) { LASTS_LONG } else { LASTS };
        sleep(rng.random_range(lasts)).await;
        for trouble in &troubles {
            trouble.mend(lab, cluster).await?;
        }
    }
    Ok(stormed)
}

fn of_daemon(rng: &mut StdRng, nodes: usize) -> Trouble {
    match rng.random_range(0..4) {
        0 | 1 => Trouble::Killed(rng.random_range(SPARED..nodes)),
        2 => Trouble::Ended(rng.random_range(SPARED..nodes)),
        _ => Trouble::Stopped(rng.random_range(0..nodes)),
    }
}

fn of_way(rng: &mut StdRng, nodes: usize) -> Trouble {
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(rng);
    match rng.random_range(0..4) {
        0 => Trouble::Deaf(order[0], order[1]),
        1 => Trouble::Stranded(order[0]),
        2 => {
            let other = order.split_off(1);
            Trouble::Parted(order, other)
        }
        _ => {
            let other = order.split_off(nodes / 2);
            Trouble::Parted(order, other)
        }
    }
}

impl Trouble {
    async fn begin(&self, lab: &Lab, cluster: &mut Cluster, stormed: &mut Stormed) -> anyhow::Result<()> {
        match self {
            Self::Killed(node) => {
                stormed.killed += 1;
                cluster.kill(*node).await
            }
            Self::Ended(node) => {
                stormed.ended += 1;
                cluster.terminate(*node).await.map(drop)
            }
            Self::Stopped(node) => {
                stormed.stopped += 1;
                cluster.pause(*node)
            }
            Self::Deaf(from, to) => {
                stormed.cut += 1;
                lab.cut(*from, *to)
            }
            Self::Parted(one, other) => {
                stormed.cut += 1;
                lab.part(one, other)
            }
            Self::Stranded(node) => {
                stormed.cut += 1;
                lab.cut_from_origin(*node)
            }
        }
    }

    async fn mend(&self, lab: &Lab, cluster: &mut Cluster) -> anyhow::Result<()> {
        match self {
            Self::Killed(node) | Self::Ended(node) => cluster.restart(*node).await,
            Self::Stopped(node) => cluster.resume(*node),
            Self::Deaf(from, to) => lab.mend(*from, *to),
            Self::Parted(one, other) => lab.join(one, other),
            Self::Stranded(node) => lab.mend_to_origin(*node),
        }
    }
}
