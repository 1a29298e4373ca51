//! Who may read what through this node.
//!
//! What an origin serves to anybody may be read by whoever reaches the mirror. What it serves only to a credential may be
//! read by a caller whom the origin itself would serve it, or by all callers where the operator said `access = "node"`.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
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

/// A caller's token, in a form that gives nothing away, and what it was shown for.
type Shown = ([u8; 32], Repository, Reference);

/// Decides, and remembers verdicts for as long as the token that earned them lives.
pub(super) struct Door {
    origins: Origins,
    allow_any: AtomicBool,
    verdicts: Mutex<HashMap<Shown, Instant>>,
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

    /// Whether this caller may have it. Asks the origin at most once for a token and a reference.
    pub(super) async fn permit(
        &self,
        ask: &Ask,
        reference: &Reference,
        is_blob: bool,
        visibility: Option<Visibility>,
    ) -> Result<(), Failure> {
        let repository = &ask.repository;
        let node_wide = self.origins.access(repository.registry()) == Some(Access::Node);
        if node_wide || visibility == Some(Visibility::Public) {
            return Ok(());
        }
        let asked = |error: OriginError| failure::of_origin(&error, reference);
        let Some(authorization) = &ask.caller.authorization else {
            return match self.origins.challenge(repository).await.map_err(asked)? {
                // An origin that asks nobody for anything serves it to anybody.
                None => Ok(()),
                Some(challenge) => Err(HeaderValue::from_str(&challenge).map_or_else(
                    |_| Failure::CallerDenied { reason: "the origin's challenge cannot be passed on".to_owned() },
                    |www_authenticate| Failure::Challenge { www_authenticate },
                )),
            };
        };
        let token = Sha256::digest(authorization.as_bytes()).into();
        let key: Shown = (token, repository.clone(), reference.clone());
        if self.verdicts.lock().get(&key).is_some_and(|until| Instant::now() < *until) {
            return Ok(());
        }
        let Ok(shown) = authorization.to_str() else {
            return Err(Failure::CallerDenied { reason: "the authorization is not text".to_owned() });
        };
        match self.origins.prove(repository, reference, is_blob, shown).await.map_err(asked)? {
            Verdict::Allowed { until } => {
                let mut verdicts = self.verdicts.lock();
                if verdicts.len() >= MOST {
                    verdicts.clear();
                }
                verdicts.insert(key, until);
                Ok(())
            }
            Verdict::Denied => {
                Err(Failure::CallerDenied { reason: "the origin would not serve it to this caller".to_owned() })
            }
        }
    }
}

/// The origin's word, as the cluster says it.
pub(super) const fn seen(visibility: shoal_origin::Visibility) -> Visibility {
    match visibility {
        shoal_origin::Visibility::Anonymous => Visibility::Public,
        shoal_origin::Visibility::Credential => Visibility::Private,
    }
}

/// To whom the origin served a blob that rests in the store; to nobody without a credential, where that is not known.
pub(super) fn of_stored(door: &Door, store: &Store, digest: &Digest) -> Visibility {
    door.visibility(digest).unwrap_or_else(|| {
        let claims = store.blob(digest).and_then(|blob| blob.claims().ok());
        let Some(visibility) = claims.and_then(|claims| claim::visibility(&claims)) else { return Visibility::Private };
        door.learn(*digest, visibility);
        visibility
    })
}
