//! The registries that the mirror is put before.

use std::{collections::BTreeSet, str::FromStr};

use http::Uri;
use shoal_blob::Repository;

use crate::Error;

/// A registry as images name it, as in `docker.io` or `registry.lan:5000`; with a URL where it is not at `https://NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    name: String,
    url: Option<String>,
}

impl Registry {
    /// Its name; safe to be a part of a path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, if that was said.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }
}

/// Two that mean the same might contradict each other.
pub(crate) fn refuse_twice(registries: &[Registry]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match registries.iter().find(|registry| !seen.insert(registry.name())) {
        Some(twice) => Err(Error::Misused(format!("{} is named twice: name each registry once", twice.name()))),
        None => Ok(()),
    }
}

impl FromStr for Registry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) => (name, Some(url)),
            None => (text, None),
        };
        let is_url = |url: &str| {
            url.parse::<Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.query().is_none()
            })
        };
        // containerd's names have a dot, a port, or are `localhost`; a word alone is a namespace of docker.io.
        let is_name = Repository::new(name, "a").is_ok() && !name.starts_with('.');
        (is_name && url.is_none_or(is_url))
            .then(|| Self { name: name.to_owned(), url: url.map(str::to_owned) })
            .ok_or_else(|| {
                "expected NAME or NAME=URL, such as docker.io or registry.lan:5000=http://registry.lan:5000".to_owned()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_have_names_that_are_safe_in_paths() {
        let registry: Registry = "registry.lan:5000=http://registry.lan:5000".parse().unwrap();
        assert_eq!((registry.name(), registry.url()), ("registry.lan:5000", Some("http://registry.lan:5000")));
        assert_eq!("docker.io".parse::<Registry>().unwrap().url(), None);
        for wrong in ["", "..", "../etc", "a/b", "docker.io=", "docker.io=ftp://x", "a b", "_default", "docker.io=\"x"]
        {
            assert!(wrong.parse::<Registry>().is_err(), "{wrong:?} was taken");
        }
    }
}
