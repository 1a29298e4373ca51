//! One request, from its head to its answer.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde_json::json;
use shoal_blob::{Digest, Reference};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Ask, Audit, BySource, ByteStream, Caller, Chunk, Failure, Library, MirrorConfig, MirrorCounts, Relay, Route,
    Source, Verdict, answer,
    body::{BlobBody, Body, Surroundings},
    conditions,
    delivery::Delivery,
    entry::Entry,
    loans::Loans,
    parts::Shape,
    ranges::{self, Wanted},
    relay,
    target::{Named, Target, What},
    wire::Flush,
};

/// What all connections of a mirror share.
pub(crate) struct Shared {
    pub(crate) library: Arc<dyn Library>,
    pub(crate) config: MirrorConfig,
    pub(crate) counts: Arc<MirrorCounts>,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) audit: Option<Arc<dyn Audit>>,
}

/// An answer, and where a manifest in it was had from.
type Found = (Response<Body>, Option<Source>);

/// A request for a blob.
struct Asked<'a> {
    head: &'a Parts,
    named: &'a Named,
    deadline: Instant,
}

/// Answers the requests of one connection.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    /// Whether the connection came while there was room for it. If not, every request is refused.
    pub(crate) admitted: bool,
    pub(crate) flush: Arc<Flush>,
    pub(crate) loans: Arc<Loans>,
    pub(crate) cut: CancellationToken,
}

impl Service {
    /// Answers one request; failures are answers too.
    pub(crate) async fn answer(&self, head: Parts) -> Response<Body> {
        let deadline = Instant::now() + self.shared.config.answer_within;
        let target = self.target(&head);
        let named = match &target {
            Ok(Target::Named(named)) => Some(named),
            _ => None,
        };
        let audit = self.shared.audit.as_ref().zip(named);
        let mut told = audit.and_then(|(audit, named)| Entry::of(audit, &head, named, self.address));
        let found = match &target {
            Ok(target) => self.in_time(deadline, self.find(&head, target, deadline, &mut told)).await,
            Err(failure) => Err(failure.clone()),
        };
        let refused = found.as_ref().err().map(|failure| failure.answer().1);
        let (mut response, source) = found.unwrap_or_else(|failure| {
            self.log(&head, named, &failure);
            let detail = named.map(|named| {
                json!({
                    "registry": named.repository.registry(),
                    "repository": named.repository.path(),
                    "reference": named.reference(),
                })
            });
            (answer::failure(&failure, &detail.into()), None)
        });
        if let Some(namespace) = named.and_then(|named| named.namespace.as_deref()) {
            let value = HeaderValue::try_from(namespace).expect("the grammar of a registry is plain ASCII");
            response.headers_mut().insert(answer::OCI_NAMESPACE, value);
        }
        let route = target.as_ref().map_or(Route::Other, Target::route);
        self.shared.counts.answered(route, response.status());
        let bytes = match response.body() {
            Body::Whole(Some(bytes)) if head.method == Method::GET => bytes.len() as u64,
            _ => 0,
        };
        self.shared.counts.bytes_to_clients.fetch_add(bytes, Relaxed);
        // A blob's body tells it when it has ended.
        if let Some(mut told) = told {
            told.status(response.status());
            let from = source.map_or_else(BySource::default, |source| BySource::all_from(source, bytes));
            let verdict = match refused {
                Some(code) => Verdict::Refused(code),
                None if response.status() == StatusCode::NOT_MODIFIED => Verdict::NotModified,
                None => Verdict::Served,
            };
            // What says why it was refused is no content.
            told.tell(if refused.is_some() { 0 } else { bytes }, from, verdict);
        }
        response
    }

    fn target(&self, head: &Parts) -> Result<Target, Failure> {
        if !self.admitted {
            return Err(Failure::too_many_connections(self.shared.config.max_connections));
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(Failure::MethodUnsupported);
        }
        let query = head.uri.query().unwrap_or_default();
        Target::parse(head.uri.path(), query, self.shared.config.default_registry.as_deref())
    }

    async fn in_time(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<Found, Failure>>,
    ) -> Result<Found, Failure> {
        tokio::select! {
            biased;
            done = timeout_at(deadline, work) => done.unwrap_or_else(|_| {
                let within = self.shared.config.answer_within;
                Err(Failure::Stalled { reason: format!("there was no answer within {within:?}") })
            }),
            () = self.cut.cancelled() => Err(Failure::Draining),
        }
    }

    async fn find(
        &self,
        head: &Parts,
        target: &Target,
        deadline: Instant,
        told: &mut Option<Entry>,
    ) -> Result<Found, Failure> {
        let Target::Named(named) = target else {
            return Ok((answer::ping(), None));
        };
        let mut authorization = head.headers.get(header::AUTHORIZATION).cloned();
        if let Some(secret) = &mut authorization {
            secret.set_sensitive(true);
        }
        let caller = Caller { address: self.address, authorization };
        let ask = Ask { repository: named.repository.clone(), caller };
        match &named.what {
            What::Manifest(reference) => self.manifest(head, &ask, reference, told).await,
            What::Blob(digest) => {
                let asked = Asked { head, named, deadline };
                Ok((self.blob(asked, Arc::new(ask), *digest, told).await?, None))
            }
            What::Listing(listing) => Ok((self.listing(head, named, &ask, listing).await?, None)),
        }
    }

    async fn manifest(
        &self,
        head: &Parts,
        ask: &Ask,
        reference: &Reference,
        told: &mut Option<Entry>,
    ) -> Result<Found, Failure> {
        let manifest = self.shared.library.manifest(ask, reference, head.method == Method::HEAD).await?;
        if let Reference::Digest(asked) = reference
            && *asked != manifest.digest
        {
            return Err(Failure::Internal { reason: format!("{} was found for {asked}", manifest.digest) });
        }
        if let Some(told) = told {
            told.led_to(manifest.digest);
        }
        let source = Some(manifest.source);
        if let Some(warning) = &manifest.warning {
            tracing::warn!(repository = %ask.repository, %reference, warning = ?warning, "a remembered manifest is served");
        }
        if conditions::is_known(&head.headers, &conditions::etag(&manifest.digest)) {
            return Ok((answer::not_modified(&manifest.digest), source));
        }
        Ok((answer::manifest(manifest, &head.method)?, source))
    }

    async fn listing(&self, head: &Parts, named: &Named, ask: &Ask, what: &Relay) -> Result<Response<Body>, Failure> {
        let relayed = self.shared.library.relay(ask, what, &named.query).await?;
        relay::pass_on(relayed, head.uri.path(), named.namespace.as_deref())
    }

    async fn blob(
        &self,
        asked: Asked<'_>,
        ask: Arc<Ask>,
        digest: Digest,
        told: &mut Option<Entry>,
    ) -> Result<Response<Body>, Failure> {
        let (shared, Asked { head, named, deadline }) = (&self.shared, asked);
        let length = shared.library.blob(&ask, &digest).await?.length;
        let etag = conditions::etag(&digest);
        if conditions::is_known(&head.headers, &etag) {
            return Ok(answer::not_modified(&digest));
        }
        let ranged = head.method == Method::GET && conditions::range_counts(&head.headers, &etag);
        let wanted = if ranged { ranges::wanted(&head.headers, length)? } else { Wanted::Whole };
        let mut shape = Shape::new(&digest, length, wanted);
        let (size, status) = (shape.length, shape.status);
        let mut builder = answer::about(shape.status, &digest)
            .header(header::CONTENT_TYPE, &shape.content_type)
            .header(header::CONTENT_LENGTH, size)
            .header(header::ACCEPT_RANGES, "bytes");
        if let Some(range) = shape.content_range.take() {
            builder = builder.header(header::CONTENT_RANGE, range);
        }
        if head.method == Method::HEAD || size == 0 {
            return Ok(answer::with(builder, Bytes::new()));
        }
        let permit = Arc::clone(&shared.readers).try_acquire_owned().map_err(|_| Failure::Overloaded {
            reason: format!("{} blobs are being read, which is the limit", shared.config.max_readers),
        })?;
        let mut bytes = shape.open(Arc::clone(&shared.library), ask, digest);
        let patience = (Instant::now() + shared.config.hold_headers).min(deadline - Duration::from_millis(100));
        let first = match timeout_at(patience, first_chunk(&mut bytes)).await {
            Ok(chunk) => Some(chunk?),
            Err(_) => None,
        };
        let about = format!("{}@{digest} for {}", named.repository, self.address);
        tracing::debug!(what = about, size, "a blob is being sent");
        let around = Surroundings {
            flush: Arc::clone(&self.flush),
            loans: Arc::clone(&self.loans),
            cut: self.cut.clone(),
            counts: Arc::clone(&shared.counts),
            permit,
        };
        let mut told = told.take();
        if let Some(told) = &mut told {
            told.status(status);
        }
        let delivery = Delivery::new(about, size, Arc::clone(&shared.counts), told);
        Ok(answer::with(builder, Body::Blob(Box::new(BlobBody::new(bytes, first, size, delivery, around)))))
    }

    /// Says what was asked for, by whom, and what went wrong. Text from the network is escaped by its `Debug` form.
    fn log(&self, head: &Parts, named: Option<&Named>, failure: &Failure) {
        let (status, code) = failure.answer();
        let registry = named.map(|named| named.repository.registry());
        let repository = named.map(|named| named.repository.path());
        let reference = named.map(Named::reference);
        let request = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    caller = %self.address, method = %head.method, request, registry, repository,
                    reference = reference.as_deref(), status = status.as_u16(), code,
                    reason = ?failure.to_string(), "a request failed"
                )
            };
        }
        if status.is_server_error() {
            say!(warn);
        } else {
            say!(info);
        }
    }
}

/// The first bytes of a read: until they are here, its failure can still be told with a status.
async fn first_chunk(bytes: &mut ByteStream) -> Result<Chunk, Failure> {
    loop {
        match bytes.next().await {
            Some(Ok(chunk)) if chunk.is_empty() => {}
            Some(Ok(chunk)) => return Ok(chunk),
            Some(Err(ended)) => return Err(ended.0),
            None => return Err(Failure::Internal { reason: "the read ended before its first byte".to_owned() }),
        }
    }
}
