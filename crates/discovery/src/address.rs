//! Addresses: what libp2p calls them, which of them are of use, and which of them are mine.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// How many addresses of one node are kept and told.
pub(crate) const MOST_ADDRESSES: usize = 8;

/// The libp2p form of a TCP address.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The TCP address of a libp2p address, whether or not a peer id follows it; `None` for anything else.
pub(crate) fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Whether an address that somebody told can be dialled from here. Loopback is of use only to a node that is itself
/// reached over loopback; a link-local IPv6 address lacks the interface it belongs to.
pub(crate) fn is_dialable(address: SocketAddr, on_loopback: bool) -> bool {
    let ip = address.ip();
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !link_local
        && (on_loopback || !ip.is_loopback())
}

/// What this node knows of its own addresses.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    advertise: Vec<SocketAddr>,
    listening: BTreeSet<SocketAddr>,
    observed: Vec<(IpAddr, BTreeSet<shoal_proto::NodeId>)>,
    met: BTreeSet<SocketAddr>,
}

impl OwnAddresses {
    pub(crate) fn new(advertise: Vec<SocketAddr>) -> Self {
        Self { advertise, ..Self::default() }
    }

    pub(crate) fn listens(&mut self, address: SocketAddr) {
        self.listening.insert(address);
    }

    pub(crate) fn listens_no_more(&mut self, address: SocketAddr) {
        self.listening.remove(&address);
    }

    /// A dial to this address ended at myself: how a port forwarded from outside shows.
    pub(crate) fn met_myself_at(&mut self, address: SocketAddr) {
        if self.met.len() < MOST_ADDRESSES {
            self.met.insert(address);
        }
    }

    /// A peer sees me under this IP address. One peer alone could be mistaken, or lie: two must agree.
    pub(crate) fn observed_by(&mut self, peer: shoal_proto::NodeId, ip: IpAddr) {
        if let Some((_, peers)) = self.observed.iter_mut().find(|(known, _)| *known == ip) {
            if peers.len() < 2 {
                peers.insert(peer);
            }
        } else if self.observed.len() < MOST_ADDRESSES {
            self.observed.push((ip, BTreeSet::from([peer])));
        }
    }

    /// The addresses that are listened on.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        self.listening.iter().copied().collect()
    }

    /// What peers are told: what the configuration says; else the interfaces' addresses, loopback only where there is
    /// nothing else, then those that peers observed. At most [`MOST_ADDRESSES`].
    pub(crate) fn told(&self) -> Vec<SocketAddr> {
        let port = self.listening.first().map_or(0, SocketAddr::port);
        if !self.advertise.is_empty() {
            let with_port =
                self.advertise.iter().map(|a| SocketAddr::new(a.ip(), if a.port() == 0 { port } else { a.port() }));
            return with_port.take(MOST_ADDRESSES).collect();
        }
        let mut told: Vec<_> = self.listening.iter().copied().filter(|a| is_dialable(*a, false)).collect();
        if told.is_empty() {
            told = self.listening.iter().copied().filter(|a| is_dialable(*a, true)).collect();
        }
        let agreed = self.observed.iter().filter(|(_, peers)| peers.len() >= 2);
        for address in agreed.map(|(ip, _)| SocketAddr::new(*ip, port)) {
            if is_dialable(address, false) && !told.contains(&address) {
                told.push(address);
            }
        }
        told.truncate(MOST_ADDRESSES);
        told
    }

    /// Whether peers reach this node over loopback, so that their loopback addresses are of use to it.
    pub(crate) fn on_loopback(&self) -> bool {
        self.told().iter().any(|address| address.ip().is_loopback())
    }

    /// Whether an address is one of mine, so that dialling it would find nobody else. `::1` and `127.0.0.1` are one.
    pub(crate) fn is_mine(&self, address: SocketAddr) -> bool {
        let listening = |address| self.listening.contains(&address);
        let port = address.port();
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        let other_loopback =
            loopback.contains(&address.ip()) && loopback.iter().any(|ip| listening(SocketAddr::new(*ip, port)));
        listening(address) || other_loopback || self.met.contains(&address) || self.told().contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::NodeId;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_translate_both_ways() {
        for text in ["10.0.0.7:5051", "[2001:db8::1]:5051"] {
            assert_eq!(socket_addr(&multiaddr(at(text))), Some(at(text)));
        }
        let with_peer = multiaddr(at("10.0.0.7:1")).with(Protocol::P2p(libp2p::PeerId::random()));
        assert_eq!(socket_addr(&with_peer), Some(at("10.0.0.7:1")));
        for other in ["/dns4/a.example/tcp/1", "/ip4/10.0.0.7/udp/1", "/ip4/10.0.0.7/tcp/1/ws", "/ip4/10.0.0.7"] {
            assert_eq!(socket_addr(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn useless_addresses_are_not_dialled() {
        for text in ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "[fe80::1]:1", "127.0.0.1:1", "[::1]:1"] {
            assert!(!is_dialable(at(text), false), "{text}");
        }
        assert!(is_dialable(at("127.0.0.1:1"), true));
        assert!(is_dialable(at("10.0.0.1:1"), false));
    }

    #[test]
    fn tells_what_is_configured_else_what_others_can_use() {
        let mut own = OwnAddresses::new(vec![]);
        own.listens(at("127.0.0.1:5051"));
        assert_eq!(own.told(), [at("127.0.0.1:5051")]);
        assert!(own.on_loopback());
        own.listens(at("10.0.0.7:5051"));
        assert_eq!(own.told(), [at("10.0.0.7:5051")]);
        assert!(!own.on_loopback());
        own.observed_by(NodeId::from_bytes([1; 32]), [192, 0, 2, 1].into());
        assert_eq!(own.told().len(), 1);
        own.observed_by(NodeId::from_bytes([2; 32]), [192, 0, 2, 1].into());
        assert_eq!(own.told(), [at("10.0.0.7:5051"), at("192.0.2.1:5051")]);

        let mut configured = OwnAddresses::new(vec![at("198.51.100.1:0"), at("198.51.100.2:99")]);
        configured.listens(at("10.0.0.7:5051"));
        assert_eq!(configured.told(), [at("198.51.100.1:5051"), at("198.51.100.2:99")]);
        assert!(configured.is_mine(at("10.0.0.7:5051")) && configured.is_mine(at("198.51.100.1:5051")));
    }

    #[test]
    fn knows_itself() {
        let mut own = OwnAddresses::new(vec![]);
        own.listens(at("127.0.0.1:5051"));
        assert!(own.is_mine(at("[::1]:5051")));
        assert!(!own.is_mine(at("127.0.0.2:5051")) && !own.is_mine(at("127.0.0.1:5052")));
        own.met_myself_at(at("203.0.113.9:5051"));
        assert!(own.is_mine(at("203.0.113.9:5051")));
    }
}
