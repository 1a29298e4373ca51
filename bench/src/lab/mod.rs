//! A network of its own on this machine: a namespace for each node and for the origin, joined by a bridge, each with a link
//! that is shaped both ways.
//!
//! Nothing of it touches the machine's own network: the bridge stands in a namespace too, which this thread enters, so that
//! what it opens afterwards is on the bridge.
//!
//! * [`Plan`], [`Lab`]: the network; `cut`: ways that are cut and links that grow slow; `rate`, `tools`: what it is made with.

mod cut;
mod rate;
mod tools;

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde::Deserialize;
use shoal::cluster::Host;

pub(crate) use self::{
    rate::Rate,
    tools::{run, within},
};

use self::tools::{ip, tc};

/// Where `ip netns` keeps the namespaces.
const NAMESPACES: &str = "/run/netns";
/// How long a shaper's queue is, in time: what does not fit is lost, as in a switch.
const QUEUE: Duration = Duration::from_millis(50);
/// What a shaper lets through at once; more than the largest packet that the system hands down before it is cut.
const BURST_BYTES: u32 = 128 << 10;
/// The name of the core bridge, in the fabric.
const CORE: &str = "core";

/// What the network is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Each node's link, each way.
    pub(crate) rate: Rate,
    pub(crate) origin_rate: Rate,
    /// How long a packet takes over a node's link, each way.
    pub(crate) latency: Duration,
    /// How many zones there are; one has no link of its own.
    pub(crate) zones: usize,
    /// A zone's link to the others, each way.
    pub(crate) zone_rate: Rate,
}

/// The network, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    /// What all its namespaces' names begin with.
    prefix: String,
    pub(crate) plan: Plan,
}

impl Plan {
    /// Nodes of one zone with links of that rate, and an origin with such a link.
    pub(crate) const fn of(nodes: usize, rate: Rate) -> Self {
        Self { nodes, rate, origin_rate: rate, latency: Duration::ZERO, zones: 1, zone_rate: rate }
    }

    /// The zone of a node: they are dealt out in turn.
    pub(crate) const fn zone(&self, node: usize) -> usize {
        node % self.zones
    }
}

impl Lab {
    /// Makes the network, and moves this thread into it.
    ///
    /// # Errors
    /// When this is not root, or the kernel or the tools lack something; the message says what. Nothing is left then.
    pub(crate) fn build(plan: Plan) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces and shaped links need root: run this with `sudo`, or in a privileged container"
        );
        sweep()?;
        let lab = Self { prefix: format!("shoal-{}", std::process::id()), plan };
        lab.lay().context("make the network")?;
        Ok(lab)
    }

    fn lay(&self) -> anyhow::Result<()> {
        let fabric = self.fabric();
        ip(&["netns", "add", &fabric])?;
        let file = File::open(format!("{NAMESPACES}/{fabric}")).context("open the namespace")?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("enter the namespace")?;
        ip(&["link", "set", "lo", "up"])?;
        bridge(CORE)?;
        ip(&["address", "add", "10.213.0.1/16", "dev", CORE])?;
        ip(&["address", "add", &format!("{}/16", self.own_origin_address()), "dev", CORE])?;
        for zone in 0..self.plan.zones {
            self.zone(zone)?;
        }
        self.host(&self.origin_name(), "origin", self.origin_address(), CORE, self.plan.origin_rate, Duration::ZERO)?;
        for node in 0..self.plan.nodes {
            let zone = self.bridge_of(self.plan.zone(node));
            let (name, device) = (self.node_name(node), device(node));
            self.host(&name, &device, self.address(node), &zone, self.plan.rate, self.plan.latency)?;
        }
        Ok(())
    }

    /// A zone's bridge and its link to the core. Where there is one zone, the core is its bridge.
    fn zone(&self, zone: usize) -> anyhow::Result<()> {
        if self.plan.zones == 1 {
            return Ok(());
        }
        let (name, up, down) = (self.bridge_of(zone), format!("up{zone}"), format!("down{zone}"));
        bridge(&name)?;
        ip(&["link", "add", &up, "type", "veth", "peer", "name", &down])?;
        for (device, master) in [(&up, name.as_str()), (&down, CORE)] {
            ip(&["link", "set", device, "master", master, "up"])?;
            shape(&[], device, self.plan.zone_rate)?;
        }
        Ok(())
    }

    /// A namespace with one interface, `eth0`, whose other end is `device` on a bridge of the fabric.
    fn host(
        &self,
        name: &str,
        device: &str,
        address: Ipv4Addr,
        master: &str,
        rate: Rate,
        latency: Duration,
    ) -> anyhow::Result<()> {
        ip(&["netns", "add", name])?;
        ip(&["link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["link", "set", device, "master", master, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "address", "add", &format!("{address}/16"), "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        shape(&["-n", name], "eth0", rate)?;
        shape(&[], device, rate)?;
        if !latency.is_zero() {
            delay(&["-n", name], "eth0", latency)?;
            delay(&[], device, latency)?;
        }
        Ok(())
    }

    fn fabric(&self) -> String {
        format!("{}-fabric", self.prefix)
    }

    fn node_name(&self, node: usize) -> String {
        format!("{}-node-{node}", self.prefix)
    }

    fn origin_name(&self) -> String {
        format!("{}-origin", self.prefix)
    }

    fn bridge_of(&self, zone: usize) -> String {
        if self.plan.zones == 1 { CORE.to_owned() } else { format!("zone{zone}") }
    }

    fn address(&self, node: usize) -> Ipv4Addr {
        let [_, _, high, low] = (node as u32 + 1).to_be_bytes();
        Ipv4Addr::new(10, 213, 1 + high, low)
    }

    fn origin_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 2)
    }

    /// Where this process may serve an origin. Its clients have another address: a node that is cut from the origin still hears
    /// them. Its link is as fast as this machine.
    pub(crate) const fn own_origin_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 3)
    }

    /// Where a node's programs run.
    pub(crate) fn node(&self, node: usize) -> Host {
        host(self.address(node), &self.node_name(node))
    }

    /// Where the origin runs.
    pub(crate) fn origin(&self) -> Host {
        host(self.origin_address(), &self.origin_name())
    }

    /// What the links have carried.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        let text = fs::read_to_string("/proc/thread-self/net/dev").context("read what the links have carried")?;
        let of = |device: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'));
            let fields: Vec<u64> = line?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
            // Seen from the bridge: what it receives the host has sent.
            Some(Carried { up: *fields.first()?, down: *fields.get(8)? })
        };
        let missing = || "a link is missing in /proc/net/dev";
        let nodes = (0..self.plan.nodes).map(|node| of(&device(node))).collect::<Option<_>>().with_context(missing)?;
        let zones = (0..self.plan.zones).filter(|_| self.plan.zones > 1);
        // The zone's end of its link to the core: what it receives has come into the zone.
        let into_zones = zones.map(|zone| of(&format!("up{zone}")).map(|carried| carried.up));
        let into_zones = into_zones.collect::<Option<_>>().with_context(missing)?;
        Ok(Traffic { nodes, origin: of("origin").with_context(missing)?, into_zones })
    }

    /// How many packets have found the queue of a link full, over all links.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn lost_packets(&self) -> anyhow::Result<u64> {
        let hosts = (0..self.plan.nodes).map(|node| self.node_name(node)).chain([self.origin_name()]);
        let places = hosts.map(|name| vec!["-n".to_owned(), name]).chain([Vec::new()]);
        let mut lost = 0;
        for place in places {
            let place: Vec<&str> = place.iter().map(String::as_str).collect();
            let text = run("tc", &[&place[..], &["-s", "-j", "qdisc", "show"]].concat())?;
            let disciplines: Vec<Discipline> = serde_json::from_str(&text).context("read what `tc -j` says")?;
            lost += disciplines.iter().map(|discipline| discipline.drops).sum::<u64>();
        }
        Ok(lost)
    }

    /// Whether packets are handed to the links in bunches, so that what they count is short of headers: as the system
    /// describes it.
    pub(crate) fn offload(&self) -> anyhow::Result<String> {
        let text = run("ip", &["-n", &self.origin_name(), "-d", "link", "show", "eth0"])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "gso_max_size");
        let bytes = words.nth(1).context("`ip -d link` does not say gso_max_size")?;
        Ok(format!("segmentation offload up to {bytes} bytes"))
    }
}

/// What `tc` says of a queue.
#[derive(Debug, Deserialize)]
struct Discipline {
    #[serde(default)]
    drops: u64,
}

/// Bytes over all links since they were made.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) nodes: Vec<Carried>,
    pub(crate) origin: Carried,
    /// What came into each zone from outside; empty where there is one zone.
    pub(crate) into_zones: Vec<u64>,
}

/// Bytes over one link, as its interface counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Drop for Lab {
    fn drop(&mut self) {
        clear(&self.prefix);
    }
}

/// Removes what earlier runs left that were killed.
fn sweep() -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix("shoal-").and_then(|rest| rest.split('-').next());
        if let Some(maker) = maker.filter(|maker| !fs::exists(format!("/proc/{maker}")).unwrap_or(true)) {
            clear(&format!("shoal-{maker}"));
        }
    }
    Ok(())
}

/// Ends all processes in the namespaces of one run, and removes them. What cannot be removed is named.
fn clear(prefix: &str) {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    for name in names.filter(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))) {
        let me = std::process::id().cast_signed();
        let inside = run("ip", &["netns", "pids", &name]).unwrap_or_default();
        let others = inside.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != me);
        for pid in others.filter_map(Pid::from_raw) {
            // One that is gone needs no signal.
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Err(error) = ip(&["netns", "delete", &name]) {
            eprintln!("warning: {error:#}");
        }
    }
}

fn host(address: Ipv4Addr, namespace: &str) -> Host {
    let enter = ["ip", "netns", "exec", namespace].map(ToOwned::to_owned);
    Host { address: IpAddr::V4(address), enter: enter.to_vec() }
}

fn device(node: usize) -> String {
    format!("node{node}")
}

fn bridge(name: &str) -> anyhow::Result<()> {
    ip(&["link", "add", name, "type", "bridge"])?;
    ip(&["link", "set", name, "up"])
}

fn shape(place: &[&str], device: &str, rate: Rate) -> anyhow::Result<()> {
    discipline("add", place, device, rate)
}

/// The same where a rate has been set before.
fn shape_anew(place: &[&str], device: &str, rate: Rate) -> anyhow::Result<()> {
    discipline("change", place, device, rate)
}

fn discipline(what: &str, place: &[&str], device: &str, rate: Rate) -> anyhow::Result<()> {
    let (rate, burst) = (format!("{}bit", rate.bits()), BURST_BYTES.to_string());
    let queue = format!("{}ms", QUEUE.as_millis());
    let words = ["qdisc", what, "dev", device, "root", "handle", "1:", "tbf", "rate", &rate, "burst", &burst];
    tc(&[place, &words, &["latency", &queue]].concat())
}

fn delay(place: &[&str], device: &str, latency: Duration) -> anyhow::Result<()> {
    let delay = format!("{}us", latency.as_micros());
    let words = ["qdisc", "add", "dev", device, "parent", "1:1", "netem", "delay", &delay, "limit", "10000"];
    let outcome = tc(&[place, &words].concat());
    if outcome.is_err() && run("modprobe", &["sch_netem"]).is_err() {
        bail!("this kernel has no netem (`CONFIG_NET_SCH_NETEM`), which `--latency` needs");
    }
    outcome.or_else(|_| tc(&[place, &words].concat()))
}
