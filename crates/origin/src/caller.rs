//! Callers who prove themselves: the origin's challenge for them, and the origin's verdict on what they show.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use shoal_blob::{Reference, Repository};

use crate::{
    challenge::with_scope,
    counters::RequestKind,
    error::{ErrorKind, OriginError},
    failure::Failure,
    manifest::usual_types,
    origins::Origins,
    registry::Ask,
    retry::retry_after,
    token::{LONGEST_LIFE, UNTOLD_LIFE, jwt_life},
};

/// The longest authorization that is passed on.
const MOST_AUTHORIZATION_BYTES: usize = 16 * 1024;

/// What the origin said to a caller's own authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would serve the content to this caller. The word may be kept until then: as long as the token lives, one hour at
    /// most, 60 s where that cannot be read.
    Allowed {
        /// When the origin must be asked again.
        until: Instant,
    },
    /// It would not.
    Denied {
        /// What the origin asks of this caller, where it would listen to it again: what was shown has ended, or was never
        /// good. As [`Origins::challenge`].
        challenge: Option<String>,
    },
}

impl Origins {
    /// The challenge to show to a caller who has not said who it is: the origin's own `WWW-Authenticate`, with the scope of
    /// pulling from this repository where it names none. `None` when the origin asks nobody.
    ///
    /// # Errors
    /// [`OriginError`] when the origin cannot be asked.
    pub async fn challenge(&self, repository: &Repository) -> Result<Option<String>, OriginError> {
        let (registry, path) = self.find(repository)?;
        let headers = registry.ping().await.map_err(|failure| OriginError {
            registry: registry.name.clone(),
            what: "GET /v2/".to_owned(),
            kind: failure.kind(),
        })?;
        Ok(challenge_in(&headers, &path))
    }

    /// Whether the origin serves something to anybody, by one HEAD as anybody.
    ///
    /// # Errors
    /// [`OriginError`] when the origin gave no verdict. A refusal is one.
    pub async fn is_public(
        &self,
        repository: &Repository,
        reference: &Reference,
        blob: bool,
    ) -> Result<bool, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = proof(&path, reference, blob);
        verdict(registry.insist(&ask, || registry.answer_to_anybody(&ask)).await)
    }

    /// Whether the origin serves something to this node, with its own credentials where it takes them.
    ///
    /// # Errors
    /// As [`Origins::is_public`].
    pub async fn is_served(
        &self,
        repository: &Repository,
        reference: &Reference,
        blob: bool,
    ) -> Result<bool, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = proof(&path, reference, blob);
        verdict(registry.insist(&ask, || async { registry.answer(&ask).await?.success().map(drop) }).await)
    }

    /// Asks the origin, by one HEAD with the caller's own authorization, whether it would serve this caller. `blob` when the
    /// reference is a blob's digest rather than a manifest's. The authorization goes to the registry alone: no redirect is
    /// followed, and one that keeps the method counts as consent.
    ///
    /// # Errors
    /// [`OriginError`] when the origin gave no verdict, a rate limit included. Not tried again: the caller will.
    pub async fn prove(
        &self,
        repository: &Repository,
        reference: &Reference,
        blob: bool,
        authorization: &str,
    ) -> Result<Verdict, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = proof(&path, reference, blob);
        let Some((value, life)) = shown(authorization) else {
            return Ok(Verdict::Denied { challenge: None });
        };
        let verdict = match registry.send_as_caller(&ask, &value).await {
            Ok(response) => match response.status() {
                status if status.is_success() => Ok(Verdict::Allowed { until: Instant::now() + life }),
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    Ok(Verdict::Allowed { until: Instant::now() + life })
                }
                StatusCode::UNAUTHORIZED => Ok(Verdict::Denied { challenge: challenge_in(response.headers(), &path) }),
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(Verdict::Denied { challenge: None }),
                StatusCode::TOO_MANY_REQUESTS => {
                    let wait = retry_after(response.headers(), std::time::SystemTime::now());
                    Err(Failure::Final(ErrorKind::RateLimited { retry_after: wait }))
                }
                status => Err(Failure::of_status(status, response.headers())),
            },
            Err(failure) => Err(failure),
        };
        verdict.map_err(|failure| registry.error(&ask, failure.kind()))
    }
}

/// A refusal is a verdict; a failure is none.
fn verdict(outcome: Result<(), OriginError>) -> Result<bool, OriginError> {
    match outcome {
        Err(error) if error.refusal().is_some() => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

fn proof(path: &str, reference: &Reference, blob: bool) -> Ask {
    let tail = if blob { format!("blobs/{reference}") } else { format!("manifests/{reference}") };
    let mut ask = Ask::new(RequestKind::Proof, Method::HEAD, path, tail);
    if let Ok(types) = HeaderValue::from_str(&usual_types()) {
        ask.headers.insert(header::ACCEPT, types);
    }
    ask
}

/// The challenge of an answer, with the scope of pulling from the repository where it names none.
fn challenge_in(headers: &HeaderMap, path: &str) -> Option<String> {
    let value = headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    value.map(|value| with_scope(value, path))
}

/// The header to show and how long its verdict may be kept; `None` for what no registry takes.
fn shown(authorization: &str) -> Option<(HeaderValue, Duration)> {
    if authorization.len() > MOST_AUTHORIZATION_BYTES {
        return None;
    }
    let (scheme, secret) = authorization.trim().split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    if !bearer && !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let life = if bearer { jwt_life(secret.trim()) } else { None };
    let mut value = HeaderValue::from_str(authorization.trim()).ok()?;
    value.set_sensitive(true);
    Some((value, life.unwrap_or(UNTOLD_LIFE).min(LONGEST_LIFE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_registries_take_is_shown_to_them() {
        assert!(shown("Bearer abc").is_some_and(|(value, life)| value.is_sensitive() && life == UNTOLD_LIFE));
        assert!(shown("basic YTpi").is_some());
        for wrong in ["", "Bearer", "Digest x", "Bearer a\nb", &format!("Bearer {}", "x".repeat(20_000))] {
            assert!(shown(wrong).is_none(), "{wrong:?}");
        }
    }
}
