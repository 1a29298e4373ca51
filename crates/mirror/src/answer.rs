//! Answers that are not a blob: their headers, and the registry's form of an error.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, response::Builder};
use serde_json::{Value, json};
use shoal_blob::Digest;

use crate::{Failure, Manifest, body::Body, conditions};

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// An answer with the headers that all have.
pub(crate) fn of(status: StatusCode) -> Builder {
    Response::builder().status(status).header(API_VERSION, "registry/2.0")
}

/// An answer about content with this digest.
pub(crate) fn about(status: StatusCode, digest: &Digest) -> Builder {
    of(status).header(DOCKER_CONTENT_DIGEST, digest.to_string()).header(header::ETAG, conditions::etag(digest))
}

/// Adds the body. All headers were made of checked parts by then.
pub(crate) fn with(builder: Builder, body: impl Into<Body>) -> Response<Body> {
    builder.body(body.into()).expect("every header was checked when it was made")
}

/// `/v2/`: yes, this is a registry.
pub(crate) fn ping() -> Response<Body> {
    with(
        of(StatusCode::OK).header(header::CONTENT_TYPE, "application/json").header(header::CONTENT_LENGTH, 2),
        Bytes::from_static(b"{}"),
    )
}

/// What the client said it already has.
pub(crate) fn not_modified(digest: &Digest) -> Response<Body> {
    with(about(StatusCode::NOT_MODIFIED, digest), Bytes::new())
}

/// A manifest. Fails when its parts do not fit each other.
pub(crate) fn manifest(manifest: Manifest, method: &Method) -> Result<Response<Body>, Failure> {
    let mut builder = about(StatusCode::OK, &manifest.digest)
        .header(header::CONTENT_TYPE, manifest.content_type)
        .header(header::CONTENT_LENGTH, manifest.length);
    if let Some(warning) = &manifest.warning {
        builder = builder.header(header::WARNING, warning_text(warning));
    }
    if method == Method::HEAD {
        return Ok(with(builder, Bytes::new()));
    }
    match manifest.bytes {
        Some(bytes) if bytes.len() as u64 == manifest.length => Ok(with(builder, bytes)),
        Some(bytes) => Err(Failure::Internal {
            reason: format!("a manifest of {} bytes is said to have {}", bytes.len(), manifest.length),
        }),
        None => Err(Failure::Internal { reason: "a manifest was found without its bytes".to_owned() }),
    }
}

/// The form that the distribution-spec gives to warnings: `299 - "text"`.
fn warning_text(text: &str) -> HeaderValue {
    let plain = |c: &char| (' '..='~').contains(c) && !matches!(c, '"' | '\\');
    let text: String = text.chars().map(|c| if plain(&c) { c } else { '\'' }).take(1024).collect();
    HeaderValue::try_from(format!("299 - \"{text}\"")).expect("it is plain ASCII")
}

/// The registry's form of an error.
pub(crate) fn error_text(failure: &Failure, detail: &Value) -> String {
    let (_, code) = failure.answer();
    json!({ "errors": [{ "code": code, "message": failure.to_string(), "detail": detail }] }).to_string()
}

/// The answer to a request that failed. `detail` says what was asked for.
pub(crate) fn failure(failure: &Failure, detail: &Value) -> Response<Body> {
    let (status, _) = failure.answer();
    let mut builder = of(status).header(header::CONTENT_TYPE, "application/json");
    match failure {
        Failure::MethodUnsupported => builder = builder.header(header::ALLOW, "GET, HEAD"),
        Failure::RangeInvalid { length, .. } => {
            builder = builder.header(header::CONTENT_RANGE, format!("bytes */{length}"));
        }
        Failure::Challenge { www_authenticate } => {
            builder = builder.header(header::WWW_AUTHENTICATE, www_authenticate);
        }
        _ => {}
    }
    let body = Bytes::from(error_text(failure, detail));
    with(builder.header(header::CONTENT_LENGTH, body.len()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_always_a_header() {
        assert_eq!(warning_text("a \"tag\"\r\nis ölder"), "299 - \"a 'tag'''is 'lder\"");
        assert!(warning_text(&"x".repeat(9999)).len() < 1100);
    }
}
