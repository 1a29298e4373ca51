//! What can go wrong between here and an origin, said so that somebody can act on it.

use std::{fmt, net::IpAddr, time::Duration};

/// A request to an origin that did not succeed: what was asked, of whom, and why it failed.
///
/// No message holds a credential, a token or a signed address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {registry}: {kind}")]
pub struct OriginError {
    /// The registry as clients name it.
    pub registry: String,
    /// What was asked, as in `GET library/alpine manifest latest`.
    pub what: String,
    /// Why it failed.
    pub kind: ErrorKind,
}

/// Why an origin did not give what it was asked for. Each message ends with what may be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The registry is not in the configuration, and not every registry is allowed.
    #[error("the registry is not configured; add it with `registry`, or set `allow_any_registry`")]
    RegistryNotConfigured,
    /// The registry, its token service or a redirect leads to where it must not.
    #[error("{host} leads to {address}")]
    AddressRefused {
        /// The host that was looked up.
        host: String,
        /// The first address that was refused, and why.
        address: RefusedAddress,
    },
    /// 401 after every credential was tried.
    #[error("the origin wants other credentials (401); check `credentials` for this registry")]
    Unauthorized,
    /// 403 after every credential was tried.
    #[error("the origin forbids it (403); check what the credentials of this registry may read")]
    Forbidden,
    /// 404, or 416 for a range that should exist.
    #[error("the origin does not have it (404)")]
    NotFound,
    /// The answer is larger than what is accepted.
    #[error("the answer is larger than {limit} bytes, the most that is accepted")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// 429, and waiting did not help or would take too long.
    #[error("the origin limits the rate (429){}; wait, or use credentials with a higher limit", after(*.retry_after))]
    RateLimited {
        /// How long the origin asked to wait.
        retry_after: Option<Duration>,
    },
    /// The origin cannot be reached, breaks connections, or answers with 5xx.
    #[error("the origin is unavailable: {0}; retried until the budget was spent")]
    Unavailable(Trouble),
    /// No byte came for so long, several times.
    #[error("the origin sent no byte for {0:?}; retried until the budget was spent")]
    Stalled(Duration),
    /// What came is not what was asked for.
    #[error("the origin sent something else than what was asked for: {0}")]
    WrongBytes(String),
    /// The origin answers a request for a range with the whole.
    #[error("the origin does not serve ranges: it answered a request for the middle of a blob with all of it")]
    NoRanges,
    /// An answer that the distribution protocol does not know here.
    #[error("the origin answered {0}, which is not an answer to this request")]
    Unexpected(u16),
    /// The request could not be made of what the caller gave.
    #[error("the request is not valid: {0}")]
    Invalid(String),
}

/// What made an origin unavailable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A status of 5xx or 408.
    #[error("status {0}")]
    Status(u16),
    /// The network, TLS, or HTTP itself.
    #[error("{0}")]
    Network(String),
}

/// What is wrong with where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedAddress {
    /// An address that is not public, and a registry that is not configured.
    NotPublic(IpAddr),
    /// An address of this machine or its link, or a metadata service's, that the configuration does not write.
    Local(IpAddr),
    /// A URL that is not https.
    NotHttps,
}

/// The refusals that return a lease: another node, with other credentials, may fare better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
}

impl OriginError {
    /// Whether the origin refused, rather than failed.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            ErrorKind::Unauthorized => Some(Refusal::Unauthorized),
            ErrorKind::Forbidden => Some(Refusal::Forbidden),
            ErrorKind::NotFound => Some(Refusal::NotFound),
            _ => None,
        }
    }

    /// Whether the origin could not be reached or did not work, so that a remembered answer may stand in.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable(_) | ErrorKind::Stalled(_) | ErrorKind::RateLimited { .. })
    }
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPublic(address) => {
                write!(f, "{address}, which is not a public address; configure the registry if it is meant")
            }
            Self::Local(address) => write!(
                f,
                "{address}, which is this machine's own, link-local or a metadata service's; if it is meant, write that \
                 address in the registry's `url`, or set `allow_local` for the registry"
            ),
            Self::NotHttps => f.write_str("a URL without https, which is not followed from here"),
        }
    }
}

fn after(wait: Option<Duration>) -> String {
    wait.map(|wait| format!(", for {} s", wait.as_secs())).unwrap_or_default()
}
