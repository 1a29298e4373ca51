//! The name of a blob: an algorithm and a hash, written `sha256:<64 hex digits>`.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A hash algorithm that OCI registries use and whose chain Shoal can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: 32-byte digests, 64-byte blocks.
    Sha256,
    /// SHA-512: 64-byte digests, 128-byte blocks.
    Sha512,
}

impl Algorithm {
    /// The length of a digest, and of a midstate, in bytes.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name as it stands before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The digest that names a blob. Ordered and hashed by value; 65 bytes in memory, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon, or the part before it is not an algorithm we follow.
    #[error("digest {0:?}: the algorithm must be sha256 or sha512, as in sha256:<64 hex digits>")]
    Algorithm(String),
    /// The part after the colon is not lower-case hexadecimal of the right length.
    #[error("digest {text:?}: {expected} lower-case hex digits must follow the colon")]
    Hex {
        /// The text as it came, shortened to 160 characters.
        text: String,
        /// How many digits the algorithm has.
        expected: usize,
    },
}

impl Digest {
    /// Makes a digest of raw bytes; `None` unless there are exactly as many as the algorithm has.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => bytes.try_into().ok().map(Self::Sha256),
            Algorithm::Sha512 => bytes.try_into().ok().map(Self::Sha512),
        }
    }

    /// Which algorithm this digest is of.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes, 32 or 64.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The hexadecimal part alone, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let shortened = || text.chars().take(160).collect::<String>();
        let (algorithm, hex) = match text.split_once(':') {
            Some(("sha256", hex)) => (Algorithm::Sha256, hex),
            Some(("sha512", hex)) => (Algorithm::Sha512, hex),
            _ => return Err(DigestError::Algorithm(shortened())),
        };
        let expected = 2 * algorithm.width();
        (hex.len() == expected)
            .then(|| HEXLOWER.decode(hex.as_bytes()).ok())
            .flatten()
            .and_then(|bytes| Self::from_bytes(algorithm, &bytes))
            .ok_or_else(|| DigestError::Hex { text: shortened(), expected })
    }
}

/// Text where people read it, raw bytes on the wire: the length tells the algorithm.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(self.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sha256 or sha512 digest")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                Digest::from_bytes(Algorithm::Sha256, bytes)
                    .or_else(|| Digest::from_bytes(Algorithm::Sha512, bytes))
                    .ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [format!("sha256:{}", "0f".repeat(32)), format!("sha512:{}", "a9".repeat(64))] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("sha256:{}", "0F".repeat(32)),
            &format!("sha256:{}", "0f".repeat(31)),
            &format!("sha256:{}", "0f".repeat(33)),
            &format!("sha512:{}", "0f".repeat(32)),
            &format!("sha256:../{}", "0".repeat(61)),
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was taken for a digest");
        }
    }
}
