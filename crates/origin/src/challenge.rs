//! What a registry says about how it wants to be asked (`WWW-Authenticate`).

use http::{HeaderMap, header};
use reqwest::Url;

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// It does not say, or has not been asked for anything that needs a word.
    None,
    /// A name and a password with each request.
    Basic,
    /// A token from the service at `realm`.
    Bearer(Bearer),
}

/// Where a token is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
}

impl Challenge {
    /// Reads the headers of an answer; a token is preferred to a password. `None` when there is no challenge that can be
    /// followed.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                let param = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = param("realm").and_then(|realm| Url::parse(&realm).ok())
                {
                    return Some(Self::Bearer(Bearer { realm, service: param("service"), scope: param("scope") }));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

/// The scope of pulling from a repository.
pub(crate) fn pull_scope(path: &str) -> String {
    format!("repository:{path}:pull")
}

/// A registry's challenge as it is relayed to a caller: one that names no scope gets that of the repository, because
/// nothing else tells the caller what to ask a token for.
pub(crate) fn with_scope(value: &str, path: &str) -> String {
    let bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let scoped = http_auth::parse_challenges(value).unwrap_or_default().iter().any(|challenge| {
        challenge.params.iter().any(|(key, value)| key.eq_ignore_ascii_case("scope") && value.unescaped_len() > 0)
    });
    if bearer && !scoped { format!("{value},scope=\"{}\"", pull_scope(path)) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::read(&headers)
    }

    #[test]
    fn reads_challenges() {
        let hub =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let Some(Challenge::Bearer(bearer)) = read(&[hub]) else { panic!("{hub}") };
        assert_eq!(bearer.realm.as_str(), "https://auth.docker.io/token");
        assert_eq!(bearer.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(bearer.scope.as_deref(), Some("repository:a/b:pull"));
        assert_eq!(read(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert!(matches!(read(&["Basic realm=\"x\"", hub]), Some(Challenge::Bearer(_))));
        assert_eq!(read(&["Bearer realm=\"no url\""]), None);
        assert_eq!(read(&["Negotiate"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn adds_a_scope_only_where_there_is_none() {
        let bare = r#"Bearer realm="https://r/token",service="r""#;
        assert_eq!(with_scope(bare, "a/b"), format!("{bare},scope=\"repository:a/b:pull\""));
        let scoped = r#"Bearer realm="https://r/token",scope="repository:a/b:pull""#;
        assert_eq!(with_scope(scoped, "a/b"), scoped);
        assert_eq!(with_scope("Basic realm=\"r\"", "a/b"), "Basic realm=\"r\"");
    }
}
