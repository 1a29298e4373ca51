//! Lists that are passed through as the origin gives them: tags and referrers.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use shoal_blob::{Digest, Repository};

use crate::{
    body::collect,
    counters::RequestKind,
    error::OriginError,
    failure::Failure,
    origins::Origins,
    registry::{Answer, Ask, Registry, Visibility},
};

/// The longest list that is passed through, in bytes.
const MOST_BYTES: usize = 8 << 20;
/// The headers that are passed through.
const KEPT: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::LINK,
    header::RETRY_AFTER,
    HeaderName::from_static("oci-filters-applied"),
    HeaderName::from_static("docker-content-digest"),
];

/// A list that a registry keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// `tags/list`.
    Tags,
    /// `referrers/<digest>`.
    Referrers(Digest),
}

/// An answer as the origin gave it, of any status.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The origin's status: its 404 stays a 404, its 429 a 429.
    pub status: StatusCode,
    /// `Content-Type`, `Link`, `OCI-Filters-Applied`, `Docker-Content-Digest` and `Retry-After`, as far as they were sent.
    pub headers: HeaderMap,
    /// The body, 8 MiB at most.
    pub body: Bytes,
    /// To whom the origin served it.
    pub visibility: Visibility,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags => f.write_str("tags/list"),
            Self::Referrers(digest) => write!(f, "referrers/{digest}"),
        }
    }
}

impl Origins {
    /// Passes a request for a list through, with the caller's query (as in `n=10&last=x`; what the query must not contain is
    /// percent-encoded).
    ///
    /// # Errors
    /// [`OriginError`] only when there is no answer at all, or one of more than 8 MiB; a refusal is an answer.
    pub async fn relay(
        &self,
        repository: &Repository,
        listing: &Listing,
        query: Option<&str>,
    ) -> Result<Relayed, OriginError> {
        let (registry, path) = self.find(repository)?;
        let mut ask = Ask::new(RequestKind::Relay, Method::GET, &path, listing.to_string());
        ask.query = query.filter(|query| !query.is_empty()).map(str::to_owned);
        registry.insist(&ask, || async { read(&registry, registry.answer(&ask).await?).await }).await
    }
}

async fn read(registry: &Registry, answer: Answer) -> Result<Relayed, Failure> {
    let Answer { response, visibility, .. } = answer;
    let status = response.status();
    if status.is_server_error() {
        // Worth another attempt; the last one's status is told by the error.
        return Err(Failure::of_status(status, response.headers()));
    }
    let mut headers = HeaderMap::new();
    for name in &KEPT {
        for value in response.headers().get_all(name) {
            headers.append(name, value.clone());
        }
    }
    let note = |bytes| registry.counters.received(RequestKind::Relay, bytes);
    let body = collect(response, MOST_BYTES, registry.patience.stall, note).await?;
    Ok(Relayed { status, headers, body, visibility })
}
