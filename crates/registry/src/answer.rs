//! Answers without a blob's body: headers, JSON, and the distribution-spec's errors.

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use shoal_blob::Digest;

use crate::severed::Severed;

pub(crate) type Body = UnsyncBoxBody<Bytes, Severed>;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// A request that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    fn new(status: StatusCode, code: &'static str, message: impl Display) -> Self {
        Self { status, code, message: message.to_string(), headers: Vec::new() }
    }

    pub(crate) fn no_route(path: &str) -> Self {
        let path: String = path.chars().take(160).collect();
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", format!("nothing is served at {path}"))
    }

    pub(crate) fn name_invalid(error: &impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", error)
    }

    pub(crate) fn digest_invalid(error: &impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error)
    }

    pub(crate) fn reference_invalid(error: &impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error)
    }

    pub(crate) fn name_unknown(repository: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no repository {repository}"))
    }

    pub(crate) fn manifest_unknown(reference: &impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", format!("there is no manifest {reference}"))
    }

    pub(crate) fn blob_unknown(digest: &Digest) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}"))
    }

    pub(crate) fn read_only(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            format!("{method}: this registry can only be pulled from"),
        )
        .header(header::ALLOW, "GET, HEAD")
    }

    pub(crate) fn beyond(length: u64) -> Self {
        let message = format!("the range lies outside the blob's {length} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UNKNOWN", message)
            .header(header::CONTENT_RANGE, &format!("bytes */{length}"))
    }

    pub(crate) fn unauthorized(challenge: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication is required")
            .header(header::WWW_AUTHENTICATE, challenge)
    }

    /// An error that was asked for.
    pub(crate) fn on_request(status: StatusCode, retry_after: Option<Duration>) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::NOT_FOUND => "NAME_UNKNOWN",
            StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        let fault = Self::new(status, code, "this registry was told to refuse the request");
        match retry_after {
            Some(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                fault.header(header::RETRY_AFTER, &seconds.to_string())
            }
            None => fault,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // A value is made of our own words and of names that were checked; one that is not fit for a header is left out.
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer; HEAD gets the headers alone.
    pub(crate) fn into_response(self) -> Response<Body> {
        let errors = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] });
        let mut response = json_response(self.status, "application/json", &errors);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A JSON document.
pub(crate) fn json_response(status: StatusCode, media_type: &str, document: &serde_json::Value) -> Response<Body> {
    full(status, media_type, document.to_string().into())
}

/// Bytes that are in memory.
pub(crate) fn full(status: StatusCode, media_type: &str, bytes: Bytes) -> Response<Body> {
    let length = bytes.len() as u64;
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    response
}

/// The answer to HEAD: the same headers, `Content-Length` among them, and no body.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| empty())
}

pub(crate) fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// A digest as a header's value, bare.
pub(crate) fn digest_value(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&digest.to_string()).expect("a digest is printable ASCII")
}
