//! Manifests: small, byte-exact, with the origin's own type.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use shoal_blob::{Algorithm, Digest, Reference, Repository};

use crate::{
    blob::refuse_encoded,
    body::collect,
    counters::RequestKind,
    error::{ErrorKind, OriginError},
    failure::Failure,
    origins::Origins,
    registry::{Answer, Ask, Registry, Visibility},
};

/// The largest manifest that is accepted, in bytes: what the clients accept.
pub const MOST_MANIFEST_BYTES: usize = 4 << 20;
/// A caller's own `Accept` is passed on up to this many bytes.
const MOST_ACCEPT_BYTES: usize = 4096;

/// What a HEAD tells of a manifest. Complete: where the origin's HEAD is not, a GET has filled it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The origin's `Content-Type`, byte for byte.
    pub content_type: String,
    /// The digest. Where a tag was asked for, the origin's word; after a GET, computed.
    pub digest: Digest,
    /// The length in bytes.
    pub length: u64,
    /// To whom the origin serves it.
    pub visibility: Visibility,
}

/// A manifest whose bytes have the digest that its head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Type, digest and length.
    pub head: ManifestHead,
    /// The bytes, as the origin sent them.
    pub bytes: Bytes,
}

impl Origins {
    /// Asks for the head of a manifest. `accept` is a caller's own `Accept`, sent before the usual types.
    ///
    /// # Errors
    /// [`OriginError`]; [`WrongBytes`](crate::ErrorKind::WrongBytes) when the answer is about another digest than was asked for,
    /// [`TooLarge`](crate::ErrorKind::TooLarge) when it is longer than [`MOST_MANIFEST_BYTES`].
    pub async fn manifest_head(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: Option<&str>,
    ) -> Result<ManifestHead, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = ask(Method::HEAD, &path, reference, accept);
        let head =
            registry.insist(&ask, || async { head(&registry.answer(&ask).await?.success()?, reference) }).await?;
        match head {
            Some(head) => Ok(head),
            None => Ok(get(&registry, &path, reference, accept).await?.head),
        }
    }

    /// Fetches a manifest of at most [`MOST_MANIFEST_BYTES`] and checks it: against the digest it was asked by, or against
    /// the one that the origin names for the tag.
    ///
    /// # Errors
    /// [`OriginError`]; [`TooLarge`](crate::ErrorKind::TooLarge) as soon as the limit is passed,
    /// [`WrongBytes`](crate::ErrorKind::WrongBytes) when the bytes have another digest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: Option<&str>,
    ) -> Result<Manifest, OriginError> {
        let (registry, path) = self.find(repository)?;
        get(&registry, &path, reference, accept).await
    }
}

async fn get(
    registry: &Registry,
    path: &str,
    reference: &Reference,
    accept: Option<&str>,
) -> Result<Manifest, OriginError> {
    let ask = ask(Method::GET, path, reference, accept);
    registry.insist(&ask, || async { read(registry, registry.answer(&ask).await?.success()?, reference).await }).await
}

fn ask(method: Method, path: &str, reference: &Reference, accept: Option<&str>) -> Ask {
    let kind = if method == Method::HEAD { RequestKind::ManifestHead } else { RequestKind::ManifestGet };
    let mut ask = Ask::new(kind, method, path, format!("manifests/{reference}"));
    let usual = usual_types();
    let theirs = accept.filter(|accept| !accept.trim().is_empty() && accept.len() <= MOST_ACCEPT_BYTES);
    let both = theirs.and_then(|theirs| HeaderValue::from_str(&format!("{theirs}, {usual}")).ok());
    if let Some(value) = both.or_else(|| HeaderValue::from_str(&usual).ok()) {
        ask.headers.insert(header::ACCEPT, value);
    }
    ask
}

/// Every type of manifest: a registry answers 404 for one of a type that was not asked for, `*/*` or not.
pub(crate) fn usual_types() -> String {
    [OCI_IMAGE_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, "*/*"]
        .join(", ")
}

/// The head of a manifest, where the headers have all of it.
fn head(answer: &Answer, reference: &Reference) -> Result<Option<ManifestHead>, Failure> {
    let headers = answer.response.headers();
    refuse_encoded(headers)?;
    let named = named(headers)?;
    if let (Reference::Digest(asked), Some(named)) = (reference, &named) {
        differ(asked, named)?;
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let digest = match reference {
        Reference::Digest(asked) => Some(*asked),
        Reference::Tag(_) => named,
    };
    let (Some(content_type), Some(digest), Some(length)) = (content_type(headers), digest, length) else {
        return Ok(None);
    };
    if length > MOST_MANIFEST_BYTES as u64 {
        // A GET would fail: a client that is told so now goes elsewhere at once.
        return Err(Failure::Final(ErrorKind::TooLarge { limit: MOST_MANIFEST_BYTES as u64 }));
    }
    Ok(Some(ManifestHead { content_type, digest, length, visibility: answer.visibility }))
}

async fn read(registry: &Registry, answer: Answer, reference: &Reference) -> Result<Manifest, Failure> {
    let Answer { response, visibility, .. } = answer;
    refuse_encoded(response.headers())?;
    let named = named(response.headers())?;
    let told = content_type(response.headers());
    let note = |bytes| registry.counters.received(RequestKind::ManifestGet, bytes);
    let bytes = collect(response, MOST_MANIFEST_BYTES, registry.patience.stall, note).await?;
    let expected = match reference {
        Reference::Digest(asked) => Some(*asked),
        Reference::Tag(_) => named,
    };
    let digest = digest_of(expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()), &bytes);
    if let Some(expected) = expected {
        differ(&expected, &digest)?;
    }
    let content_type = told.unwrap_or_else(|| own_type(&bytes));
    let head = ManifestHead { content_type, digest, length: bytes.len() as u64, visibility };
    Ok(Manifest { head, bytes })
}

fn differ(expected: &Digest, got: &Digest) -> Result<(), Failure> {
    // A registry may name a manifest by its sha256 that was asked for by its sha512.
    if expected.algorithm() == got.algorithm() && expected != got {
        return Err(Failure::wrong(format!("{got} where {expected} was expected")));
    }
    Ok(())
}

fn named(headers: &HeaderMap) -> Result<Option<Digest>, Failure> {
    let Some(value) = headers.get("docker-content-digest") else { return Ok(None) };
    let text = value.to_str().map_err(|_| Failure::wrong("a Docker-Content-Digest that is not text"))?;
    text.parse().map(Some).map_err(|error| Failure::wrong(format!("a Docker-Content-Digest that is none: {error}")))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
}

/// What a manifest says of itself, where the origin says nothing.
pub(crate) fn own_type(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    typed
        .filter(|text| HeaderValue::from_str(text).is_ok() && text.len() <= 255)
        .unwrap_or_else(|| OCI_IMAGE_MEDIA_TYPE.to_owned())
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::Sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::Sha512(Sha512::digest(bytes).into()),
    }
}
