//! What each request is answered.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde_json::json;
use shoal_blob::{Digest, Reference};
use tokio::sync::watch;

use crate::{
    Blob, Faults, Target,
    access::{Access, Challenge},
    answer::{self, Body, CONTENT_DIGEST, Fault},
    asked::Asked,
    body::Sending,
    byte_range::Part,
    catalog::Catalog,
    faults::Mischief,
    ledger::{Account, Ledger},
    refusal::{Aimed, Treatment},
    wire::Ending,
};

/// The most tags in one answer.
const MOST_TAGS: usize = 1000;
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The registry as its connections see it.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) access: Access,
    pub(crate) mischief: watch::Sender<Arc<Mischief>>,
    pub(crate) ledger: Arc<Ledger>,
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the request was left without an answer, as a fault asked")]
pub(crate) struct Unanswered;

/// Why a request does not get what it asks for.
enum Denied {
    Answer(Fault),
    Hang,
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}

/// What of a request decides about its answer.
struct Call<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    ending: &'a Arc<Ending>,
    mischief: &'a Mischief,
}

impl Call<'_> {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    fn query(&self) -> form_urlencoded::Parse<'_> {
        form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes())
    }
}

impl Service {
    pub(crate) fn new(address: SocketAddr, catalog: Catalog, access: Access, faults: Faults) -> Self {
        Self {
            address,
            catalog: RwLock::new(catalog),
            access,
            mischief: watch::Sender::new(Arc::new(Mischief::new(faults))),
            ledger: Arc::default(),
        }
    }

    /// Answers one request; `ending` is that of its connection.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        ending: Arc<Ending>,
    ) -> Result<Response<Body>, Unanswered> {
        let latency = self.mischief.borrow().latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut replaced = self.mischief.subscribe();
        let mischief = Arc::clone(&replaced.borrow_and_update());
        let (parts, _) = request.into_parts();
        let call = Call {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            ending: &ending,
            mischief: &mischief,
        };
        if parts.headers.contains_key(header::AUTHORIZATION) {
            self.ledger.with_authorization.add();
        }
        let outcome = self.respond(&call);
        if let Err(denied) = &outcome {
            self.enter_denied(&call, denied);
        }
        self.ledger.tell();
        let response = match outcome {
            Ok(response) => response,
            Err(Denied::Answer(fault)) => fault.into_response(),
            Err(Denied::Hang) => {
                // An error means that the registry is gone, which ends the connection just as well.
                replaced.changed().await.ok();
                return Err(Unanswered);
            }
        };
        Ok(if call.is_head() { answer::without_body(response) } else { response })
    }

    fn respond(&self, call: &Call<'_>) -> Result<Response<Body>, Denied> {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Err(Fault::read_only(call.method).into());
        }
        let asked = Asked::read(call.uri.path())?;
        if asked == Asked::Token {
            return self.token(call);
        }
        let host = self.host(call);
        let repository = asked.repository();
        let user = self
            .access
            .admit(call.header(header::AUTHORIZATION), repository, &host)
            .map_err(|Challenge(challenge)| Fault::unauthorized(&challenge))?;
        let target = match &asked {
            Asked::Blob { .. } if call.is_head() => Target::Blobs,
            Asked::Blob { .. } => Target::BlobGets,
            Asked::Manifest { .. } => Target::Manifests,
            Asked::Check | Asked::Token | Asked::Tags { .. } | Asked::Referrers { .. } => Target::All,
        };
        self.obey_rules(call, &Aimed { target, repository, user: user.as_deref() })?;
        match &asked {
            Asked::Check | Asked::Token => Ok(answer::json_response(StatusCode::OK, "application/json", &json!({}))),
            Asked::Manifest { repository, reference } => self.manifest(call, repository, reference),
            Asked::Blob { repository, digest } => self.blob(call, repository, digest),
            Asked::Tags { repository } => self.tags(call, repository),
            Asked::Referrers { repository, digest } => Ok(self.referrers(call, repository, digest)),
        }
    }

    fn obey_rules(&self, call: &Call<'_>, aimed: &Aimed<'_>) -> Result<(), Denied> {
        match call.mischief.treatment(aimed) {
            None => Ok(()),
            Some(Treatment::Hang) => Err(Denied::Hang),
            Some(Treatment::Status { status, retry_after }) => {
                let fault = Fault::on_request(status, retry_after);
                Err(Denied::Answer(if status == StatusCode::UNAUTHORIZED {
                    let Challenge(challenge) = self.access.challenge(aimed.repository, &self.host(call), None);
                    fault.header(header::WWW_AUTHENTICATE, &challenge)
                } else {
                    fault
                }))
            }
        }
    }

    fn token(&self, call: &Call<'_>) -> Result<Response<Body>, Denied> {
        self.ledger.token_requests.add();
        let tokens = self.access.tokens().ok_or_else(|| Fault::no_route(call.uri.path()))?;
        let Challenge(challenge) = Access::token_challenge();
        let user = self.access.user(call.header(header::AUTHORIZATION)).map_err(|_| Fault::unauthorized(&challenge))?;
        self.obey_rules(call, &Aimed { target: Target::Token, repository: None, user: user.as_deref() })?;
        let scopes: Vec<_> = call.query().filter(|(key, _)| key == "scope").map(|(_, scope)| scope).collect();
        let repositories = self.access.grantable(user.as_deref(), scopes.iter().map(AsRef::as_ref));
        if user.is_none() && repositories.is_empty() {
            return Err(Fault::unauthorized(&challenge).into());
        }
        self.ledger.tokens_issued.add();
        let token = tokens.issue(user, repositories, Instant::now());
        // Whole seconds are all that the format has: a shorter life is told as one, and ends early.
        let seconds = tokens.lifetime().as_secs().max(1);
        let document = json!({ "token": token, "access_token": token, "expires_in": seconds });
        Ok(answer::json_response(StatusCode::OK, "application/json", &document))
    }

    fn manifest(&self, call: &Call<'_>, repository: &str, reference: &Reference) -> Result<Response<Body>, Denied> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let shelf = catalog.shelf(repository).ok_or_else(|| Fault::name_unknown(repository))?;
        let manifest = shelf.manifest(reference).ok_or_else(|| Fault::manifest_unknown(reference))?;
        let served = if call.is_head() { &self.ledger.manifest_heads } else { &self.ledger.manifest_gets };
        served.add();
        let mut response = answer::full(StatusCode::OK, &manifest.media_type, manifest.bytes.clone());
        name(response.headers_mut(), &manifest.digest);
        Ok(response)
    }

    fn blob(&self, call: &Call<'_>, repository: &str, digest: &Digest) -> Result<Response<Body>, Denied> {
        let blob = self.find(repository, digest)?;
        let account = self.ledger.account(digest);
        if let Some(base) = call.mischief.redirect() {
            account.redirected.add();
            let path = call.uri.path_and_query().map_or(call.uri.path(), |path| path.as_str());
            let mut response = answer::full(StatusCode::TEMPORARY_REDIRECT, "text/plain", bytes::Bytes::new());
            if let Ok(location) = HeaderValue::from_str(&format!("{base}{path}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return Ok(response);
        }
        let length = blob.len();
        if call.is_head() {
            account.heads.add();
            return Ok(blob_response(StatusCode::OK, digest, length + call.mischief.excess(), answer::empty()));
        }
        let part = if call.mischief.ignores_ranges() { Part::Whole } else { part(call, digest, length) };
        let (range, ranged) = match part {
            Part::Unsatisfiable => return Err(Fault::beyond(length).into()),
            Part::Whole => (0..length, false),
            Part::Range(range) => (range, true),
        };
        account.gets.add();
        let bytes = range.end - range.start + call.mischief.excess();
        if ranged {
            account.saw(&range);
            let body = self.sending(call, blob, range.clone(), account);
            let mut response = blob_response(StatusCode::PARTIAL_CONTENT, digest, bytes, body);
            let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            let value = HeaderValue::from_str(&content_range).expect("digits are printable ASCII");
            response.headers_mut().insert(header::CONTENT_RANGE, value);
            return Ok(response);
        }
        let body = self.sending(call, blob, range, account);
        Ok(blob_response(StatusCode::OK, digest, bytes, body))
    }

    fn find(&self, repository: &str, digest: &Digest) -> Result<Blob, Fault> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let shelf = catalog.shelf(repository).ok_or_else(|| Fault::name_unknown(repository))?;
        shelf.blob(digest).cloned().ok_or_else(|| Fault::blob_unknown(digest))
    }

    fn sending(&self, call: &Call<'_>, blob: Blob, range: Range<u64>, account: Arc<Account>) -> Body {
        let mischief = self.mischief.subscribe();
        Sending::new(blob, range, mischief, Arc::clone(call.ending), Arc::clone(&self.ledger), account).into_body()
    }

    fn tags(&self, call: &Call<'_>, repository: &str) -> Result<Response<Body>, Denied> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let shelf = catalog.shelf(repository).ok_or_else(|| Fault::name_unknown(repository))?;
        let value = |wanted: &str| call.query().find(|(key, _)| key == wanted).map(|(_, value)| value);
        let count = value("n").and_then(|n| n.parse().ok()).unwrap_or(MOST_TAGS).min(MOST_TAGS);
        let (tags, more) = shelf.tags(&value("last").unwrap_or_default(), count);
        let document = json!({ "name": repository, "tags": tags });
        let mut response = answer::json_response(StatusCode::OK, "application/json", &document);
        if let (true, Some(last)) = (more, tags.last()) {
            let link = format!("</v2/{repository}/tags/list?n={count}&last={last}>; rel=\"next\"");
            response.headers_mut().extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
        }
        Ok(response)
    }

    /// A list, empty where there is nothing to list, filtered by the type that was asked for.
    fn referrers(&self, call: &Call<'_>, repository: &str, subject: &Digest) -> Response<Body> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let mut manifests = catalog.shelf(repository).map(|shelf| shelf.referrers(subject)).unwrap_or_default();
        let wanted = call.query().find(|(key, _)| key == "artifactType").map(|(_, value)| value);
        if let Some(wanted) = &wanted {
            manifests.retain(|manifest| manifest["artifactType"] == **wanted);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut response = answer::json_response(StatusCode::OK, INDEX, &index);
        if wanted.is_some() {
            response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        response
    }

    fn enter_denied(&self, call: &Call<'_>, denied: &Denied) {
        match denied {
            Denied::Hang => self.ledger.hung.add(),
            Denied::Answer(fault) if fault.status() == StatusCode::UNAUTHORIZED => self.ledger.unauthorized.add(),
            Denied::Answer(_) => self.ledger.errors.add(),
        }
        // Only blobs that are here have an account, so that made-up digests take no memory.
        if let Ok(Asked::Blob { repository, digest }) = Asked::read(call.uri.path())
            && self.find(&repository, &digest).is_ok()
        {
            self.ledger.account(&digest).refused.add();
        }
    }

    /// The host by which the caller reached this registry, for URLs that lead back here.
    fn host(&self, call: &Call<'_>) -> String {
        let fits = |host: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte);
            !host.is_empty() && host.bytes().all(plain)
        };
        call.header(header::HOST).filter(fits).map_or_else(|| self.address.to_string(), str::to_owned)
    }
}

/// What a GET asks for. A range under the condition that the blob is still another one is a request for all of it.
fn part(call: &Call<'_>, digest: &Digest, length: u64) -> Part {
    let other = |condition: &str| condition.trim_matches('"') != digest.to_string();
    if call.header(header::IF_RANGE).is_some_and(other) {
        return Part::Whole;
    }
    Part::asked(call.header(header::RANGE), length)
}

fn blob_response(status: StatusCode, digest: &Digest, bytes: u64, body: Body) -> Response<Body> {
    let mut response = answer::full(status, "application/octet-stream", bytes::Bytes::new()).map(|_| body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, bytes.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    name(headers, digest);
    response
}

/// Says which content an answer carries.
fn name(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(CONTENT_DIGEST, answer::digest_value(digest));
    let tag = HeaderValue::from_str(&format!("\"{digest}\"")).expect("a digest is printable ASCII");
    headers.insert(header::ETAG, tag);
}
