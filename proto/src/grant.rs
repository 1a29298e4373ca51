//! The lease to read a blob from its origin, as the coordinator signs it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shoal_blob::Digest;

use crate::{NodeId, NodeKey, Signature, SignatureError};

/// Which lease of a digest: a number that only grows, and the coordinator that opened it. Ordered by the number first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1 by the coordinator; a successor goes on above the highest that any member has seen.
    pub number: u64,
    /// Who granted it.
    pub coordinator: NodeId,
}

/// Whether the origin serves a blob to anybody or only to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// The origin asked for no credential.
    Public,
    /// The origin served it to a credential.
    Private,
}

/// A lease: this node, the seed, may read this blob from its origin for so long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes, as the seed found it at the origin.
    pub length: u64,
    /// Which lease this is.
    pub epoch: Epoch,
    /// Who may read the origin.
    pub seed: NodeId,
    /// How long, counted by the seed from *sending* the request that this answers. No clocks are compared.
    pub duration: Duration,
    /// Whether the blob may be read by anybody.
    pub visibility: Visibility,
}

/// A grant with its coordinator's signature. Fields are private: what can be read has been checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedGrant {
    grant: Grant,
    signature: Signature,
}

const KIND: &str = "grant";

impl Grant {
    /// Signs the grant.
    ///
    /// # Panics
    /// When the key is not that of the coordinator that the epoch names.
    #[must_use]
    pub fn sign(self, key: &NodeKey) -> SignedGrant {
        assert_eq!(self.epoch.coordinator, key.id(), "only the coordinator signs its grants");
        SignedGrant { signature: key.sign(KIND, &self), grant: self }
    }
}

impl SignedGrant {
    /// What is granted, once the signature has been checked.
    ///
    /// # Errors
    /// [`SignatureError`] when the coordinator that the epoch names did not sign it.
    pub fn check(&self) -> Result<&Grant, SignatureError> {
        self.signature.check(KIND, &self.grant, self.grant.epoch.coordinator).map(|()| &self.grant)
    }

    /// What is granted, unchecked: for one who signed it or has checked it before.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}
