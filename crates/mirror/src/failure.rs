//! Every way in which a request can fail, and what the client is told.
//!
//! The statuses are chosen for what clients do with them. On 403, 404, 502, 503 and 504 containerd goes on to the next
//! host, which in the end is the origin itself. `408` and `429` would make it retry here at once, several times; a
//! redirect it did not follow ends its pull: none of these is ever sent.

use http::{HeaderValue, StatusCode};

/// Why a request was not answered with what it asked for. The text is what client and log are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The path is not one of the registry's.
    #[error("no such endpoint; this is a registry's pull side, below /v2/")]
    RouteUnknown,
    /// The method is not one that a mirror has.
    #[error("the mirror only reads: use GET or HEAD, and push to the registry itself")]
    MethodUnsupported,
    /// The registry or repository does not fit the grammar.
    #[error("{reason}")]
    NameInvalid {
        /// Which part, and what was expected.
        reason: String,
    },
    /// The reference of a manifest is neither a tag nor a digest.
    #[error("{reason}")]
    ReferenceInvalid {
        /// What was expected.
        reason: String,
    },
    /// A digest does not fit the grammar, or its algorithm is unknown.
    #[error("{reason}")]
    DigestInvalid {
        /// What was expected.
        reason: String,
    },
    /// The `Range` header is malformed, or asks for nothing that the blob has.
    #[error("{reason}; the blob has {length} bytes")]
    RangeInvalid {
        /// What is wrong with it.
        reason: String,
        /// The blob's length in bytes.
        length: u64,
    },
    /// The repository does not exist.
    #[error("the origin does not know this repository")]
    NameUnknown,
    /// The manifest does not exist in the repository.
    #[error("the origin does not know this manifest")]
    ManifestUnknown,
    /// The blob does not exist in the repository.
    #[error("the origin does not know this blob")]
    BlobUnknown,
    /// The registry is not one that the daemon may ask.
    #[error("registry {registry} is not configured here; allow it with --registry {registry}")]
    RegistryNotConfigured {
        /// The registry as it was named.
        registry: String,
    },
    /// The origin refused the daemon itself, or the daemon's credentials.
    #[error("the origin denied access: {reason}")]
    OriginDenied {
        /// What the origin said.
        reason: String,
    },
    /// The caller has not proven that it may read this, and a token would not help.
    #[error("access denied: {reason}")]
    CallerDenied {
        /// What is missing.
        reason: String,
    },
    /// The caller has to prove that it may read this, with a token that the challenge says how to get.
    #[error("authentication required")]
    Challenge {
        /// The origin's `WWW-Authenticate` header.
        www_authenticate: HeaderValue,
    },
    /// The origin's manifest is larger than any client takes.
    #[error("the origin's manifest is larger than {limit} bytes")]
    ManifestTooLarge {
        /// The most that is taken, in bytes.
        limit: u64,
    },
    /// The origin could not be reached.
    #[error("the origin cannot be reached: {reason}")]
    OriginUnreachable {
        /// What was tried and what happened.
        reason: String,
    },
    /// The origin answered with something that cannot be used.
    #[error("the origin failed: {reason}")]
    OriginFailed {
        /// What it answered.
        reason: String,
    },
    /// There is no room for the blob, and nothing may be evicted for it.
    #[error("the store is full: {reason}")]
    StoreFull {
        /// How much was needed, and what the limit is.
        reason: String,
    },
    /// A limit on work in progress was reached.
    #[error("too busy: {reason}")]
    Overloaded {
        /// Which limit.
        reason: String,
    },
    /// The daemon is about to stop.
    #[error("the mirror is shutting down")]
    Draining,
    /// Nothing moved for too long.
    #[error("timed out: {reason}")]
    Stalled {
        /// What was waited for, and how long.
        reason: String,
    },
    /// Something failed that should not.
    #[error("internal error: {reason}")]
    Internal {
        /// What.
        reason: String,
    },
}

impl Failure {
    pub(crate) fn too_many_connections(limit: usize) -> Self {
        Self::Overloaded { reason: format!("{limit} connections are open, which is the limit") }
    }

    /// The table: the HTTP status and the error code that a client gets.
    ///
    /// The codes are those of the distribution-spec, and where it has none, those of the reference implementation.
    #[must_use]
    pub const fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::RouteUnknown => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::MethodUnsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::NameInvalid { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            // No manifest has such a name: the conformance suite asks for one to see a 404.
            Self::ReferenceInvalid { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::DigestInvalid { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::RangeInvalid { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
            Self::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::RegistryNotConfigured { .. } | Self::OriginDenied { .. } | Self::CallerDenied { .. } => {
                (StatusCode::FORBIDDEN, "DENIED")
            }
            Self::Challenge { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            // 413 would speak of the request; here it is the origin that sent too much.
            Self::ManifestTooLarge { .. } => (StatusCode::BAD_GATEWAY, "MANIFEST_INVALID"),
            Self::OriginUnreachable { .. } | Self::OriginFailed { .. } => (StatusCode::BAD_GATEWAY, "UNAVAILABLE"),
            Self::StoreFull { .. } | Self::Overloaded { .. } | Self::Draining => {
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
            }
            Self::Stalled { .. } => (StatusCode::GATEWAY_TIMEOUT, "UNAVAILABLE"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }
}
