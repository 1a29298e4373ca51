//! Which addresses a registry that nobody configured may lead to.
//!
//! A client of the mirror can name any host it likes. Without this check it could make the daemon ask the cloud's metadata
//! service, or any machine of the private network, on its behalf. The check sits where a name becomes an address, so the
//! address that is connected to is the one that was checked: there is no second look-up to be answered otherwise.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use crate::error::{ErrorKind, RefusedAddress};

/// Redirects that are followed in one request; registries use one, to their object store.
const MOST_REDIRECTS: usize = 5;

/// An address, or a URL, that was refused; it travels inside the HTTP client's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host} leads to {address}, which is refused")]
pub(crate) struct Refused {
    pub(crate) host: String,
    pub(crate) address: RefusedAddress,
}

/// Looks names up and passes on only public addresses.
#[derive(Debug)]
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (public, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| is_public(found.ip()));
            match (public.is_empty(), refused.first()) {
                (true, Some(first)) => {
                    let address = RefusedAddress::Address(first.ip());
                    Err(Refused { host: name.as_str().to_owned(), address }.into())
                }
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// Refuses a URL that is not https or whose host is written as an address that is not public. Names are left to
/// [`PublicOnly`].
pub(crate) fn check_url(url: &Url) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default();
    let refused = |address| Err(Refused { host: host.to_owned(), address });
    if url.scheme() != "https" {
        return refused(RefusedAddress::NotHttps);
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if !is_public(address) => refused(RefusedAddress::Address(address)),
        _ => Ok(()),
    }
}

/// Follows a few redirects, never from https to plain http; those of a `guarded` client only to public addresses.
pub(crate) fn redirects(guarded: bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let downgrade =
            attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error("too many redirects");
        }
        let verdict = if guarded { check_url(attempt.url()) } else { Ok(()) };
        match verdict {
            Err(refused) => attempt.error(refused),
            Ok(()) if downgrade => attempt.error("a redirect from https to plain http"),
            Ok(()) => attempt.follow(),
        }
    })
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
    let [a, b, c, d, e, f, g, h] = address.segments();
    if (a, b, c, d, e, f) == (0x64, 0xff9b, 0, 0, 0, 0) {
        let [w, x] = g.to_be_bytes();
        let [y, z] = h.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(w, x, y, z));
    }
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
            assert!(check_url(&url.parse().unwrap()).is_err(), "{url}");
        }
        assert!(check_url(&"https://ghcr.io/".parse().unwrap()).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused() {
        let error = PublicOnly.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(matches!(refused_in(error.as_ref()), Some(ErrorKind::AddressRefused { .. })), "{error}");
    }
}
