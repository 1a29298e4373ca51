//! The words that settings are written in. Each reads a text, says what it expected where it cannot, and writes itself
//! back so that it reads the same again.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shoal_blob::Repository;
use shoal_origin::{Access, Proxy};

/// A text is not what the setting takes. The message says what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub(super) &'static str);

/// Bytes, written as `512MiB`, `10GiB`, `1TB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A duration, written as `500ms`, `30s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// An address of this machine to listen on, written as `127.0.0.1:5050` or `[::1]:5050`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

/// Another machine, written as `HOST:PORT`; the host is a name, which may have many addresses, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// The port, from 1 on.
    pub port: u16,
}

/// What peers are told about where this node is, written as `10.0.0.7` or `10.0.0.7:5051`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The address; never the unspecified one.
    pub address: IpAddr,
    /// The port, where it is not the one that the node listens on.
    pub port: Option<u16>,
}

/// The name of a zone: 1 to 64 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub String);

/// A number of things, from 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub NonZeroU16);

/// Which log lines are written: a level, or `target=level` directives with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives(pub String);

/// Who may read private content of a registry, written as `NAME=caller` or `NAME=node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessOf {
    /// The registry.
    pub registry: String,
    /// Who.
    pub access: Access,
}

/// The certificates to trust for a registry beside the system's, written as `NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaOf {
    /// The registry.
    pub registry: String,
    /// A file of PEM certificates.
    pub file: PathBuf,
}

/// The proxy on the way to registries, written as `http://HOST:PORT`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl(pub Proxy);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: one line an event, in colour on a terminal.
    Human,
    /// For machines: one JSON object a line.
    Json,
}

impl FromStr for Size {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = Expected("a size such as 512MiB, 10GiB or 1TB, or a number of bytes");
        text.trim().parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| expected)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = Expected("a duration such as 500ms, 30s or 2m");
        humantime::parse_duration(text.trim()).map(Self).map_err(|_| expected)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for Listen {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = Expected("ADDRESS:PORT, such as 127.0.0.1:5050, 0.0.0.0:5050 or [::]:5050");
        text.parse().map(Self).map_err(|_| expected)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = Expected("HOST:PORT, such as shoal-peers.shoal.svc:5051, 10.0.0.7:5051 or [2001:db8::7]:5051");
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(expected),
                port => Ok(Self { host: address.ip().to_string(), port }),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(expected)?;
        let port: NonZeroU16 = port.parse().map_err(|_| expected)?;
        // The underscore is no host name's, but names in DNS have it.
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let named = host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(fits);
        named.then(|| Self { host: host.to_owned(), port: port.get() }).ok_or(expected)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.host.contains(':');
        if brackets { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl FromStr for Advertised {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected =
            Expected("an address that peers can reach, with or without a port, such as 10.0.0.7 or 10.0.0.7:5051");
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let this = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(address), _) => Self { address, port: None },
            (_, Ok(whole)) if whole.port() > 0 => Self { address: whole.ip(), port: Some(whole.port()) },
            _ => return Err(expected),
        };
        if this.address.is_unspecified() { Err(expected) } else { Ok(this) }
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// Port 0 stands for the port that the node listens on.
impl From<Advertised> for SocketAddr {
    fn from(this: Advertised) -> Self {
        Self::new(this.address, this.port.unwrap_or(0))
    }
}

impl FromStr for Zone {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        fits.then(|| Self(text.to_owned())).ok_or(Expected("1 to 64 characters of [A-Za-z0-9._-], such as eu-west-1a"))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Count {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.trim().parse().map(Self).map_err(|_| Expected("a whole number from 1 to 65535"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Directives {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected =
            Expected("a level (error, warn, info, debug, trace) or directives such as info,shoal_swarm=debug");
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.trim().is_empty() => Ok(Self(text.to_owned())),
            _ => Err(expected),
        }
    }
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a flag's yes or no.
pub(super) fn yes_or_no(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Expected("true or false")),
    }
}

/// The two parts of `NAME=VALUE`, the name being a registry's.
fn of_registry(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    Repository::new(name, "a").ok().filter(|_| !value.is_empty())?;
    Some((name.to_owned(), value))
}

impl FromStr for AccessOf {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        of_registry(text)
            .and_then(|(registry, access)| Some(Self { registry, access: access.parse().ok()? }))
            .ok_or(Expected("NAME=caller or NAME=node, where NAME is a configured registry"))
    }
}

impl fmt::Display for AccessOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Caller => "caller",
            Access::Node => "node",
        };
        write!(f, "{}={access}", self.registry)
    }
}

impl FromStr for CaOf {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        of_registry(text)
            .map(|(registry, file)| Self { registry, file: file.into() })
            .ok_or(Expected("NAME=FILE, where NAME is a configured registry and FILE has PEM certificates"))
    }
}

impl fmt::Display for CaOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.registry, self.file.display())
    }
}

impl FromStr for ProxyUrl {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse().map(Self).map_err(|_| {
            Expected(
                "http://HOST:PORT, https://HOST:PORT or none; a proxy that wants credentials is given as HTTPS_PROXY and \
                 HTTP_PROXY in the environment, which nobody prints",
            )
        })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back<T: FromStr<Err = Expected> + fmt::Display + PartialEq + fmt::Debug>(texts: &[&str]) {
        for text in texts {
            let value: T = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(&value), "{text:?}");
        }
    }

    fn refuses<T: FromStr<Err = Expected> + fmt::Debug>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn values_read_what_they_write() {
        reads_back::<Size>(&["0", "1", "512MiB", "1.5GiB", "10 GB", "100Gi", "7TiB", "1048577"]);
        reads_back::<Span>(&["0s", "30s", "500ms", "1h 5m"]);
        reads_back::<Listen>(&["127.0.0.1:5050", "[::]:0"]);
        reads_back::<Endpoint>(&[
            "shoal-peers.shoal.svc.cluster.local.:5051",
            "10.0.0.1:1",
            "[2001:db8::7]:5051",
            "a_b:9",
        ]);
        reads_back::<Advertised>(&["10.0.0.7", "10.0.0.7:5051", "::1", "[::1]", "[2001:db8::7]:5051"]);
        reads_back::<Zone>(&["eu-west-1a", "rack_7.b"]);
        reads_back::<Count>(&["1", "65535"]);
        reads_back::<Directives>(&["info", "warn,shoal_swarm=debug"]);
        reads_back::<AccessOf>(&["docker.io=caller", "localhost:5000=node"]);
        reads_back::<ProxyUrl>(&["none", "proxy.corp:3128", "https://10.0.0.1", "http://[::1]:3128"]);
        reads_back::<CaOf>(&["r.example:5000=/etc/ca=1.pem"]);
    }

    #[test]
    fn values_refuse_what_cannot_be_meant() {
        refuses::<Size>(&["", "lots", "-1", "1XB", "1.2.3GiB", "GiB"]);
        refuses::<Span>(&["", "30", "-1s", "soon"]);
        refuses::<Listen>(&["", "5050", "localhost:5050", ":5050", "127.0.0.1", "127.0.0.1:70000"]);
        refuses::<Endpoint>(&[
            "",
            "host",
            "host:",
            "host:0",
            "10.0.0.1:0",
            "a b:1",
            "-:x",
            "a..b:1",
            "http://a:1",
            "::1:1",
        ]);
        refuses::<Advertised>(&["", "0.0.0.0", "[::]:5051", "host", "10.0.0.1:0"]);
        refuses::<Zone>(&["", "a b", "é", &"z".repeat(65)]);
        refuses::<Count>(&["", "0", "65536", "many"]);
        refuses::<Directives>(&["", " ", "loud=x=y"]);
        refuses::<AccessOf>(&["", "docker.io", "docker.io=all", "a b=node"]);
        refuses::<ProxyUrl>(&["", "socks5://proxy", "http://me:secret@proxy", "http://proxy/path"]);
        refuses::<CaOf>(&["", "docker.io", "docker.io="]);
    }

    #[test]
    fn sizes_are_shown_exactly() {
        for (bytes, text) in [(0, "0"), (1 << 30, "1GiB"), (3 << 29, "1536MiB"), (1 << 50, "1024TiB"), (1000, "1000")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
