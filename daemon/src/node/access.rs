//! Who may read what through this node.
//!
//! What an origin serves to anybody may be read by whoever reaches the mirror. What it serves only to a credential may be
//! read by a caller whom the origin itself would serve it, or by all callers where the operator said `access = "node"`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use shoal_blob::{Digest, Reference, Repository};
use shoal_mirror::{Ask, Failure};
use shoal_origin::{Access, OriginError, Origins, Verdict};
use shoal_proto::Visibility;
use shoal_store::Store;

use super::{claim, failure};

/// How many verdicts, and how many visibilities, are kept.
const MOST: usize = 16_384;
/// How long a refusal stands: a caller that insists does not make this node ask the origin each time.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// How long it is believed that a registry serves something to this node, or to anybody.
const SERVED_FOR: Duration = Duration::from_secs(3600);

/// What was shown, in a form that gives nothing away, and what for.
type Shown = (Proof, Repository, Reference);

/// Who was to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Proof {
    /// A caller, by the SHA-256 of its authorization.
    Caller([u8; 32]),
    /// This node, with its own credentials.
    Node,
    /// Anybody.
    Anybody,
}

/// What the origin said, and until when that stands.
#[derive(Clone, Debug)]
struct Word {
    outcome: Result<(), Failure>,
    until: Instant,
}

/// The place of one verdict; whoever holds it asks the origin for all who wait.
type Cell = Arc<tokio::sync::Mutex<Option<Word>>>;

/// Decides, and remembers verdicts for as long as the token that earned them lives.
pub(super) struct Door {
    origins: Origins,
    allow_any: AtomicBool,
    verdicts: Mutex<HashMap<Shown, Cell>>,
    visibilities: Mutex<HashMap<Digest, Visibility>>,
}

impl Door {
    pub(super) fn new(origins: Origins, allow_any: bool) -> Self {
        Self {
            origins,
            allow_any: AtomicBool::new(allow_any),
            verdicts: Mutex::default(),
            visibilities: Mutex::default(),
        }
    }

    /// Takes hold of a new configuration: verdicts of the old one are void.
    pub(super) fn reload(&self, allow_any: bool) {
        self.allow_any.store(allow_any, Ordering::Relaxed);
        self.verdicts.lock().clear();
    }

    /// Whether this registry may be asked for at all.
    pub(super) fn admit(&self, repository: &Repository) -> Result<(), Failure> {
        let registry = repository.registry();
        if self.allow_any.load(Ordering::Relaxed) || self.origins.is_configured(registry) {
            return Ok(());
        }
        Err(Failure::RegistryNotConfigured { registry: registry.to_owned() })
    }

    /// Remembers to whom the origin serves something.
    pub(super) fn learn(&self, digest: Digest, visibility: Visibility) {
        let mut known = self.visibilities.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(digest, visibility);
    }

    pub(super) fn visibility(&self, digest: &Digest) -> Option<Visibility> {
        self.visibilities.lock().get(digest).copied()
    }

    /// Whether this caller may have it; `visibility` is `None` where nobody remembers to whom the origin served it. Asks the
    /// origin at most once for a token and a reference, however many ask at once.
    pub(super) async fn permit(
        &self,
        ask: &Ask,
        reference: &Reference,
        is_blob: bool,
        visibility: Option<Visibility>,
    ) -> Result<(), Failure> {
        if visibility == Some(Visibility::Public) {
            return Ok(());
        }
        let repository = &ask.repository;
        let registry = repository.registry();
        if self.origins.access(registry) == Some(Access::Node) {
            // Where all that is private is for the whole node, it does not matter whose it is. Otherwise the name of this
            // registry must not open what is another's.
            if !self.origins.any_access(Access::Caller) {
                return Ok(());
            }
            return self
                .settle(Proof::Node, repository, reference, self.ask_as_node(repository, reference, is_blob))
                .await;
        }
        if visibility.is_none() {
            // Without credentials of its own this node has nothing that is not for anybody.
            if !self.origins.any_access(Access::Caller) && !self.origins.any_access(Access::Node) {
                return Ok(());
            }
            let public = self.ask_as_anybody(repository, reference, is_blob);
            if self.settle(Proof::Anybody, repository, reference, public).await.is_ok() {
                if let Reference::Digest(digest) = reference {
                    self.learn(*digest, Visibility::Public);
                }
                return Ok(());
            }
        }
        if !self.origins.is_configured(registry) {
            return Err(Failure::CallerDenied {
                reason: format!("it is private, and the registry {registry}, which nobody configured, opens nothing"),
            });
        }
        let Some(authorization) = &ask.caller.authorization else {
            let challenge = self.origins.challenge(repository).await.map_err(asked(reference))?;
            return Err(challenged(challenge));
        };
        let Ok(shown) = authorization.to_str() else {
            return Err(Failure::CallerDenied { reason: "the authorization is not text".to_owned() });
        };
        let token = Sha256::digest(authorization.as_bytes()).into();
        let verdict = self.ask_as_caller(repository, reference, is_blob, shown);
        self.settle(Proof::Caller(token), repository, reference, verdict).await
    }

    /// The word that stands, or the one that `asking` brings, which is kept where it is one.
    async fn settle(
        &self,
        proof: Proof,
        repository: &Repository,
        reference: &Reference,
        asking: impl Future<Output = Result<Word, Failure>>,
    ) -> Result<(), Failure> {
        let cell = self.cell((proof, repository.clone(), reference.clone()));
        let mut word = cell.lock().await;
        if let Some(word) = word.as_ref().filter(|word| Instant::now() < word.until) {
            return word.outcome.clone();
        }
        *word = None;
        let fresh = asking.await?;
        word.insert(fresh).outcome.clone()
    }

    fn cell(&self, key: Shown) -> Cell {
        let mut verdicts = self.verdicts.lock();
        if !verdicts.contains_key(&key) && verdicts.len() >= MOST {
            verdicts.clear();
        }
        verdicts.entry(key).or_default().clone()
    }

    async fn ask_as_caller(
        &self,
        repository: &Repository,
        reference: &Reference,
        is_blob: bool,
        shown: &str,
    ) -> Result<Word, Failure> {
        let verdict = self.origins.prove(repository, reference, is_blob, shown).await.map_err(asked(reference))?;
        Ok(match verdict {
            Verdict::Allowed { until } => Word { outcome: Ok(()), until },
            Verdict::Denied { challenge: Some(challenge) } => Word::refusal(challenged(Some(challenge))),
            Verdict::Denied { challenge: None } => Word::refusal(Failure::CallerDenied {
                reason: "the origin would not serve it to this caller".to_owned(),
            }),
        })
    }

    async fn ask_as_node(
        &self,
        repository: &Repository,
        reference: &Reference,
        is_blob: bool,
    ) -> Result<Word, Failure> {
        let served = self.origins.is_served(repository, reference, is_blob).await.map_err(asked(reference))?;
        Ok(Word::served(served, "the registry under whose name it was asked for does not serve it"))
    }

    async fn ask_as_anybody(
        &self,
        repository: &Repository,
        reference: &Reference,
        is_blob: bool,
    ) -> Result<Word, Failure> {
        let public = self.origins.is_public(repository, reference, is_blob).await.map_err(asked(reference))?;
        Ok(Word::served(public, "the origin does not serve it to anybody"))
    }
}

impl Word {
    fn refusal(failure: Failure) -> Self {
        Self { outcome: Err(failure), until: Instant::now() + REFUSED_FOR }
    }

    fn served(served: bool, reason: &str) -> Self {
        if served {
            return Self { outcome: Ok(()), until: Instant::now() + SERVED_FOR };
        }
        Self::refusal(Failure::CallerDenied { reason: reason.to_owned() })
    }
}

fn asked(reference: &Reference) -> impl Fn(OriginError) -> Failure {
    |error| failure::of_origin(&error, reference)
}

/// What a caller is told that has not proven itself. An origin that serves it to a credential alone, and asks nobody who it
/// is, cannot be proven to.
fn challenged(challenge: Option<String>) -> Failure {
    let Some(challenge) = challenge else {
        return Failure::CallerDenied {
            reason: "it is private, and the origin says of no way to show who one is".to_owned(),
        };
    };
    HeaderValue::from_str(&challenge).map_or_else(
        |_| Failure::CallerDenied { reason: "the origin's challenge cannot be passed on".to_owned() },
        |www_authenticate| Failure::Challenge { www_authenticate },
    )
}

/// The origin's word, as the cluster says it.
pub(super) const fn seen(visibility: shoal_origin::Visibility) -> Visibility {
    match visibility {
        shoal_origin::Visibility::Anonymous => Visibility::Public,
        shoal_origin::Visibility::Credential => Visibility::Private,
    }
}

/// To whom the origin served a blob that rests in the store; `None` where that is not known.
pub(super) fn of_stored(door: &Door, store: &Store, digest: &Digest) -> Option<Visibility> {
    door.visibility(digest).or_else(|| {
        let claims = store.blob(digest)?.claims().ok()?;
        let visibility = claim::visibility(&claims)?;
        door.learn(*digest, visibility);
        Some(visibility)
    })
}
