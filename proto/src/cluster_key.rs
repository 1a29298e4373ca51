//! The cluster key: who has it is a member, who has not stays outside both doors.
//!
//! A proof is an HMAC-SHA-256 over the plane, the prover's role, both nodes and what makes this session unlike any other:
//! two fresh nonces on the control plane, the TLS exporter on the data plane. So a proof cannot be replayed, reflected or
//! carried to another session. A file may hold several keys: the first proves, all are accepted, so that keys can be
//! rotated without stopping the cluster.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use crate::NodeId;

/// How many keys a file may hold.
const MOST_KEYS: usize = 8;

/// One shared secret of 32 bytes, written as 64 hexadecimal digits. Wiped when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

/// The keys of a cluster: the first proves, all are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterKeys(Vec<ClusterKey>);

/// Why a text is not a list of cluster keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterKeyError {
    /// A line is not a key.
    #[error("line {line} is not a cluster key: 64 hexadecimal digits are expected, as `shoal key new` prints them")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// There is no key.
    #[error("there is no key in it; `shoal key new` prints one")]
    Empty,
    /// There are too many.
    #[error("there are more than {MOST_KEYS} keys in it")]
    TooMany,
}

/// Which door is knocked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// libp2p: the session is two nonces, the dialer's first.
    Control,
    /// QUIC: the session is the TLS exporter's output.
    Data,
}

/// Which end of the connection proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that opened the connection.
    Dialer,
    /// The one that accepted it.
    Listener,
}

/// A proof of membership.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

impl ClusterKey {
    /// The key made of 32 secret random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The line of a key file: what `shoal key new` prints.
    #[must_use]
    pub fn to_line(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(HEXLOWER.encode(&self.0))
    }

    fn proof(&self, plane: Plane, role: Role, prover: NodeId, other: NodeId, session: &[u8]) -> Proof {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"shoal membership 1");
        mac.update(&[plane as u8, role as u8]);
        mac.update(prover.as_bytes());
        mac.update(other.as_bytes());
        mac.update(session);
        Proof(mac.finalize().into_bytes().into())
    }
}

impl Drop for ClusterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey")
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}

impl ClusterKeys {
    /// Reads a key file: a key a line; blank lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`ClusterKeyError`]; it never holds any of the text.
    pub fn parse(text: &str) -> Result<Self, ClusterKeyError> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bytes = zeroize::Zeroizing::new(
                data_encoding::HEXLOWER_PERMISSIVE
                    .decode(line.as_bytes())
                    .map_err(|_| ClusterKeyError::Line { line: at + 1 })?,
            );
            let bytes = bytes.as_slice().try_into().map_err(|_| ClusterKeyError::Line { line: at + 1 })?;
            keys.push(ClusterKey(bytes));
        }
        match keys.len() {
            0 => Err(ClusterKeyError::Empty),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err(ClusterKeyError::TooMany),
        }
    }

    /// Proves membership to `other` in this session, with the first key.
    #[must_use]
    pub fn prove(&self, plane: Plane, role: Role, me: NodeId, other: NodeId, session: &[u8]) -> Proof {
        self.0[0].proof(plane, role, me, other, session)
    }

    /// Whether `prover`, who has that role in this session, holds one of the keys. Takes the same time for every answer.
    #[must_use]
    pub fn accepts(&self, proof: &Proof, plane: Plane, role: Role, prover: NodeId, me: NodeId, session: &[u8]) -> bool {
        let any = self
            .0
            .iter()
            .fold(Choice::from(0), |any, key| any | key.proof(plane, role, prover, me, session).0.ct_eq(&proof.0));
        any.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> ClusterKeys {
        ClusterKeys::parse(text).unwrap()
    }

    #[test]
    fn a_proof_opens_one_door_in_one_session_for_one_node() {
        let (a, b) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let cluster = keys(&"5a".repeat(32));
        let proof = cluster.prove(Plane::Control, Role::Dialer, a, b, b"nonces");
        assert!(cluster.accepts(&proof, Plane::Control, Role::Dialer, a, b, b"nonces"));
        assert!(!cluster.accepts(&proof, Plane::Data, Role::Dialer, a, b, b"nonces"));
        assert!(!cluster.accepts(&proof, Plane::Control, Role::Listener, a, b, b"nonces"));
        assert!(!cluster.accepts(&proof, Plane::Control, Role::Dialer, b, a, b"nonces"));
        assert!(!cluster.accepts(&proof, Plane::Control, Role::Dialer, a, b, b"other nonces"));
        assert!(!keys(&"5b".repeat(32)).accepts(&proof, Plane::Control, Role::Dialer, a, b, b"nonces"));
    }

    #[test]
    fn keys_rotate() {
        let (a, b) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let (old, new) = ("11".repeat(32), "22".repeat(32));
        let (before, during, after) = (keys(&old), keys(&format!("# rotation\n{new}\n\n{old}\n")), keys(&new));
        let prove = |keys: &ClusterKeys| keys.prove(Plane::Data, Role::Listener, a, b, b"x");
        let accepts = |keys: &ClusterKeys, proof: &Proof| keys.accepts(proof, Plane::Data, Role::Listener, a, b, b"x");
        assert!(accepts(&during, &prove(&before)));
        assert!(accepts(&after, &prove(&during)));
        assert!(!accepts(&before, &prove(&during)));
    }

    #[test]
    fn bad_files_are_told_without_their_text() {
        assert_eq!(ClusterKeys::parse("\n# none\n").unwrap_err(), ClusterKeyError::Empty);
        assert_eq!(ClusterKeys::parse("\nabcd\n").unwrap_err(), ClusterKeyError::Line { line: 2 });
        let many = format!("{}\n", "ab".repeat(32)).repeat(9);
        assert_eq!(ClusterKeys::parse(&many).unwrap_err(), ClusterKeyError::TooMany);
        assert!(!format!("{:?}", keys(&"ab".repeat(32))).contains("abab"));
    }
}
