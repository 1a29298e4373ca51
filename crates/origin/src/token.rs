//! Tokens: a bounded cache, and how long each one holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::secret::Secret;

/// What the token specification says of a token that does not tell its life.
pub(crate) const UNTOLD_LIFE: Duration = Duration::from_secs(60);
/// The longest life that is believed.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// A token is given up this long before it ends, so that it does not end on the way.
const MARGIN: Duration = Duration::from_secs(5);
/// How many repositories have a token in the cache at once.
const MOST_TOKENS: usize = 1024;

/// As whom a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// As anybody.
    Anonymous,
    /// With the configured credentials.
    Own,
}

/// A token and the end of its life.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    until: Instant,
}

/// The place of one token; whoever holds it exchanges for all who wait.
pub(crate) type Cell = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of one registry, by identity and repository. Invariant: at most [`MOST_TOKENS`] cells.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<(Identity, String), Cell>>);

impl Token {
    /// `told` is the life that came beside the token; a JWT's own `exp` is used where none did.
    pub(crate) fn new(text: String, told: Option<Duration>) -> Self {
        let secret = Secret::new(text);
        let life = told.or_else(|| jwt_life(secret.expose())).unwrap_or(UNTOLD_LIFE).min(LONGEST_LIFE);
        Self { secret, until: Instant::now() + life.saturating_sub(MARGIN) }
    }

    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.until
    }
}

impl Tokens {
    /// The cell of a repository. When the cache is full, cells that nobody holds make room.
    pub(crate) fn cell(&self, identity: Identity, path: &str) -> Cell {
        let mut cells = self.0.lock().expect("nobody panics while holding the token cache");
        let key = (identity, path.to_owned());
        if !cells.contains_key(&key) && cells.len() >= MOST_TOKENS {
            cells.retain(|_, cell| cell.try_lock().map_or(true, |token| token.as_ref().is_some_and(Token::holds)));
            if cells.len() >= MOST_TOKENS {
                // Every token is good: forget them, which costs an exchange each and bounds the memory.
                cells.clear();
            }
        }
        cells.entry(key).or_default().clone()
    }
}

/// How long a JWT says that it lives on. Nothing is verified: this only decides when to ask for another, and the registry
/// judges the token itself.
pub(crate) fn jwt_life(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(claims.exp.saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(exp: u64) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")))
    }

    #[test]
    fn reads_the_life_of_a_jwt() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let life = jwt_life(&jwt(now + 300)).unwrap();
        assert!(life > Duration::from_secs(290) && life <= Duration::from_secs(300));
        assert_eq!(jwt_life(&jwt(5)), Some(Duration::ZERO));
        for other in ["opaque", "a.b", "a.b.c", "a.b.c.d.e"] {
            assert_eq!(jwt_life(other), None);
        }
        assert!(!Token::new(jwt(5), None).holds());
        assert!(Token::new(jwt(5), Some(Duration::from_secs(300))).holds());
        assert!(Token::new("opaque".into(), None).holds());
    }

    #[test]
    fn the_cache_is_bounded() {
        let tokens = Tokens::default();
        for i in 0..3 * MOST_TOKENS {
            let cell = tokens.cell(Identity::Anonymous, &format!("r{i}"));
            *cell.try_lock().unwrap() = Some(Token::new("t".into(), None));
            assert!(tokens.0.lock().unwrap().len() <= MOST_TOKENS);
        }
    }
}
