//! Who is asked for leave, and what is shown at the door: challenges, tokens and passwords of one endpoint.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::{
    address::Reach,
    body::collect,
    challenge::{Bearer, Challenge, pull_scope},
    counters::{Counters, RequestKind},
    credentials::Sources,
    error::{ErrorKind, RefusedAddress},
    failure::Failure,
    retry::Patience,
    secret::{Credentials, Secret},
    token::{Identity, Token, Tokens},
};

/// How long a challenge is remembered.
const CHALLENGE_LIFE: Duration = Duration::from_secs(600);
/// The largest answer of a token service.
const MOST_TOKEN_BYTES: usize = 256 * 1024;

/// The door of one endpoint.
pub(crate) struct Authority {
    base: Url,
    reach: Reach,
    http: Client,
    patience: Patience,
    counters: Arc<Counters>,
    sources: Option<Arc<Sources>>,
    challenge: tokio::sync::Mutex<Option<Known>>,
    tokens: Tokens,
}

/// A challenge, and when it was seen.
#[derive(Clone, Debug)]
struct Known {
    challenge: Challenge,
    since: Instant,
}

/// What to show with one request.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    /// The header, where one is to be sent.
    pub(crate) header: Option<HeaderValue>,
    /// Whether it is from the cache, so that a refusal may only mean that it has grown old.
    reused: bool,
}

impl Authorization {
    fn fresh(secret: &Secret, scheme: &str) -> Result<Self, Failure> {
        Ok(Self { header: Some(header(secret, scheme)?), reused: false })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("base", &self.base.as_str())
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new(
        base: Url,
        reach: Reach,
        http: Client,
        patience: Patience,
        counters: Arc<Counters>,
        sources: Option<Arc<Sources>>,
    ) -> Self {
        let (challenge, tokens) = (tokio::sync::Mutex::new(None), Tokens::default());
        Self { base, reach, http, patience, counters, sources, challenge, tokens }
    }

    /// Whether there is anything to show but anonymity.
    pub(crate) async fn has_credentials(&self) -> bool {
        self.credentials().await.is_some()
    }

    async fn credentials(&self) -> Option<Credentials> {
        self.sources.as_ref()?.current().await
    }

    /// What to show for reading a repository, asking for a token where one is needed and none is held.
    pub(crate) async fn authorization(&self, identity: Identity, path: &str) -> Result<Authorization, Failure> {
        let known = self.known().await?;
        let own = if identity == Identity::Own { self.credentials().await } else { None };
        let bearer = match (&known.challenge, &own) {
            (_, Some(Credentials::Registry(token))) => return Authorization::fresh(token, "Bearer"),
            (Challenge::Bearer(bearer), _) => bearer,
            (_, Some(Credentials::Password { user, password })) => {
                return Authorization::fresh(&basic(user, password), "Basic");
            }
            _ => return Ok(Authorization { header: None, reused: false }),
        };
        let cell = self.tokens.cell(identity, path);
        let mut held = cell.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.holds()) {
            return Ok(Authorization { header: Some(header(&token.secret, "Bearer")?), reused: true });
        }
        *held = None;
        let token = match self.exchange(bearer, own.as_ref(), path).await {
            Err(Failure::Final(ErrorKind::Unauthorized)) if own.is_some() => {
                // They may have been changed a moment ago.
                let fresh = self.fresh().await.filter(|fresh| Some(fresh) != own.as_ref());
                let fresh = fresh.ok_or(Failure::Final(ErrorKind::Unauthorized))?;
                self.exchange(bearer, Some(&fresh), path).await?
            }
            outcome => outcome?,
        };
        let shown = Authorization::fresh(&token.secret, "Bearer")?;
        *held = Some(token);
        Ok(shown)
    }

    async fn fresh(&self) -> Option<Credentials> {
        self.sources.as_ref()?.fresh().await
    }

    /// Notes a 401. Returns whether another attempt as the same identity may fare better: a token had grown old, the
    /// answer shows a challenge that was not known, or the credentials have changed.
    pub(crate) async fn refused(
        &self,
        identity: Identity,
        path: &str,
        shown: &Authorization,
        headers: &http::HeaderMap,
    ) -> bool {
        let mut again = false;
        if let Some(challenge) = Challenge::read(headers) {
            let mut known = self.challenge.lock().await;
            let differs = known.as_ref().is_none_or(|known| !alike(&known.challenge, &challenge));
            if differs {
                *known = Some(Known { challenge, since: Instant::now() });
                again = true;
            }
        }
        if shown.reused {
            let cell = self.tokens.cell(identity, path);
            let mut held = cell.lock().await;
            // Another request may have got a new token meanwhile; that one stays.
            if held.as_ref().is_some_and(|token| header(&token.secret, "Bearer").ok() == shown.header) {
                *held = None;
            }
            again = true;
        }
        if identity == Identity::Own && !again {
            again = self.fresh().await.is_some_and(|fresh| replaces(&fresh, shown));
        }
        again
    }

    /// The registry's own challenge, word for word, as `/v2/` shows it.
    pub(crate) async fn ping(&self) -> Result<http::HeaderMap, Failure> {
        self.counters.sent(RequestKind::Ping);
        let url = self.base.join("v2/").map_err(|error| Failure::Final(ErrorKind::Invalid(error.to_string())))?;
        self.reach.check(&url)?;
        let sent = tokio::time::timeout(self.patience.stall, self.http.get(url).send()).await;
        let response = sent.map_err(|_| Failure::stalled(self.patience.stall))??;
        match response.status() {
            status if status.is_server_error() || status.as_u16() == 429 => {
                Err(Failure::of_status(status, response.headers()))
            }
            _ => Ok(response.headers().clone()),
        }
    }

    async fn known(&self) -> Result<Known, Failure> {
        let mut known = self.challenge.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.since.elapsed() < CHALLENGE_LIFE) {
            return Ok(known.clone());
        }
        let challenge = Challenge::read(&self.ping().await?).unwrap_or(Challenge::None);
        let fresh = Known { challenge, since: Instant::now() };
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    /// Asks the token service for a token to pull from a repository.
    async fn exchange(&self, bearer: &Bearer, own: Option<&Credentials>, path: &str) -> Result<Token, Failure> {
        self.reach.check(&bearer.realm)?;
        if self.base.scheme() == "https" && bearer.realm.scheme() != "https" {
            let (host, address) = (bearer.realm.host_str().unwrap_or_default().to_owned(), RefusedAddress::NotHttps);
            return Err(Failure::Final(ErrorKind::AddressRefused { host, address }));
        }
        self.counters.sent(RequestKind::Token);
        let mut scopes = vec![pull_scope(path)];
        scopes.extend(bearer.scope.clone().filter(|scope| !scope.starts_with("repository:")));
        let mut pairs: Vec<(&str, &str)> = bearer.service.iter().map(|service| ("service", service.as_str())).collect();
        let mut url = bearer.realm.clone();
        let joined = scopes.join(" ");
        let request = if let Some(Credentials::Identity(identity)) = own {
            pairs.extend([("grant_type", "refresh_token"), ("client_id", "shoal"), ("scope", &joined)]);
            pairs.push(("refresh_token", identity.expose()));
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            self.http.post(url).header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        } else {
            pairs.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            url.query_pairs_mut().extend_pairs(pairs);
            let request = self.http.get(url);
            match own {
                Some(Credentials::Password { user, password }) => {
                    request.header(http::header::AUTHORIZATION, header(&basic(user, password), "Basic")?)
                }
                _ => request,
            }
        };
        let sent = tokio::time::timeout(self.patience.stall, request.send()).await;
        let response = sent.map_err(|_| Failure::stalled(self.patience.stall))??;
        if !response.status().is_success() {
            return Err(match Failure::of_status(response.status(), response.headers()) {
                // 400 is OAuth's way of refusing a refresh token.
                Failure::Final(_) => Failure::Final(ErrorKind::Unauthorized),
                passing @ Failure::Passing(..) => passing,
            });
        }
        let body = collect(response, MOST_TOKEN_BYTES, self.patience.stall, |_| ()).await?;
        read_token(&body).ok_or_else(|| Failure::wrong("the token service's answer has no token"))
    }
}

/// Whether two challenges ask for the same thing; the scope is that of whatever was asked for and says nothing.
fn alike(known: &Challenge, seen: &Challenge) -> bool {
    match (known, seen) {
        (Challenge::Bearer(known), Challenge::Bearer(seen)) => {
            (&known.realm, &known.service) == (&seen.realm, &seen.service)
        }
        _ => known == seen,
    }
}

/// Whether credentials that are shown as they are differ from what was shown; those that a token is had for tell nothing.
fn replaces(fresh: &Credentials, shown: &Authorization) -> bool {
    let basic_was_shown = shown.header.as_ref().is_some_and(|header| header.as_bytes().starts_with(b"Basic "));
    let fresh = match fresh {
        Credentials::Password { user, password } if basic_was_shown => header(&basic(user, password), "Basic"),
        Credentials::Registry(token) => header(token, "Bearer"),
        Credentials::Password { .. } | Credentials::Identity(_) => return false,
    };
    fresh.is_ok_and(|fresh| Some(fresh) != shown.header)
}

fn header(secret: &Secret, scheme: &str) -> Result<HeaderValue, Failure> {
    let why = || Failure::Final(ErrorKind::Invalid("a credential cannot stand in a header".to_owned()));
    secret.header(scheme).ok_or_else(why)
}

fn basic(user: &str, password: &Secret) -> Secret {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
    Secret::new(STANDARD.encode(pair.as_bytes()))
}

pub(crate) fn read_token(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let text = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
    Some(Token::new(text, answer.expires_in.map(Duration::from_secs)))
}
