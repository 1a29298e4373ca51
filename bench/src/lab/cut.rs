//! Ways that are cut and mended without a word to either end: what is sent is lost, as where a switch has failed.

use std::net::Ipv4Addr;

use super::{
    Lab, Rate, device, shape_anew,
    tools::{ip, run},
};

/// What takes what is sent to where the way is cut: one end of a pair, of which nobody listens at the other.
const VOID: &str = "void";

impl Lab {
    /// Loses all that one node sends to another, until it is mended.
    pub(crate) fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        self.lose(from, self.address(to))
    }

    /// Lets it through again.
    pub(crate) fn mend(&self, from: usize, to: usize) -> anyhow::Result<()> {
        self.find(from, self.address(to))
    }

    /// Loses all that nodes of one side and of the other send each other.
    pub(crate) fn part(&self, one: &[usize], other: &[usize]) -> anyhow::Result<()> {
        pairs(one, other).try_for_each(|(from, to)| self.cut(from, to))
    }

    /// Brings the sides together again.
    pub(crate) fn join(&self, one: &[usize], other: &[usize]) -> anyhow::Result<()> {
        pairs(one, other).try_for_each(|(from, to)| self.mend(from, to))
    }

    /// Loses all that a node sends to an origin that this process serves.
    pub(crate) fn cut_from_origin(&self, node: usize) -> anyhow::Result<()> {
        self.lose(node, self.own_origin_address())
    }

    /// Lets it through again.
    pub(crate) fn mend_to_origin(&self, node: usize) -> anyhow::Result<()> {
        self.find(node, self.own_origin_address())
    }

    /// Gives a node's link another rate, each way. The link must have no latency of its own.
    pub(crate) fn slow(&self, node: usize, rate: Rate) -> anyhow::Result<()> {
        shape_anew(&["-n", &self.node_name(node)], "eth0", rate)?;
        shape_anew(&[], &device(node), rate)
    }

    fn lose(&self, node: usize, address: Ipv4Addr) -> anyhow::Result<()> {
        let name = self.node_name(node);
        if run("ip", &["-n", &name, "link", "show", VOID]).is_err() {
            ip(&["-n", &name, "link", "add", VOID, "type", "veth", "peer", "name", "void-end"])?;
            ip(&["-n", &name, "link", "set", "void-end", "up"])?;
            // Nobody is asked where an address is, so that nobody is told that it is nowhere.
            ip(&["-n", &name, "link", "set", VOID, "arp", "off", "up"])?;
        }
        let own = self.address(node).to_string();
        ip(&["-n", &name, "route", "add", &format!("{address}/32"), "dev", VOID, "src", &own])
    }

    fn find(&self, node: usize, address: Ipv4Addr) -> anyhow::Result<()> {
        ip(&["-n", &self.node_name(node), "route", "delete", &format!("{address}/32"), "dev", VOID])
    }
}

/// Both directions of each pair.
fn pairs(one: &[usize], other: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    one.iter().flat_map(move |&one| other.iter().flat_map(move |&other| [(one, other), (other, one)]))
}
