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
use shoal_blob::{Digest, Reference, Repository};
use shoal_mirror::{Ask, BlobInfo, ByteStream, Failure, Library, Manifest, Relay, Relayed, Source};
use shoal_origin::{Listing, ManifestHead, OriginError, Origins};
use shoal_store::Store;
use shoal_swarm::trade::ReaderId;
use tokio::sync::oneshot;

use super::{
    access::{self, Door},
    failure,
    mailbox::{Mailbox, Told},
    questions::Questions,
    reader,
    seat::Seat,
    shelf::Shelf,
};
use crate::metrics::Metrics;

/// How old a remembered tag may be that stands in while the origin cannot be reached.
const TAG_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// How long the origin may think about a tag before what is remembered of it stands in: containerd waits for 30 s.
const TAG_PATIENCE: Duration = Duration::from_secs(10);

/// What the mirror reads from.
pub(super) struct NodeLibrary {
    pub(super) store: Store,
    pub(super) origins: Origins,
    pub(super) door: Arc<Door>,
    pub(super) mailbox: Mailbox,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readers: AtomicU64,
    pub(super) manifests: Questions<(Repository, Reference), Result<shoal_origin::Manifest, OriginError>>,
    pub(super) heads: Questions<(Repository, Reference), Result<ManifestHead, OriginError>>,
    pub(super) listings: Questions<(Repository, Relay, String), Result<shoal_origin::Relayed, OriginError>>,
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
        let (origins, question) = (self.origins.clone(), (ask.repository.clone(), reference.clone()));
        let fetched = self.manifests.answer(question.clone(), || async move {
            let (repository, reference) = question;
            origins.manifest(&repository, &reference, None).await
        });
        let fetched = match self.in_time(ask, reference, fetched).await {
            Ok(fetched) => fetched,
            Err(away) => return self.remembered(ask, reference, away),
        };
        let (head, bytes) = (fetched.head, fetched.bytes);
        self.note(ask, reference, &head);
        if let Err(error) = self.store.put_manifest(&head.digest, &head.content_type, &bytes) {
            tracing::warn!(digest = %head.digest, %error, "a manifest could not be kept");
        }
        answer(&head.content_type, head.digest, bytes, Source::Origin, None)
    }

    async fn head(&self, ask: &Ask, reference: &Reference) -> Result<Manifest, Failure> {
        let (origins, question) = (self.origins.clone(), (ask.repository.clone(), reference.clone()));
        let head = self.heads.answer(question.clone(), || async move {
            let (repository, reference) = question;
            origins.manifest_head(&repository, &reference, None).await
        });
        let head = match self.in_time(ask, reference, head).await {
            Ok(head) => head,
            Err(away) => return self.remembered(ask, reference, away),
        };
        self.note(ask, reference, &head);
        let content_type = content_type(&head.content_type)?;
        let ManifestHead { digest, length, .. } = head;
        Ok(Manifest { content_type, digest, length, bytes: None, source: Source::Origin, warning: None })
    }

    /// The origin's answer to a question, or why it is taken for away.
    async fn in_time<A>(
        &self,
        ask: &Ask,
        reference: &Reference,
        answer: impl Future<Output = Result<A, OriginError>>,
    ) -> Result<A, Away> {
        let answer = match reference {
            Reference::Digest(_) => answer.await,
            Reference::Tag(_) => match tokio::time::timeout(TAG_PATIENCE, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let reason = format!("{} said nothing of {reference} for {TAG_PATIENCE:?}", ask.repository);
                    return Err(Away { failure: Failure::Stalled { reason }, may_be_stood_in_for: true });
                }
            },
        };
        answer.map_err(|error| Away {
            failure: failure::of_origin(&error, reference),
            may_be_stood_in_for: error.is_unavailable(),
        })
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
    fn remembered(&self, ask: &Ask, reference: &Reference, away: Away) -> Result<Manifest, Failure> {
        let Away { failure: error, may_be_stood_in_for } = away;
        let failed = || error.clone();
        let Reference::Tag(tag) = reference else { return Err(failed()) };
        if !may_be_stood_in_for {
            return Err(failed());
        }
        let known = self.store.tag(&ask.repository.to_string(), tag).ok().flatten();
        let known = known.filter(|known| known.age() < TAG_MEMORY).ok_or_else(failed)?;
        let manifest = self.stored(&known.digest).ok_or_else(failed)?;
        self.metrics.mirror_stale_tags.inc();
        tracing::warn!(repository = %ask.repository, tag, %error, "the origin is away: a remembered tag stands in");
        let warning = format!("the origin cannot be reached; what {tag} meant {} s ago", known.age().as_secs());
        answer(&manifest.content_type, known.digest, manifest.bytes, Source::Store, Some(warning))
    }

    /// Whether the caller may have a blob; what the store wrote down about it tells its visibility after a restart.
    async fn permit_blob(&self, ask: &Ask, digest: &Digest) -> Result<(), Failure> {
        let visibility = access::of_stored(&self.door, &self.store, digest);
        self.door.permit(ask, &Reference::Digest(*digest), true, visibility).await
    }
}

/// Why the origin gave no answer.
struct Away {
    failure: Failure,
    /// Whether that is because it cannot be reached, and not what it says.
    may_be_stood_in_for: bool,
}

fn content_type(text: &str) -> Result<HeaderValue, Failure> {
    let failed = |_| Failure::OriginFailed { reason: "its Content-Type is not a header value".to_owned() };
    HeaderValue::from_str(text).map_err(failed)
}

fn answer(
    media_type: &str,
    digest: Digest,
    bytes: Bytes,
    source: Source,
    warning: Option<String>,
) -> Result<Manifest, Failure> {
    let (content_type, length) = (content_type(media_type)?, bytes.len() as u64);
    Ok(Manifest { content_type, digest, length, bytes: Some(bytes), source, warning })
}

#[async_trait]
impl Library for NodeLibrary {
    async fn manifest(&self, ask: &Ask, reference: &Reference, head: bool) -> Result<Manifest, Failure> {
        self.door.admit(&ask.repository)?;
        let manifest = match reference {
            Reference::Digest(digest) => match self.stored(digest) {
                Some(stored) => answer(&stored.content_type, *digest, stored.bytes, Source::Store, None)?,
                None => self.fetch(ask, reference).await?,
            },
            Reference::Tag(_) if head => self.head(ask, reference).await?,
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
        let seat = Seat::new(*digest, id, self.mailbox.clone());
        let (reply, opened) = oneshot::channel();
        let repository = ask.repository.clone();
        self.mailbox.tell(Told::Open { digest: *digest, repository, reader: id, offset: range.start, reply });
        let shelf = opened.await.map_err(|_| Failure::Draining)??;
        Ok(reader::read(shelf, range, Some(seat)))
    }

    async fn relay(&self, ask: &Ask, what: &Relay, query: &str) -> Result<Relayed, Failure> {
        self.door.admit(&ask.repository)?;
        let (listing, reference) = match what {
            Relay::Tags => (Listing::Tags, None),
            Relay::Referrers(digest) => (Listing::Referrers(*digest), Some(Reference::Digest(*digest))),
        };
        let reference = reference.unwrap_or_else(|| Reference::Tag("tags".to_owned()));
        let (origins, question) = (self.origins.clone(), (ask.repository.clone(), what.clone(), query.to_owned()));
        let relayed = self.listings.answer(question.clone(), || async move {
            let (repository, _, query) = question;
            origins.relay(&repository, &listing, (!query.is_empty()).then_some(query.as_str())).await
        });
        let relayed = relayed.await.map_err(|error| failure::of_origin(&error, &reference))?;
        self.door.permit(ask, &reference, false, Some(access::seen(relayed.visibility))).await?;
        Ok(Relayed { status: relayed.status, headers: relayed.headers, body: relayed.body })
    }
}
