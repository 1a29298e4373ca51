//! One request, from its head to its answer.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Response, header, request::Parts};
use serde_json::json;
use shoal_blob::{Digest, Reference};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Ask, ByteStream, Caller, Chunk, Failure, Library, MirrorConfig, MirrorCounts, Relay, Route, answer,
    body::{BlobBody, Body, Surroundings},
    conditions,
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
        let found = match &target {
            Ok(target) => self.in_time(deadline, self.find(&head, target, deadline)).await,
            Err(failure) => Err(failure.clone()),
        };
        let named = match &target {
            Ok(Target::Named(named)) => Some(named),
            _ => None,
        };
        let mut response = found.unwrap_or_else(|failure| {
            self.log(&head, named, &failure);
            let detail = named.map(|named| {
                json!({
                    "registry": named.repository.registry(),
                    "repository": named.repository.path(),
                    "reference": named.reference(),
                })
            });
            answer::failure(&failure, &detail.into())
        });
        if let Some(namespace) = named.and_then(|named| named.namespace.as_deref()) {
            let value = HeaderValue::try_from(namespace).expect("the grammar of a registry is plain ASCII");
            response.headers_mut().insert(answer::OCI_NAMESPACE, value);
        }
        let route = target.as_ref().map_or(Route::Other, Target::route);
        self.shared.counts.answered(route, response.status());
        if let (Body::Whole(Some(bytes)), true) = (response.body(), head.method == Method::GET) {
            self.shared.counts.bytes_to_clients.fetch_add(bytes.len() as u64, Relaxed);
        }
        response
    }

    fn target(&self, head: &Parts) -> Result<Target, Failure> {
        if !self.admitted {
            let reason = format!("{} connections are open, which is the limit", self.shared.config.max_connections);
            return Err(Failure::Overloaded { reason });
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
        work: impl Future<Output = Result<Response<Body>, Failure>>,
    ) -> Result<Response<Body>, Failure> {
        tokio::select! {
            biased;
            done = timeout_at(deadline, work) => done.unwrap_or_else(|_| {
                let within = self.shared.config.answer_within;
                Err(Failure::Stalled { reason: format!("there was no answer within {within:?}") })
            }),
            () = self.cut.cancelled() => Err(Failure::Draining),
        }
    }

    async fn find(&self, head: &Parts, target: &Target, deadline: Instant) -> Result<Response<Body>, Failure> {
        let Target::Named(named) = target else {
            return Ok(answer::ping());
        };
        let mut authorization = head.headers.get(header::AUTHORIZATION).cloned();
        if let Some(secret) = &mut authorization {
            secret.set_sensitive(true);
        }
        let caller = Caller { address: self.address, authorization };
        let ask = Ask { repository: named.repository.clone(), caller };
        match &named.what {
            What::Manifest(reference) => self.manifest(head, &ask, reference).await,
            What::Blob(digest) => self.blob(head, named, Arc::new(ask), *digest, deadline).await,
            What::Listing(listing) => self.listing(head, named, &ask, listing).await,
        }
    }

    async fn manifest(&self, head: &Parts, ask: &Ask, reference: &Reference) -> Result<Response<Body>, Failure> {
        let manifest = self.shared.library.manifest(ask, reference, head.method == Method::HEAD).await?;
        if let Reference::Digest(asked) = reference
            && *asked != manifest.digest
        {
            return Err(Failure::Internal { reason: format!("{} was found for {asked}", manifest.digest) });
        }
        if let Some(warning) = &manifest.warning {
            tracing::warn!(repository = %ask.repository, %reference, warning = ?warning, "a remembered manifest is served");
        }
        if conditions::is_known(&head.headers, &conditions::etag(&manifest.digest)) {
            return Ok(answer::not_modified(&manifest.digest));
        }
        answer::manifest(manifest, &head.method)
    }

    async fn listing(&self, head: &Parts, named: &Named, ask: &Ask, what: &Relay) -> Result<Response<Body>, Failure> {
        let relayed = self.shared.library.relay(ask, what, &named.query).await?;
        relay::pass_on(relayed, head.uri.path(), named.namespace.as_deref())
    }

    async fn blob(
        &self,
        head: &Parts,
        named: &Named,
        ask: Arc<Ask>,
        digest: Digest,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure> {
        let shared = &self.shared;
        let length = shared.library.blob(&ask, &digest).await?.length;
        let etag = conditions::etag(&digest);
        if conditions::is_known(&head.headers, &etag) {
            return Ok(answer::not_modified(&digest));
        }
        let ranged = head.method == Method::GET && conditions::range_counts(&head.headers, &etag);
        let wanted = if ranged { ranges::wanted(&head.headers, length)? } else { Wanted::Whole };
        let mut shape = Shape::new(&digest, length, wanted);
        let size = shape.length;
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
        Ok(answer::with(builder, Body::Blob(Box::new(BlobBody::new(bytes, first, size, &about, around)))))
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
