//! Who is asked for leave, and what is shown at the door: challenges, tokens and passwords of one registry.
//!
//! The ordinary exchange, by name and password or anonymously, is oci-client's. Three cases are not its: a registry that
//! nobody configured (oci-client would connect to any address that the challenge names), an identity token (a POST that
//! it does not know), and a challenge that only a repository's answer showed (it reads the one of `/v2/` alone). Where it
//! comes back without a token, the service is asked once more from here, because its error hides the status.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::HeaderValue;
use oci_client::{
    Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use reqwest::{Client, Url};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::{
    address::check_url,
    body::collect,
    challenge::{Bearer, Challenge, pull_scope},
    counters::{Counters, RequestKind},
    credentials::CredentialFile,
    error::{ErrorKind, RefusedAddress},
    failure::{Failure, chain},
    retry::Patience,
    secret::{Credentials, Secret},
    tls,
    token::{Identity, Token, Tokens},
};

/// How long a challenge is remembered.
const CHALLENGE_LIFE: Duration = Duration::from_secs(600);
/// The largest answer of a token service.
const MOST_TOKEN_BYTES: usize = 256 * 1024;
/// oci-client keeps every token it has got in a map that only grows; its client is replaced after so many.
const OCI_EXCHANGES: u32 = 1024;

/// One registry's door.
pub(crate) struct Authority {
    base: Url,
    guarded: bool,
    http: Client,
    patience: Patience,
    counters: Arc<Counters>,
    extra: Vec<CertificateDer<'static>>,
    file: Option<CredentialFile>,
    challenge: tokio::sync::Mutex<Option<Known>>,
    tokens: Tokens,
    oci: Mutex<Option<(Arc<oci_client::Client>, u32)>>,
}

/// A challenge, and where it was seen.
#[derive(Clone, Debug)]
struct Known {
    challenge: Challenge,
    by_ping: bool,
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
        f.debug_struct("Authority").field("base", &self.base.as_str()).field("file", &self.file).finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new(
        base: Url,
        guarded: bool,
        http: Client,
        patience: Patience,
        counters: Arc<Counters>,
        extra: Vec<CertificateDer<'static>>,
        file: Option<CredentialFile>,
    ) -> Self {
        let (challenge, tokens, oci) = (tokio::sync::Mutex::new(None), Tokens::default(), Mutex::new(None));
        Self { base, guarded, http, patience, counters, extra, file, challenge, tokens, oci }
    }

    /// Whether there is anything to show but anonymity.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials().is_some()
    }

    fn credentials(&self) -> Option<Credentials> {
        self.file.as_ref()?.current()
    }

    /// What to show for reading a repository, asking for a token where one is needed and none is held.
    pub(crate) async fn authorization(&self, identity: Identity, path: &str) -> Result<Authorization, Failure> {
        let known = self.known().await?;
        let own = if identity == Identity::Own { self.credentials() } else { None };
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
        let token = self.exchange(bearer, known.by_ping, own.as_ref(), path).await?;
        let shown = Authorization::fresh(&token.secret, "Bearer")?;
        *held = Some(token);
        Ok(shown)
    }

    /// Notes a 401. Returns whether another attempt as the same identity may fare better: a token had grown old, or the
    /// answer shows a challenge that was not known.
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
                *known = Some(Known { challenge, by_ping: false, since: Instant::now() });
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
        again
    }

    /// The registry's own challenge, word for word, as `/v2/` shows it.
    pub(crate) async fn ping(&self) -> Result<http::HeaderMap, Failure> {
        self.counters.sent(RequestKind::Ping);
        let url = self.base.join("v2/").map_err(|error| Failure::Final(ErrorKind::Invalid(error.to_string())))?;
        if self.guarded {
            check(&url)?;
        }
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
        let fresh = Known { challenge, by_ping: true, since: Instant::now() };
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    async fn exchange(
        &self,
        bearer: &Bearer,
        by_ping: bool,
        own: Option<&Credentials>,
        path: &str,
    ) -> Result<Token, Failure> {
        if self.guarded {
            check(&bearer.realm)?;
        } else if self.base.scheme() == "https" && bearer.realm.scheme() != "https" {
            let (host, address) = (bearer.realm.host_str().unwrap_or_default().to_owned(), RefusedAddress::NotHttps);
            return Err(Failure::Final(ErrorKind::AddressRefused { host, address }));
        }
        self.counters.sent(RequestKind::Token);
        let special_scope = bearer.scope.as_ref().is_some_and(|scope| !scope.starts_with("repository:"));
        let auth = match own {
            None => RegistryAuth::Anonymous,
            Some(Credentials::Password { user, password }) => {
                RegistryAuth::Basic(user.clone(), password.expose().to_owned())
            }
            Some(Credentials::Registry(token)) => RegistryAuth::Bearer(token.expose().to_owned()),
            Some(Credentials::Identity(_)) => return self.exchange_here(bearer, own, path).await,
        };
        if self.guarded || !by_ping || special_scope {
            return self.exchange_here(bearer, own, path).await;
        }
        match self.exchange_there(&auth, path).await? {
            Some(token) => Ok(token),
            None => self.exchange_here(bearer, own, path).await,
        }
    }

    /// The ordinary exchange, by oci-client. `None` when it did not come by a token and cannot tell why: its error has the
    /// token service's text but not the status, and a fault must not be taken for a refusal.
    async fn exchange_there(&self, auth: &RegistryAuth, path: &str) -> Result<Option<Token>, Failure> {
        let client = self.oci_client()?;
        let image = Reference::with_tag(host_and_port(&self.base), path.to_owned(), "latest".to_owned());
        // It pings and exchanges: two requests, each with a time to connect and a time to answer.
        let most = 2 * (self.patience.connect + self.patience.stall);
        let answer = tokio::time::timeout(most, client.auth(&image, auth, RegistryOperation::Pull)).await;
        match answer.map_err(|_| Failure::stalled(most))? {
            Ok(Some(token)) => Ok(Some(Token::new(token, None))),
            Ok(None) | Err(OciDistributionError::AuthenticationFailure(_)) => Ok(None),
            Err(OciDistributionError::RequestError(error)) => Err(error.into()),
            Err(OciDistributionError::RegistryTokenDecodeError(_)) => {
                Err(Failure::wrong("the token service's answer has no token"))
            }
            Err(_) => Err(Failure::network("the token exchange failed")),
        }
    }

    /// The exchange with our own client: at checked addresses, with identity tokens.
    async fn exchange_here(&self, bearer: &Bearer, own: Option<&Credentials>, path: &str) -> Result<Token, Failure> {
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

    fn oci_client(&self) -> Result<Arc<oci_client::Client>, Failure> {
        let mut held = self.oci.lock().expect("nobody panics while holding the client");
        if let Some((client, uses)) = held.as_mut().filter(|(_, uses)| *uses < OCI_EXCHANGES) {
            *uses += 1;
            return Ok(client.clone());
        }
        tls::lend_provider_to_oci_client();
        let certificate =
            |der: &CertificateDer<'_>| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() };
        let config = ClientConfig {
            protocol: if self.base.scheme() == "http" { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: self.extra.iter().map(certificate).collect(),
            connect_timeout: Some(self.patience.connect),
            read_timeout: Some(self.patience.stall),
            user_agent: crate::USER_AGENT,
            ..ClientConfig::default()
        };
        let client = oci_client::Client::try_from(config).map_err(|error| Failure::network(chain(&error)))?;
        let client = Arc::new(client);
        *held = Some((client.clone(), 1));
        Ok(client)
    }
}

fn check(url: &Url) -> Result<(), Failure> {
    check_url(url)
        .map_err(|refused| Failure::Final(ErrorKind::AddressRefused { host: refused.host, address: refused.address }))
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

/// `host[:port]` of a URL, the scheme's own port left out.
fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
