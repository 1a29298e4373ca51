//! Where a daemon runs: its address, its ports, and how its process gets there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use super::ports::{Held, Ports};

/// A host that a daemon has for itself, such as a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where the other hosts and this process reach it.
    pub address: IpAddr,
    /// The words before a program's name that make it run there, such as `ip netns exec NAME`; none for this host.
    pub enter: Vec<String>,
}

/// A place for one daemon.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) ports: Ports,
    /// What keeps the ports free until the daemon takes them.
    pub(super) held: Option<Held>,
}

impl Place {
    /// On this host's loopback interface, with ports that nobody else has.
    pub(super) fn on_loopback() -> io::Result<Self> {
        let held = Held::reserve()?;
        let host = Host { address: Ipv4Addr::LOCALHOST.into(), enter: Vec::new() };
        Ok(Self { host, ports: held.ports, held: Some(held) })
    }

    /// On a host of its own, with the ports that a daemon has by default.
    pub(super) const fn on(host: Host) -> Self {
        Self { host, ports: Ports { mirror: 5050, peer: 5051, admin: 5052 }, held: None }
    }
}
