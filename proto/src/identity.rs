//! One Ed25519 key a node: its name, its certificate's key and its signature.

use std::fmt;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shoal_blob::Digest;

/// The name of a node: its Ed25519 public key. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId([u8; 32]);

/// How far a node is from a digest, in Kademlia's metric: the XOR of their SHA-256 hashes, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 32]);

impl NodeId {
    /// Takes a public key off the wire. That it is a point of the curve shows when a signature is checked.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How far this node is from a digest: the nearest live node coordinates it.
    #[must_use]
    pub fn distance(&self, digest: &Digest) -> Distance {
        // Kademlia hashes a peer's name as libp2p writes it: a multihash that holds the public key itself.
        let mut node = Sha256::new().chain_update([0x00, 0x24, 0x08, 0x01, 0x12, 0x20]).chain_update(self.0).finalize();
        node.iter_mut().zip(Sha256::digest(digest.as_bytes())).for_each(|(a, b)| *a ^= b);
        Distance(node.into())
    }
}

/// The first ten hexadecimal digits: enough to tell nodes apart in a log.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..5]))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([[u8; 32]; 2]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

/// A signature that its supposed signer did not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature on a {kind} is not one of node {signer}")]
pub struct SignatureError {
    /// What was signed.
    pub kind: &'static str,
    /// Who is said to have signed it.
    pub signer: NodeId,
}

/// A node's secret key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// The key made of 32 secret random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32 secret bytes, for the key file, the certificate and libp2p.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The node's name.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs a value under a kind, so that no signature can be taken for one of another kind.
    #[must_use]
    pub fn sign<T: Serialize>(&self, kind: &'static str, value: &T) -> Signature {
        let bytes = self.0.sign(&signed_bytes(kind, value)).to_bytes();
        let (halves, _) = bytes.as_chunks();
        Signature([halves[0], halves[1]])
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

impl Signature {
    /// Checks that `signer` signed `value` under `kind`.
    ///
    /// # Errors
    /// [`SignatureError`] when it did not, or is not a key at all.
    pub fn check<T: Serialize>(&self, kind: &'static str, value: &T, signer: NodeId) -> Result<(), SignatureError> {
        let bytes = ed25519_dalek::Signature::from_components(self.0[0], self.0[1]);
        VerifyingKey::from_bytes(&signer.0)
            .and_then(|key| key.verify_strict(&signed_bytes(kind, value), &bytes))
            .map_err(|_| SignatureError { kind, signer })
    }
}

fn signed_bytes<T: Serialize>(kind: &'static str, value: &T) -> Vec<u8> {
    postcard::to_stdvec(&("shoal", 1u8, kind, value)).expect("what we sign has a form on the wire")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_kind_value_and_signer_alone() {
        let (key, other) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let signature = key.sign("grant", &7u32);
        assert_eq!(signature.check("grant", &7u32, key.id()), Ok(()));
        assert!(signature.check("grant", &8u32, key.id()).is_err());
        assert!(signature.check("segment", &7u32, key.id()).is_err());
        assert!(signature.check("grant", &7u32, other.id()).is_err());
        assert!(signature.check("grant", &7u32, NodeId::from_bytes([255; 32])).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let key = NodeKey::from_seed(&[0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
    }
}
