//! How a cluster is set up.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use anyhow::Context;

use super::{
    Cluster,
    flags::Flags,
    host::{Host, Place},
    node::Node,
};
use crate::key;

/// A cluster to be started. Unless said otherwise it has one node, a key of its own, leaves no space of the file system
/// free, and lives in a new folder that is removed with it.
#[derive(Debug)]
#[must_use = "the daemons run only after `start`"]
pub struct Builder {
    binary: PathBuf,
    nodes: usize,
    hosts: Vec<Host>,
    dir: Option<PathBuf>,
    alone: bool,
    ready_within: Duration,
    drain_within: Duration,
    common: Flags,
    flags: Vec<(usize, String, String)>,
    env: Vec<(Option<usize>, String, String)>,
}

impl Builder {
    pub(super) fn new(binary: PathBuf) -> Self {
        let mut common = Flags::default();
        common.set("min-free", "0");
        common.set("capacity", "1TiB");
        Self {
            binary,
            nodes: 1,
            hosts: Vec::new(),
            dir: None,
            alone: false,
            ready_within: Duration::from_secs(60),
            drain_within: Duration::from_secs(60),
            common,
            flags: Vec::new(),
            env: Vec::new(),
        }
    }

    /// How many daemons are started.
    pub const fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// One daemon on each of these hosts, instead of all on this one's loopback interface.
    pub fn hosts(mut self, hosts: Vec<Host>) -> Self {
        self.nodes = hosts.len();
        self.hosts = hosts;
        self
    }

    /// The folder to work in, which must exist; it is not removed.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Adds a registry for all daemons, as `NAME` or `NAME=URL`.
    pub fn registry(mut self, registry: &str) -> Self {
        self.common.add("registry", registry);
        self
    }

    /// Without a cluster key: every daemon is alone.
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// A flag of all daemons: the long name without dashes; lists with commas between their items.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.common.set(name, value);
        self
    }

    /// A flag of one daemon.
    pub fn flag_of(mut self, node: usize, name: &str, value: &str) -> Self {
        self.flags.push((node, name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable of all daemons. Variables of this process that begin with `SHOAL_` are not handed on,
    /// except `SHOAL_LOG`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((None, name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable of one daemon.
    pub fn env_of(mut self, node: usize, name: &str, value: &str) -> Self {
        self.env.push((Some(node), name.to_owned(), value.to_owned()));
        self
    }

    /// How long [`Cluster::wait_ready`] waits; a minute by default.
    pub const fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }

    /// How long [`Cluster::terminate`] and [`Cluster::shutdown`] wait; a minute by default.
    pub const fn drain_within(mut self, limit: Duration) -> Self {
        self.drain_within = limit;
        self
    }

    /// Starts all daemons at once, without waiting for them to be ready.
    ///
    /// # Errors
    /// When the folder, the key file, the ports or the processes cannot be had.
    pub async fn start(mut self) -> anyhow::Result<Cluster> {
        let temporary = match &self.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("shoal-").tempdir().context("make a folder for the cluster")?),
        };
        let dir = temporary.as_ref().map(|dir| dir.path().to_owned()).or(self.dir).unwrap_or_default();
        if !self.alone {
            let path = dir.join("cluster.key");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            writeln!(file, "{}", *key::new()?.to_line())?;
            self.common.set("cluster-key-file", &path.to_string_lossy());
        }
        let mut hosts = self.hosts.into_iter();
        let places = (0..self.nodes).map(|_| hosts.next().map_or_else(Place::on_loopback, |host| Ok(Place::on(host))));
        let places = places.collect::<Result<Vec<_>, _>>().context("no free ports on 127.0.0.1")?;
        let mut nodes = Vec::with_capacity(self.nodes);
        for (number, place) in places.into_iter().enumerate() {
            let mut node = Node::new(&dir, number, place, self.common.clone());
            for (_, name, value) in self.flags.iter().filter(|(of, ..)| *of == number) {
                node.flags.set(name, value);
            }
            let mine = self.env.iter().filter(|(of, ..)| of.is_none_or(|of| of == number));
            node.env = mine.map(|(_, name, value)| (name.clone(), value.clone())).collect();
            nodes.push(node);
        }
        let Self { binary, common, ready_within, drain_within, .. } = self;
        let mut cluster = Cluster { nodes, binary, common, dir, ready_within, drain_within, temporary };
        for node in 0..cluster.len() {
            cluster.restart(node).await?;
        }
        Ok(cluster)
    }
}
