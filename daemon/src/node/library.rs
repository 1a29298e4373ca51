//! The node as the mirror sees it: manifests from the store or the origin, blobs from the store or the swarm.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use shoal_blob::{Digest, Reference};
use shoal_mirror::{Ask, BlobInfo, ByteStream, Failure, Library, Manifest, Relay, Relayed};
use shoal_origin::{Listing, ManifestHead, Origins};
use shoal_store::Store;
use shoal_swarm::trade::ReaderId;
use tokio::sync::oneshot;

use super::{
    access::{self, Door},
    failure,
    mailbox::{Mailbox, Told},
    reader,
    shelf::Shelf,
};
use crate::metrics::Metrics;

/// How old a remembered tag may be that stands in while the origin cannot be reached.
const TAG_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// What the mirror reads from.
pub(super) struct NodeLibrary {
    pub(super) store: Store,
    pub(super) origins: Origins,
    pub(super) door: Arc<Door>,
    pub(super) mailbox: Mailbox,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readers: AtomicU64,
}

impl NodeLibrary {
    /// A manifest that the store has. The file is small; a store that fails is as good as one that has nothing.
    fn stored(&self, digest: &Digest) -> Option<shoal_store::Manifest> {
        self.store.manifest(digest).unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "a stored manifest cannot be read; the origin is asked");
            None
        })
    }

    async fn fetch(&self, ask: &Ask, reference: &Reference) -> Result<Manifest, Failure> {
        let fetched = self.origins.manifest(&ask.repository, reference, None).await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.is_unavailable() => return self.remembered(ask, reference, &error),
            Err(error) => return Err(failure::of_origin(&error, reference)),
        };
        let (head, bytes) = (fetched.head, fetched.bytes);
        self.note(ask, reference, &head);
        if let Err(error) = self.store.put_manifest(&head.digest, &head.content_type, &bytes) {
            tracing::warn!(digest = %head.digest, %error, "a manifest could not be kept");
        }
        answer(&head.content_type, head.digest, bytes, None)
    }

    fn note(&self, ask: &Ask, reference: &Reference, head: &ManifestHead) {
        self.door.learn(head.digest, access::seen(head.visibility));
        if let Reference::Tag(tag) = reference
            && let Err(error) = self.store.remember_tag(&ask.repository.to_string(), tag, &head.digest)
        {
            tracing::warn!(repository = %ask.repository, tag, %error, "a tag could not be remembered");
        }
    }

    /// What the tag meant when the origin was last asked, for a bounded time, and said so.
    fn remembered(
        &self,
        ask: &Ask,
        reference: &Reference,
        error: &shoal_origin::OriginError,
    ) -> Result<Manifest, Failure> {
        let failed = || failure::of_origin(error, reference);
        let Reference::Tag(tag) = reference else { return Err(failed()) };
        let known = self.store.tag(&ask.repository.to_string(), tag).ok().flatten();
        let known = known.filter(|known| known.age() < TAG_MEMORY).ok_or_else(failed)?;
        let manifest = self.stored(&known.digest).ok_or_else(failed)?;
        self.metrics.mirror_stale_tags.inc();
        tracing::warn!(repository = %ask.repository, tag, %error, "the origin is away: a remembered tag stands in");
        let warning = format!("the origin cannot be reached; what {tag} meant {} s ago", known.age().as_secs());
        answer(&manifest.content_type, known.digest, manifest.bytes, Some(warning))
    }

    /// Whether the caller may have a blob; what the store wrote down about it tells its visibility after a restart.
    async fn permit_blob(&self, ask: &Ask, digest: &Digest) -> Result<(), Failure> {
        let visibility = Some(access::of_stored(&self.door, &self.store, digest));
        self.door.permit(ask, &Reference::Digest(*digest), true, visibility).await
    }
}

fn answer(content_type: &str, digest: Digest, bytes: Bytes, warning: Option<String>) -> Result<Manifest, Failure> {
    let content_type = HeaderValue::from_str(content_type)
        .map_err(|_| Failure::OriginFailed { reason: "its Content-Type is not a header value".to_owned() })?;
    Ok(Manifest { content_type, digest, length: bytes.len() as u64, bytes: Some(bytes), warning })
}

#[async_trait]
impl Library for NodeLibrary {
    async fn manifest(&self, ask: &Ask, reference: &Reference, head: bool) -> Result<Manifest, Failure> {
        self.door.admit(&ask.repository)?;
        let manifest = match reference {
            Reference::Digest(digest) => match self.stored(digest) {
                Some(stored) => answer(&stored.content_type, *digest, stored.bytes, None)?,
                None => self.fetch(ask, reference).await?,
            },
            Reference::Tag(_) if head => match self.origins.manifest_head(&ask.repository, reference, None).await {
                Ok(head) => {
                    self.note(ask, reference, &head);
                    let content_type = HeaderValue::from_str(&head.content_type).map_err(|_| {
                        Failure::OriginFailed { reason: "its Content-Type is not a header value".to_owned() }
                    })?;
                    Manifest { content_type, digest: head.digest, length: head.length, bytes: None, warning: None }
                }
                Err(error) if error.is_unavailable() => self.remembered(ask, reference, &error)?,
                Err(error) => return Err(failure::of_origin(&error, reference)),
            },
            Reference::Tag(_) => self.fetch(ask, reference).await?,
        };
        let visibility = self.door.visibility(&manifest.digest);
        self.door.permit(ask, reference, false, visibility).await?;
        Ok(manifest)
    }

    async fn blob(&self, ask: &Ask, digest: &Digest) -> Result<BlobInfo, Failure> {
        self.door.admit(&ask.repository)?;
        let length = match self.store.blob(digest) {
            Some(blob) => blob.layout().length(),
            None => {
                let (reply, found) = oneshot::channel();
                let repository = ask.repository.clone();
                self.mailbox.tell(Told::Find { digest: *digest, repository, reply });
                found.await.map_err(|_| Failure::Draining)??.length
            }
        };
        self.permit_blob(ask, digest).await?;
        Ok(BlobInfo { length })
    }

    async fn read(&self, ask: &Ask, digest: &Digest, range: Range<u64>) -> Result<ByteStream, Failure> {
        self.door.admit(&ask.repository)?;
        self.permit_blob(ask, digest).await?;
        if let Some(held) = self.store.hold(digest).filter(|held| held.blob().is_complete()) {
            return Ok(reader::read(Arc::new(Shelf::new(held, Arc::default())), range, None));
        }
        let id = ReaderId(self.readers.fetch_add(1, Ordering::Relaxed));
        let (reply, opened) = oneshot::channel();
        let repository = ask.repository.clone();
        self.mailbox.tell(Told::Open { digest: *digest, repository, reader: id, offset: range.start, reply });
        let shelf = opened.await.map_err(|_| Failure::Draining)??;
        Ok(reader::read(shelf, range, Some((id, self.mailbox.clone()))))
    }

    async fn relay(&self, ask: &Ask, what: &Relay, query: &str) -> Result<Relayed, Failure> {
        self.door.admit(&ask.repository)?;
        let (listing, reference) = match what {
            Relay::Tags => (Listing::Tags, None),
            Relay::Referrers(digest) => (Listing::Referrers(*digest), Some(Reference::Digest(*digest))),
        };
        let reference = reference.unwrap_or_else(|| Reference::Tag("tags".to_owned()));
        let relayed = self.origins.relay(&ask.repository, &listing, (!query.is_empty()).then_some(query)).await;
        let relayed = relayed.map_err(|error| failure::of_origin(&error, &reference))?;
        self.door.permit(ask, &reference, false, Some(access::seen(relayed.visibility))).await?;
        Ok(Relayed { status: relayed.status, headers: relayed.headers, body: relayed.body })
    }
}
