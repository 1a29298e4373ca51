//! Who may pull.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::token::Tokens;

const SERVICE: &str = "shoal-registry";

/// How callers show who they are.
#[derive(Debug, Default)]
enum Scheme {
    #[default]
    Open,
    Basic,
    Bearer(Tokens),
}

/// Who may pull, and how they show it.
#[derive(Debug, Default)]
pub(crate) struct Access {
    scheme: Scheme,
    passwords: HashMap<String, String>,
    public: BTreeSet<String>,
}

/// A caller that may not: the challenge to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge(pub(crate) String);

impl Access {
    pub(crate) fn basic(&mut self, user: &str, password: &str) {
        self.scheme = Scheme::Basic;
        self.passwords.insert(user.to_owned(), password.to_owned());
    }

    pub(crate) fn bearer(&mut self, user: &str, password: &str, lifetime: Duration) {
        self.scheme = Scheme::Bearer(Tokens::new(lifetime));
        self.passwords.insert(user.to_owned(), password.to_owned());
    }

    pub(crate) fn public(&mut self, repository: &str) {
        self.public.insert(repository.to_owned());
    }

    pub(crate) const fn tokens(&self) -> Option<&Tokens> {
        match &self.scheme {
            Scheme::Bearer(tokens) => Some(tokens),
            Scheme::Open | Scheme::Basic => None,
        }
    }

    /// Lets a request for a repository (or for `/v2/`) through and says whose it is, or challenges it. `host` is where
    /// the caller reached this registry, so that it can reach the token endpoint there too.
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        repository: Option<&str>,
        host: &str,
    ) -> Result<Option<String>, Challenge> {
        let public = repository.is_some_and(|repository| self.public.contains(repository));
        match &self.scheme {
            Scheme::Open => Ok(self.user(authorization).ok().flatten()),
            Scheme::Basic => match self.user(authorization) {
                Ok(Some(user)) => Ok(Some(user)),
                Ok(None) if public => Ok(None),
                _ => Err(self.challenge(repository, host, None)),
            },
            Scheme::Bearer(tokens) => {
                let Some(token) = credentials(authorization, "bearer") else {
                    return Err(self.challenge(repository, host, None));
                };
                let refuse = |error| Err(self.challenge(repository, host, Some(error)));
                match tokens.look_up(token, Instant::now()) {
                    None => refuse("invalid_token"),
                    Some(grant) if repository.is_none_or(|repository| grant.repositories.contains(repository)) => {
                        Ok(grant.user)
                    }
                    Some(_) => refuse("insufficient_scope"),
                }
            }
        }
    }

    /// The user whose Basic credentials these are; nobody where none were sent.
    pub(crate) fn user(&self, authorization: Option<&str>) -> Result<Option<String>, WrongCredentials> {
        let Some(authorization) = authorization else { return Ok(None) };
        let decoded = credentials(Some(authorization), "basic")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or(WrongCredentials)?;
        let (user, password) = decoded.split_once(':').ok_or(WrongCredentials)?;
        let right = self.passwords.get(user).is_some_and(|expected| expected == password);
        if right { Ok(Some(user.to_owned())) } else { Err(WrongCredentials) }
    }

    /// The repositories that a token for these scopes may pull from: all that a user names, the public ones for nobody.
    pub(crate) fn grantable<'a>(&self, user: Option<&str>, scopes: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        scopes
            .flat_map(str::split_whitespace)
            .filter_map(|scope| {
                let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
                actions.split(',').any(|action| action == "pull" || action == "*").then(|| name.to_owned())
            })
            .filter(|name| user.is_some() || self.public.contains(name))
            .collect()
    }

    /// The `WWW-Authenticate` of an answer with 401.
    pub(crate) fn challenge(&self, repository: Option<&str>, host: &str, error: Option<&str>) -> Challenge {
        if self.tokens().is_none() {
            return Challenge(format!("Basic realm=\"{SERVICE}\""));
        }
        let mut text = format!("Bearer realm=\"http://{host}/token\",service=\"{SERVICE}\"");
        if let Some(repository) = repository {
            text += &format!(",scope=\"repository:{repository}:pull\"");
        }
        if let Some(error) = error {
            text += &format!(",error=\"{error}\"");
        }
        Challenge(text)
    }

    /// The challenge of the token endpoint itself.
    pub(crate) fn token_challenge() -> Challenge {
        Challenge(format!("Basic realm=\"{SERVICE}\""))
    }
}

/// Credentials were sent and are not those of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongCredentials;

fn credentials<'a>(authorization: Option<&'a str>, scheme: &str) -> Option<&'a str> {
    let (found, rest) = authorization?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn basic_credentials_are_checked() {
        let mut access = Access::default();
        access.basic("ann", "se:cret");
        access.public("open/one");
        let ann = basic("ann:se:cret");
        assert_eq!(access.admit(Some(&ann), Some("a"), "h"), Ok(Some("ann".into())));
        assert_eq!(access.admit(None, Some("open/one"), "h"), Ok(None));
        for wrong in [None, Some(basic("ann:x")), Some(basic("bob:se:cret")), Some("Basic !".into())] {
            let challenge = access.admit(wrong.as_deref(), Some("a"), "h").unwrap_err();
            assert_eq!(challenge.0, "Basic realm=\"shoal-registry\"");
        }
    }

    #[test]
    fn a_token_opens_what_its_scope_names() {
        let mut access = Access::default();
        access.bearer("ann", "x", Duration::from_secs(60));
        access.public("open/one");
        let challenge = access.admit(None, Some("a/b"), "host:1").unwrap_err();
        assert_eq!(
            challenge.0,
            "Bearer realm=\"http://host:1/token\",service=\"shoal-registry\",scope=\"repository:a/b:pull\""
        );
        let scopes = ["repository:a/b:pull,push repository:c:push", "repository:open/one:pull", "catalog:*"];
        let all = access.grantable(Some("ann"), scopes.into_iter());
        assert_eq!(all, BTreeSet::from(["a/b".into(), "open/one".into()]));
        assert_eq!(access.grantable(None, scopes.into_iter()), BTreeSet::from(["open/one".into()]));
        let token = access.tokens().unwrap().issue(Some("ann".into()), all, Instant::now());
        let bearer = format!("bearer {token}");
        assert_eq!(access.admit(Some(&bearer), Some("a/b"), "h"), Ok(Some("ann".into())));
        assert_eq!(access.admit(Some(&bearer), None, "h"), Ok(Some("ann".into())));
        let refused = access.admit(Some(&bearer), Some("c"), "h").unwrap_err();
        assert!(refused.0.ends_with("error=\"insufficient_scope\""), "{}", refused.0);
    }
}
