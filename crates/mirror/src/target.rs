//! What a request's path and query ask for.
//!
//! Three forms name the registry: `?ns=<registry>` (containerd), a first path component that looks like a host
//! (`/v2/<registry>/<repository>/...`: CRI-O, podman, skopeo), or none, which means the default (Docker). The path is
//! percent-decoded once, then read from the right, so that a repository may have components called `blobs` or
//! `manifests`; every part must then fit its grammar.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use shoal_blob::{Digest, DigestError, Reference, Repository};

use crate::{Failure, Relay, Route};

/// A request's target, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/v2/`: is this a registry?
    Ping,
    /// Something in a repository.
    Named(Named),
}

/// Something in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) repository: Repository,
    /// The `ns` parameter as it came, where there was one; it fits the grammar of a registry.
    pub(crate) namespace: Option<String>,
    /// The other parameters, still percent-encoded.
    pub(crate) query: String,
    pub(crate) what: What,
}

/// What is asked for in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Manifest(Reference),
    Blob(Digest),
    Listing(Relay),
}

impl Target {
    /// Parses the path and the query of a request line.
    pub(crate) fn parse(path: &str, query: &str, default_registry: Option<&str>) -> Result<Self, Failure> {
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Ping),
            Some(rest) => rest.strip_prefix('/').ok_or(Failure::RouteUnknown)?,
            None => return Err(Failure::RouteUnknown),
        };
        let rest = percent_decode_str(rest)
            .decode_utf8()
            .map_err(|_| Failure::NameInvalid { reason: "the path is not UTF-8 once percent-decoded".to_owned() })?;
        let mut from_the_right = rest.rsplitn(3, '/');
        let last = from_the_right.next().unwrap_or_default();
        let keyword = from_the_right.next().unwrap_or_default();
        let name = from_the_right.next().unwrap_or_default();
        let what = match (keyword, last) {
            ("manifests", reference) => What::Manifest(parse_reference(reference)?),
            ("blobs", digest) => What::Blob(parse_digest(digest)?),
            ("tags", "list") => What::Listing(Relay::Tags),
            ("referrers", digest) => What::Listing(Relay::Referrers(parse_digest(digest)?)),
            _ => return Err(Failure::RouteUnknown),
        };
        let Parameters { namespace, query } = Parameters::parse(query)?;
        let (registry, path) = match (&namespace, split_registry(name), default_registry) {
            (Some(namespace), _, _) => (namespace.as_str(), name),
            (None, Some(split), _) => split,
            (None, None, Some(default)) => (default, name),
            (None, None, None) => {
                return Err(Failure::NameInvalid {
                    reason: "no registry is named: add ?ns=<registry>, or put it first, as in /v2/<registry>/<name>/"
                        .to_owned(),
                });
            }
        };
        let repository =
            Repository::new(registry, path).map_err(|error| Failure::NameInvalid { reason: error.to_string() })?;
        Ok(Self::Named(Named { repository, namespace, query, what }))
    }

    /// Under which route it is counted.
    pub(crate) const fn route(&self) -> Route {
        match self {
            Self::Ping => Route::Ping,
            Self::Named(named) => match named.what {
                What::Manifest(_) => Route::Manifest,
                What::Blob(_) => Route::Blob,
                What::Listing(Relay::Tags) => Route::Tags,
                What::Listing(Relay::Referrers(_)) => Route::Referrers,
            },
        }
    }
}

impl Named {
    /// What was asked for, for logs and error details.
    pub(crate) fn reference(&self) -> Cow<'static, str> {
        match &self.what {
            What::Manifest(reference) => reference.to_string().into(),
            What::Blob(digest) | What::Listing(Relay::Referrers(digest)) => digest.to_string().into(),
            What::Listing(Relay::Tags) => "tags".into(),
        }
    }
}

/// The registry and the rest, where the first of several components looks like a host: as reference grammars have it,
/// when it contains a dot or a colon or is `localhost`.
fn split_registry(name: &str) -> Option<(&str, &str)> {
    let (first, rest) = name.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some((first, rest))
}

struct Parameters {
    namespace: Option<String>,
    query: String,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, Failure> {
        let mut parameters = Self { namespace: None, query: String::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if percent_decode_str(key).ne(b"ns".iter().copied()) {
                if !parameters.query.is_empty() {
                    parameters.query.push('&');
                }
                parameters.query.push_str(pair);
                continue;
            }
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| Failure::NameInvalid { reason: "ns is not UTF-8 once percent-decoded".to_owned() })?;
            if parameters.namespace.replace(value.into_owned()).is_some() {
                return Err(Failure::NameInvalid { reason: "ns is given twice: name one registry".to_owned() });
            }
        }
        Ok(parameters)
    }
}

fn parse_reference(text: &str) -> Result<Reference, Failure> {
    if text.contains(':') {
        return parse_digest(text).map(Reference::Digest);
    }
    text.parse().map_err(|error: shoal_blob::NameError| Failure::ReferenceInvalid { reason: error.to_string() })
}

fn parse_digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: DigestError| Failure::DigestInvalid { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn named(path: &str, query: &str) -> Named {
        match Target::parse(path, query, Some("docker.io")) {
            Ok(Target::Named(named)) => named,
            other => panic!("{path}?{query}: {other:?}"),
        }
    }

    fn refused(path: &str, query: &str) -> &'static str {
        match Target::parse(path, query, Some("docker.io")) {
            Err(failure) => failure.answer().1,
            Ok(target) => panic!("{path}?{query}: {target:?}"),
        }
    }

    #[test]
    fn three_forms_name_the_registry() {
        for (path, query, repository) in [
            ("/v2/library/alpine/manifests/3", "ns=ghcr.io", "ghcr.io/library/alpine"),
            ("/v2/a/manifests/3", "ns=localhost%3A5000", "localhost:5000/a"),
            ("/v2/a/manifests/3", "x=1&%6es=node7", "node7/a"),
            ("/v2/ghcr.io/a/b/manifests/3", "", "ghcr.io/a/b"),
            ("/v2/node7:5000/a/manifests/3", "", "node7:5000/a"),
            ("/v2/localhost/a/manifests/3", "", "localhost/a"),
            ("/v2/%5B::1%5D:5000/a/manifests/3", "", "[::1]:5000/a"),
            ("/v2/library%2Falpine/manifests/3", "", "docker.io/library/alpine"),
            ("/v2/ghcr.io/manifests/3", "", "docker.io/ghcr.io"),
        ] {
            assert_eq!(named(path, query).repository.to_string(), repository, "{path}?{query}");
        }
        let none = Target::parse("/v2/a/b/manifests/3", "", None);
        assert_eq!(none.unwrap_err().answer().1, "NAME_INVALID");
    }

    #[test]
    fn the_path_is_read_from_the_right() {
        let digest = format!("sha256:{HEX}");
        let deep = named(&format!("/v2/r.io/blobs/manifests/tags/list/blobs/{digest}"), "");
        assert_eq!(deep.repository.path(), "blobs/manifests/tags/list");
        assert_eq!(deep.what, What::Blob(digest.parse().unwrap()));
        assert_eq!(named("/v2/r.io/a/tags/list", "n=5&ns=q.io&last=x").query, "n=5&last=x");
        assert_eq!(
            named(&format!("/v2/a/referrers/{digest}"), "").what,
            What::Listing(Relay::Referrers(digest.parse().unwrap()))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_code() {
        for (path, query, code) in [
            ("/", "", "UNSUPPORTED"),
            ("/v1/", "", "UNSUPPORTED"),
            ("/v2x/a/manifests/b", "", "UNSUPPORTED"),
            ("/v2/_catalog", "", "UNSUPPORTED"),
            ("/v2/a/blobs/uploads/", "", "UNSUPPORTED"),
            ("/v2/a/blobs/sha256:xyz", "", "DIGEST_INVALID"),
            ("/v2/a/blobs/latest", "", "DIGEST_INVALID"),
            ("/v2/a/manifests/sha256:xyz", "", "DIGEST_INVALID"),
            ("/v2/a/manifests/.x", "", "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/", "", "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/x%00", "", "MANIFEST_UNKNOWN"),
            ("/v2/manifests/x", "", "NAME_INVALID"),
            ("/v2//manifests/x", "", "NAME_INVALID"),
            ("/v2/A/manifests/x", "", "NAME_INVALID"),
            ("/v2/a/../b/manifests/x", "", "NAME_INVALID"),
            ("/v2/%2e%2e/manifests/x", "", "NAME_INVALID"),
            ("/v2/a%252fb/manifests/x", "", "NAME_INVALID"),
            ("/v2/%ff/manifests/x", "", "NAME_INVALID"),
            ("/v2/a/manifests/x", "ns=a.io&ns=a.io", "NAME_INVALID"),
            ("/v2/a/manifests/x", "ns=", "NAME_INVALID"),
            ("/v2/a/manifests/x", "ns=u@a.io", "NAME_INVALID"),
            ("/v2/a/manifests/x", "ns=http://a.io", "NAME_INVALID"),
        ] {
            assert_eq!(refused(path, query), code, "{path}?{query}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in "(/v2)?/?[ -~]{0,60}", query in "[ -~]{0,40}") {
            let _ = Target::parse(&path, &query, Some("docker.io"));
        }

        #[test]
        fn nothing_hostile_is_taken(
            name in "[a-z0-9._:/%-]{0,30}",
            keyword in "manifests|blobs|referrers|tags",
            last in "[a-zA-Z0-9._:%/-]{0,20}|list|sha256:[0-9a-f]{64}",
            query in "(ns=[a-z0-9.:%-]{0,12}|n=[0-9]|&){0,4}",
        ) {
            let path = format!("/v2/{name}/{keyword}/{last}");
            if let Ok(Target::Named(first)) = Target::parse(&path, &query, Some("docker.io")) {
                // What was taken, written out in full, must be read as the same.
                let last = match &first.what {
                    What::Manifest(reference) => format!("manifests/{reference}"),
                    What::Blob(digest) => format!("blobs/{digest}"),
                    What::Listing(Relay::Tags) => "tags/list".to_owned(),
                    What::Listing(Relay::Referrers(digest)) => format!("referrers/{digest}"),
                };
                let full = format!("/v2/{}/{last}", first.repository.path());
                let query = format!("{}&ns={}", first.query, first.repository.registry());
                let again = named(&full, &query);
                prop_assert_eq!(&again.repository, &first.repository);
                prop_assert_eq!(&again.what, &first.what);
                prop_assert_eq!(&again.query, &first.query);
            }
        }

        #[test]
        fn both_forms_mean_the_same(
            registry in "[a-z]{1,8}(\\.[a-z]{1,5}){1,2}(:[1-9][0-9]{0,3})?",
            path in "[a-z0-9]{1,8}(/(manifests|blobs|tags|[a-z0-9]{1,8})){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            let prefixed = named(&format!("/v2/{registry}/{path}/manifests/{tag}"), "");
            let spaced = named(&format!("/v2/{path}/manifests/{tag}"), &format!("ns={registry}"));
            prop_assert_eq!(&prefixed.repository, &spaced.repository);
            prop_assert_eq!(prefixed.what, spaced.what);
            prop_assert_eq!(spaced.namespace, Some(registry));
        }
    }
}
