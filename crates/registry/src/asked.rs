//! What a path asks for.

use shoal_blob::{Digest, Reference, Repository};

use crate::answer::Fault;

/// A request's path, read by the distribution-spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `/v2/`
    Check,
    /// `/token`
    Token,
    /// `/v2/<name>/manifests/<reference>`
    Manifest { repository: String, reference: Reference },
    /// `/v2/<name>/blobs/<digest>`
    Blob { repository: String, digest: Digest },
    /// `/v2/<name>/tags/list`
    Tags { repository: String },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { repository: String, digest: Digest },
}

impl Asked {
    /// Reads a path.
    pub(crate) fn read(path: &str) -> Result<Self, Fault> {
        let rest = match path {
            "/v2" | "/v2/" => return Ok(Self::Check),
            "/token" => return Ok(Self::Token),
            path => path.strip_prefix("/v2/").ok_or_else(|| Fault::no_route(path))?,
        };
        // The name may itself have many parts, so it is read from the end.
        let (rest, last) = rest.rsplit_once('/').ok_or_else(|| Fault::no_route(path))?;
        let (name, kind) = rest.rsplit_once('/').ok_or_else(|| Fault::no_route(path))?;
        let repository = name.to_owned();
        let named = Repository::new("localhost", name).map(|_| ()).map_err(|error| Fault::name_invalid(&error));
        let digest = || last.parse::<Digest>().map_err(|error| Fault::digest_invalid(&error));
        match kind {
            "manifests" => {
                named?;
                let reference = last.parse().map_err(|error| Fault::reference_invalid(&error))?;
                Ok(Self::Manifest { repository, reference })
            }
            "blobs" => named.and_then(|()| Ok(Self::Blob { repository, digest: digest()? })),
            "tags" if last == "list" => named.map(|()| Self::Tags { repository }),
            "referrers" => named.and_then(|()| Ok(Self::Referrers { repository, digest: digest()? })),
            _ => Err(Fault::no_route(path)),
        }
    }

    /// The repository that is asked for, where one is.
    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Self::Check | Self::Token => None,
            Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. } => Some(repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn reads_every_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let repository = "a/b/manifests".to_owned();
        assert_eq!(Asked::read("/v2/").unwrap(), Asked::Check);
        assert_eq!(
            Asked::read("/v2/a/b/manifests/manifests/v1").unwrap(),
            Asked::Manifest { repository: repository.clone(), reference: Reference::Tag("v1".into()) }
        );
        assert_eq!(
            Asked::read(&format!("/v2/a/b/manifests/blobs/{digest}")).unwrap(),
            Asked::Blob { repository: repository.clone(), digest: digest.parse().unwrap() }
        );
        assert_eq!(Asked::read("/v2/a/b/manifests/tags/list").unwrap(), Asked::Tags { repository });
    }

    #[test]
    fn refuses_the_rest_with_the_right_status() {
        for (path, status) in [
            ("/", StatusCode::NOT_FOUND),
            ("/v2/a", StatusCode::NOT_FOUND),
            ("/v2/a/b", StatusCode::NOT_FOUND),
            ("/v2/a/things/b", StatusCode::NOT_FOUND),
            ("/v2/a/../b/manifests/v1", StatusCode::BAD_REQUEST),
            ("/v2/A/manifests/v1", StatusCode::BAD_REQUEST),
            ("/v2/a/manifests/.v1", StatusCode::BAD_REQUEST),
            ("/v2/a/blobs/sha256:12", StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(Asked::read(path).unwrap_err().status(), status, "{path}");
        }
    }
}
