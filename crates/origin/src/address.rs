//! Which addresses a registry may lead to.
//!
//! A client of the mirror can name any host it likes, and a registry can send its clients anywhere. Without this check the
//! daemon would ask the cloud's metadata service, or itself, on their behalf. A registry that nobody configured may lead
//! only to public addresses, over https. One that is configured may lead into private networks too, but to this machine and
//! its link only where the configuration writes that address. The check sits where a name becomes an address, so the
//! address that is connected to is the one that was checked: there is no second look-up to be answered otherwise.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use crate::{
    error::{ErrorKind, RefusedAddress},
    failure::Failure,
};

/// Redirects that are followed in one request; registries use one, to their object store.
const MOST_REDIRECTS: usize = 5;
/// Metadata services at addresses that are not link-local: Amazon's over IPv6, Alibaba's, Oracle's.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// An address, or a URL, that was refused; it travels inside the HTTP client's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host} leads to {address}, which is refused")]
pub(crate) struct Refused {
    pub(crate) host: String,
    pub(crate) address: RefusedAddress,
}

/// Where the requests to one registry may go: its URLs, its token service, its redirects, and the names of all of these.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// Only to public addresses, over https: nobody configured it.
    Public,
    /// Anywhere but to this machine and its link; to these hosts also there.
    Private(Arc<[String]>),
    /// Anywhere.
    Anywhere,
}

impl Reach {
    /// What a configured registry may lead to: `written` are the hosts of its URLs, of which those that are addresses, or
    /// `localhost`, are meant as they stand; `proxies` are hosts that requests pass on their way.
    pub(crate) fn configured<'a>(
        written: impl Iterator<Item = &'a str>,
        proxies: impl Iterator<Item = &'a str>,
    ) -> Self {
        let written = written.map(bare).filter(|host| host.parse::<IpAddr>().is_ok() || is_localhost(host));
        Self::Private(written.chain(proxies.map(bare)).map(str::to_owned).collect())
    }

    /// Refuses a URL by what stands in it. Names are left to where they are looked up.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = bare(url.host_str().unwrap_or_default());
        let refused = |address| Err(Refused { host: host.to_owned(), address });
        if matches!(self, Self::Public) && url.scheme() != "https" {
            return refused(RefusedAddress::NotHttps);
        }
        match host.parse::<IpAddr>().ok().and_then(|address| self.refuses(host, address)) {
            Some(why) => refused(why),
            None => Ok(()),
        }
    }

    /// Why an address is refused that a host leads to; `None` where it is not.
    fn refuses(&self, host: &str, address: IpAddr) -> Option<RefusedAddress> {
        match self {
            Self::Public => (!is_public(address)).then_some(RefusedAddress::NotPublic(address)),
            Self::Private(written) => (is_local(address)
                && !written.iter().any(|known| known.eq_ignore_ascii_case(host)))
            .then_some(RefusedAddress::Local(address)),
            Self::Anywhere => None,
        }
    }

    /// Follows a few redirects, never from https to plain http, and only to where this registry may lead.
    pub(crate) fn redirects(&self) -> redirect::Policy {
        let reach = self.clone();
        redirect::Policy::custom(move |attempt| {
            let downgrade =
                attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
            if attempt.previous().len() > MOST_REDIRECTS {
                return attempt.error("too many redirects");
            }
            match reach.check(attempt.url()) {
                Err(refused) => attempt.error(refused),
                Ok(()) if downgrade => attempt.error("a redirect from https to plain http"),
                Ok(()) => attempt.follow(),
            }
        })
    }
}

/// Looks names up and passes on only addresses that they may lead to.
impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let (mut allowed, mut refused) = (Vec::new(), None);
            for found in tokio::net::lookup_host((name, 0)).await? {
                match reach.refuses(name, found.ip()) {
                    Some(why) => refused = refused.or(Some(why)),
                    None => allowed.push(found),
                }
            }
            match refused {
                Some(address) if allowed.is_empty() => Err(Refused { host: name.to_owned(), address }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

impl From<Refused> for Failure {
    fn from(Refused { host, address }: Refused) -> Self {
        Self::Final(ErrorKind::AddressRefused { host, address })
    }
}

/// A URL's host, an IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a name means this machine by itself (RFC 6761).
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether a URL names this machine, where a proxy is of no use.
pub(crate) fn is_here(url: &Url) -> bool {
    let host = bare(url.host_str().unwrap_or_default());
    is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The refusal inside an error of the HTTP client, where there is one.
pub(crate) fn refused_in(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(Refused { host, address }) = error.downcast_ref() {
            return Some(ErrorKind::AddressRefused { host: host.clone(), address: *address });
        }
        at = error.source();
    }
    None
}

/// Whether an address is this machine's own, its link's, of no single machine, or a metadata service's.
fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let local = match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_link_local() || address.octets()[0] == 0 || address.octets()[0] >= 224
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.segments()[0] & 0xffc0 == 0xfe80
                || embedded(address).is_some_and(|inner| is_local(IpAddr::V4(inner)))
        }
    };
    local || METADATA.contains(&address)
}

/// The IPv4 address that NAT64 reaches through an IPv6 one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    ((a, b, c, d, e, f) == (0x64, 0xff9b, 0, 0, 0, 0)).then(|| {
        let ([w, x], [y, z]) = (g.to_be_bytes(), h.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    })
}

/// Whether an address belongs to the public internet: by the special-purpose registries of IANA, with the addresses that
/// carry an IPv4 address inside judged by that one.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        0 | 10 | 127 => true,
        100 => b & 0xc0 == 64,
        169 => b == 254,
        172 => b & 0xf0 == 16,
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b & 0xfe == 18 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => a >= 224,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    if let Some(inner) = embedded(address) {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Global unicast, without Teredo and its neighbours, 6to4, and the documentation prefixes.
    let special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    a & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.1.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address} was taken for public");
        }
    }

    #[test]
    fn knows_what_is_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address} was refused");
        }
    }

    #[test]
    fn sees_through_ways_to_write_an_address() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]:5000/",
            "https://0/",
            "https://[::ffff:169.254.169.254]/",
            "http://example.com/",
        ] {
            assert!(Reach::Public.check(&url.parse().unwrap()).is_err(), "{url}");
        }
        assert!(Reach::Public.check(&"https://ghcr.io/".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_configured_registry_leads_to_this_machine_only_where_that_is_written() {
        let check = |reach: &Reach, url: &str| reach.check(&url.parse().unwrap()).is_ok();
        let lan = Reach::configured(["registry.lan", "10.0.0.9"].into_iter(), std::iter::empty());
        for url in ["http://10.0.0.9/", "http://192.168.1.1:9000/", "http://registry.lan/", "https://[fd00::1]/"] {
            assert!(check(&lan, url), "{url}");
        }
        let local = [
            "http://127.0.0.1:5050/",
            "http://127.8.8.8/",
            "http://0.0.0.0/",
            "http://0/",
            "http://2130706433/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://224.0.0.1/",
        ];
        for url in local {
            assert!(!check(&lan, url), "{url}");
            assert!(check(&Reach::Anywhere, url), "{url}");
        }
        let here = Reach::configured(["127.0.0.1", "[::1]"].into_iter(), std::iter::empty());
        for (url, meant) in [(local[0], true), ("http://[::1]:1/", true), (local[1], false), (local[5], false)] {
            assert_eq!(check(&here, url), meant, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_looked_up_is_judged_by_its_addresses() {
        let resolve = async |reach: Reach| reach.resolve("localhost".parse().unwrap()).await.map(Iterator::count);
        let configured = |host: &'static str| Reach::configured([host].into_iter(), std::iter::empty());
        for reach in [Reach::Public, configured("registry.lan"), configured("127.0.0.1")] {
            let error = resolve(reach).await.unwrap_err();
            assert!(matches!(refused_in(error.as_ref()), Some(ErrorKind::AddressRefused { .. })), "{error}");
        }
        let proxy = Reach::configured(std::iter::empty(), ["LOCALHOST"].into_iter());
        for reach in [configured("localhost"), proxy, Reach::Anywhere] {
            assert!(resolve(reach).await.unwrap() > 0);
        }
    }
}
