//! Bearer tokens: what they allow and until when.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;

/// How many tokens are kept; beyond that the one that ends first goes.
const MOST_TOKENS: usize = 16_384;

/// A token's meaning.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Who asked for it; nobody for public content.
    pub(crate) user: Option<String>,
    /// The repositories that it lets its bearer pull from.
    pub(crate) repositories: BTreeSet<String>,
    expires: Instant,
}

/// The tokens that were handed out and have not ended.
#[derive(Debug)]
pub(crate) struct Tokens {
    lifetime: Duration,
    grants: Mutex<HashMap<String, Grant>>,
}

impl Tokens {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, grants: Mutex::default() }
    }

    pub(crate) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Makes a token, which lives from `now` on. It tells its end as a JWT does, rounded down to a second, and is signed by
    /// nobody.
    pub(crate) fn issue(&self, user: Option<String>, repositories: BTreeSet<String>, now: Instant) -> String {
        let ends = SystemTime::now() + self.lifetime;
        let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let claims = format!("{{\"exp\":{ends}}}");
        let token = [part(b"{}"), part(claims.as_bytes()), part(&rand::random::<[u8; 32]>())].join(".");
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|_, grant| grant.expires > now);
        if grants.len() >= MOST_TOKENS
            && let Some(oldest) = grants.iter().min_by_key(|(_, grant)| grant.expires).map(|(token, _)| token.clone())
        {
            grants.remove(&oldest);
        }
        grants.insert(token.clone(), Grant { user, repositories, expires: now + self.lifetime });
        token
    }

    /// What a token allows, unless it is unknown or has ended.
    pub(crate) fn look_up(&self, token: &str, now: Instant) -> Option<Grant> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.get(token).filter(|grant| grant.expires > now).cloned()
    }

    /// All that have been handed out and not been thrown away.
    pub(crate) fn all(&self) -> Vec<String> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Ends all tokens.
    pub(crate) fn revoke_all(&self) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends() {
        let (tokens, now) = (Tokens::new(Duration::from_secs(60)), Instant::now());
        let token = tokens.issue(Some("ann".into()), BTreeSet::from(["a".into()]), now);
        let later = now + Duration::from_secs(59);
        assert_eq!(tokens.look_up(&token, later).unwrap().user.as_deref(), Some("ann"));
        assert!(tokens.look_up("made up", now).is_none());
        assert!(tokens.look_up(&token, now + Duration::from_secs(60)).is_none());
        tokens.revoke_all();
        assert!(tokens.look_up(&token, now).is_none());
    }

    #[test]
    fn only_so_many_tokens_are_kept() {
        let (tokens, now) = (Tokens::new(Duration::from_secs(60)), Instant::now());
        let first = tokens.issue(None, BTreeSet::new(), now);
        let later = now + Duration::from_secs(1);
        let last = (0..MOST_TOKENS).map(|_| tokens.issue(None, BTreeSet::new(), later)).last().unwrap();
        assert!(tokens.look_up(&first, later).is_none());
        assert!(tokens.look_up(&last, later).is_some());
    }
}
