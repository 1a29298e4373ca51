//! Ports for a daemon, free when they are chosen.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
};

use rand::RngExt;

/// How often a port is drawn before the system is asked for one.
const DRAWS: usize = 200;
const LEAST: u16 = 10_000;

/// The ports of one daemon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) mirror: u16,
    pub(super) peer: u16,
    pub(super) admin: u16,
}

/// Ports that nobody else can take as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ports: Ports,
    _tcp: [TcpListener; 3],
    _udp: UdpSocket,
}

impl Held {
    /// Takes three free ports of 127.0.0.1; that of the peers is free for TCP and UDP.
    pub(super) fn reserve() -> io::Result<Self> {
        let (mirror, admin) = (draw(tcp)?, draw(tcp)?);
        let (peer, udp) = draw(|port| {
            let listener = tcp(port)?;
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))?;
            Ok((listener, socket))
        })?;
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let ports = Ports { mirror: port(&mirror)?, peer: port(&peer)?, admin: port(&admin)? };
        Ok(Self { ports, _tcp: [mirror, peer, admin], _udp: udp })
    }
}

fn tcp(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Binds a port that the system does not give to outgoing connections: one of those could take it between the choice and
/// the daemon's start, or while the daemon is down.
fn draw<T>(bind: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    let range = beside_ephemeral();
    let mut rng = rand::rng();
    (0..DRAWS)
        .filter(|_| !range.is_empty())
        .find_map(|_| bind(rng.random_range(range.clone())).ok())
        .map_or_else(|| bind(0), Ok)
}

fn beside_ephemeral() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    LEAST..low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_ports_are_taken_until_let_go() {
        let held = Held::reserve().unwrap();
        let Ports { mirror, peer, admin } = held.ports;
        assert!(mirror != peer && peer != admin && admin != mirror);
        assert!(tcp(peer).is_err());
        assert!(UdpSocket::bind((Ipv4Addr::LOCALHOST, peer)).is_err());
        drop(held);
        assert!(tcp(peer).is_ok());
    }
}
