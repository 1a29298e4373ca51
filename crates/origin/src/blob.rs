//! How long a blob is, and to whom it is served.

use http::{HeaderValue, Method, StatusCode, header};
use shoal_blob::{Digest, Repository};

use crate::{
    content_range::ContentRange,
    counters::RequestKind,
    error::OriginError,
    failure::Failure,
    origins::Origins,
    registry::{Answer, Ask, Visibility},
};

/// What a HEAD tells of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// Its length in bytes.
    pub length: u64,
    /// To whom it is served.
    pub visibility: Visibility,
}

impl Origins {
    /// Asks how long a blob is: one HEAD. There are more only where the first was not allowed (anybody is asked as first, and
    /// whether a repository is open to all is remembered) or failed; how to authorize is learnt from `/v2/`, not by a HEAD.
    /// An origin whose HEAD tells no length is asked for the first byte instead.
    ///
    /// # Errors
    /// [`OriginError`]; [`refusal`](OriginError::refusal) for 401, 403 and 404.
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<BlobHead, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = Ask::new(RequestKind::BlobHead, Method::HEAD, &path, format!("blobs/{digest}"));
        let (length, visibility) =
            registry.insist(&ask, || async { length(&registry.answer(&ask).await?.success()?, digest) }).await?;
        if let Some(length) = length {
            return Ok(BlobHead { length, visibility });
        }
        let mut ask = Ask { kind: RequestKind::BlobGet, method: Method::GET, ..ask };
        ask.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let (length, visibility) = registry.insist(&ask, || async { total(&registry.answer(&ask).await?) }).await?;
        Ok(BlobHead { length, visibility })
    }
}

fn length(answer: &Answer, digest: &Digest) -> Result<(Option<u64>, Visibility), Failure> {
    let headers = answer.response.headers();
    let named = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
    // Only a digest that can be read and is of the same algorithm can contradict.
    let named = named.and_then(|text| text.parse::<Digest>().ok());
    if let Some(other) = named.filter(|other| other.algorithm() == digest.algorithm() && other != digest) {
        return Err(Failure::wrong(format!("the answer is about {other}")));
    }
    refuse_encoded(headers)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).map(str::parse::<u64>);
    match length {
        None => Ok((None, answer.visibility)),
        Some(Ok(length)) => Ok((Some(length), answer.visibility)),
        Some(Err(_)) => Err(Failure::wrong("a Content-Length that is not a number")),
    }
}

fn total(answer: &Answer) -> Result<(u64, Visibility), Failure> {
    let Answer { response, visibility, .. } = answer;
    let visibility = *visibility;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => ContentRange::read(response.headers())
            .and_then(|range| range.total)
            .map(|total| (total, visibility))
            .ok_or_else(|| Failure::wrong("neither HEAD nor Content-Range tells the blob's length")),
        StatusCode::OK => response
            .content_length()
            .map(|length| (length, visibility))
            .ok_or_else(|| Failure::wrong("neither HEAD nor GET tells the blob's length")),
        // There is no first byte.
        StatusCode::RANGE_NOT_SATISFIABLE => Ok((0, visibility)),
        status => Err(Failure::of_status(status, response.headers())),
    }
}

/// Refuses a body that is encoded on the way although `identity` was asked for: its offsets are not the blob's.
pub(crate) fn refuse_encoded(headers: &http::HeaderMap) -> Result<(), Failure> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Failure::wrong("a body with a Content-Encoding, although identity was asked for"))
        }
        _ => Ok(()),
    }
}
