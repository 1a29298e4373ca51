//! Words that must not be printed, and are wiped when they are dropped.

use std::fmt;

use http::HeaderValue;
use zeroize::Zeroizing;

/// A password or a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

/// What is known of oneself at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A name and a password, for the registry or for its token service.
    Password { user: String, password: Secret },
    /// A refresh token for the token service (`identitytoken`).
    Identity(Secret),
    /// A bearer token for the registry itself (`registrytoken`).
    Registry(Secret),
}

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// `<scheme> <secret>` as the value of an Authorization header; `None` where it cannot stand in a header.
    pub(crate) fn header(&self, scheme: &str) -> Option<HeaderValue> {
        let text = Zeroizing::new(format!("{scheme} {}", self.expose()));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}
