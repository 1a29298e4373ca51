//! One registry: how a request is sent, as whom, and how often.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Client, Response, Url, redirect};
use rustls::{ClientConfig, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};
use shoal_pace::Limit;

use crate::{
    address::{PublicOnly, check_url, redirects},
    authority::Authority,
    config::Access,
    counters::{Counters, RequestKind},
    credentials::CredentialFile,
    error::{ErrorKind, OriginError},
    failure::Failure,
    origins::Common,
    retry::{Budget, Patience},
    token::Identity,
};

/// How long it is remembered that a repository is not served to anybody.
const PRIVATE_LIFE: Duration = Duration::from_secs(600);
/// How many such repositories are remembered.
const MOST_PRIVATE: usize = 4096;

/// To whom an origin serves a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// To anybody.
    Anonymous,
    /// To the credentials that were shown.
    Credential,
}

/// One registry that can be asked.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) name: String,
    pub(crate) access: Option<Access>,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limit: Limit,
    pub(crate) authority: Authority,
    base: Url,
    guarded: bool,
    http: Client,
    /// The same without redirects: for a caller's own authorization, which goes to the registry and nowhere else.
    still: Client,
    private: Mutex<HashMap<String, Instant>>,
}

/// What a registry is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) base: Url,
    /// Whether nobody configured it, so that it may be reached only over https at public addresses.
    pub(crate) guarded: bool,
    pub(crate) access: Option<Access>,
    pub(crate) credentials: Option<CredentialFile>,
    pub(crate) tls: ClientConfig,
    pub(crate) extra: Vec<CertificateDer<'static>>,
    pub(crate) patience: Patience,
    pub(crate) with: Common,
}

/// A request about a repository.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) kind: RequestKind,
    pub(crate) method: Method,
    /// The repository's path.
    pub(crate) path: String,
    /// What follows it, as in `blobs/sha256:…`.
    pub(crate) tail: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

/// An answer of any status, and as whom it was had.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) visibility: Visibility,
}

impl Ask {
    /// A request that asks for the bytes as they are, not compressed on the way.
    pub(crate) fn new(kind: RequestKind, method: Method, path: &str, tail: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self { kind, method, path: path.to_owned(), tail, query: None, headers }
    }
}

impl Answer {
    /// Refuses whatever is not a success.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        match self.response.status() {
            status if status.is_success() => Ok(self),
            status => Err(Failure::of_status(status, self.response.headers())),
        }
    }
}

impl Registry {
    pub(crate) fn new(parts: Parts) -> Result<Self, reqwest::Error> {
        let Parts { name, base, guarded, access, credentials, tls, extra, patience, with } = parts;
        let Common { counters, limit } = with;
        let build = |policy| client(&base, guarded, tls.clone(), patience, policy);
        let http = build(redirects(guarded))?;
        let still = build(redirect::Policy::none())?;
        let authority =
            Authority::new(base.clone(), guarded, http.clone(), patience, counters.clone(), extra, credentials);
        let private = Mutex::new(HashMap::new());
        Ok(Self { name, access, patience, counters, limit, authority, base, guarded, http, still, private })
    }

    /// Makes attempts at a request until one succeeds, it is refused, or the budget is spent.
    pub(crate) async fn insist<T, F>(&self, ask: &Ask, attempt: impl Fn() -> F) -> Result<T, OriginError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut budget = Budget::new(self.patience);
        loop {
            match attempt().await {
                Ok(taken) => return Ok(taken),
                Err(failure) => self.wait(ask, &mut budget, failure).await?,
            }
        }
    }

    /// Waits before the next attempt at a request; the error when there is to be none.
    pub(crate) async fn wait(&self, ask: &Ask, budget: &mut Budget, failure: Failure) -> Result<(), OriginError> {
        let wait = match &failure {
            Failure::Passing(_, asked) => budget.again(*asked),
            Failure::Final(_) => None,
        };
        let kind = failure.kind();
        let Some(wait) = wait else { return Err(self.error(ask, kind)) };
        tracing::debug!(registry = self.name, what = what(ask), %kind, ?wait, "asking again");
        self.counters.retried();
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Sends a request once for each identity that may have to be tried: anybody first, so that what is public is known to
    /// be; then ourselves. A repository that is known not to be public is asked as ourselves at once.
    pub(crate) async fn answer(&self, ask: &Ask) -> Result<Answer, Failure> {
        if !self.authority.has_credentials() {
            return self.answer_to(ask, Identity::Anonymous).await;
        }
        let mut private = self.is_private(&ask.path);
        if !private {
            private = match self.answer_to(ask, Identity::Anonymous).await {
                Err(Failure::Final(ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::NotFound)) => true,
                Ok(answer) if answer.response.status() == StatusCode::TOO_MANY_REQUESTS => false,
                Ok(answer) if closed(answer.response.status()) => true,
                other => return other,
            };
        }
        let answer = self.answer_to(ask, Identity::Own).await?;
        if private && answer.response.status().is_success() {
            self.note_private(&ask.path);
        }
        Ok(answer)
    }

    async fn answer_to(&self, ask: &Ask, identity: Identity) -> Result<Answer, Failure> {
        let mut again = true;
        loop {
            let shown = self.authority.authorization(identity, &ask.path).await?;
            let response = self.send(&self.http, ask, shown.header.as_ref()).await?;
            if response.status() == StatusCode::UNAUTHORIZED
                && std::mem::take(&mut again)
                && self.authority.refused(identity, &ask.path, &shown, response.headers()).await
            {
                continue;
            }
            let visibility = match identity {
                Identity::Own if shown.header.is_some() => Visibility::Credential,
                _ => Visibility::Anonymous,
            };
            return Ok(Answer { response, visibility });
        }
    }

    /// Sends a request with a caller's own authorization, following no redirect.
    pub(crate) async fn send_as_caller(&self, ask: &Ask, authorization: &HeaderValue) -> Result<Response, Failure> {
        self.send(&self.still, ask, Some(authorization)).await
    }

    async fn send(&self, client: &Client, ask: &Ask, shown: Option<&HeaderValue>) -> Result<Response, Failure> {
        let invalid = |why: String| Failure::Final(ErrorKind::Invalid(why));
        let mut url =
            self.base.join(&format!("v2/{}/{}", ask.path, ask.tail)).map_err(|why| invalid(why.to_string()))?;
        url.set_query(ask.query.as_deref());
        if self.guarded {
            check_url(&url).map_err(|refused| {
                Failure::Final(ErrorKind::AddressRefused { host: refused.host, address: refused.address })
            })?;
        }
        self.counters.sent(ask.kind);
        let mut request = client.request(ask.method.clone(), url).headers(ask.headers.clone());
        if let Some(shown) = shown {
            request = request.header(header::AUTHORIZATION, shown);
        }
        let sent = tokio::time::timeout(self.patience.stall, request.send()).await;
        Ok(sent.map_err(|_| Failure::stalled(self.patience.stall))??)
    }

    pub(crate) fn error(&self, ask: &Ask, kind: ErrorKind) -> OriginError {
        OriginError { registry: self.name.clone(), what: what(ask), kind }
    }

    fn is_private(&self, path: &str) -> bool {
        let private = self.private.lock().expect("nobody panics while holding the memory");
        private.get(path).is_some_and(|since| since.elapsed() < PRIVATE_LIFE)
    }

    fn note_private(&self, path: &str) {
        let mut private = self.private.lock().expect("nobody panics while holding the memory");
        if private.len() >= MOST_PRIVATE {
            private.retain(|_, since| since.elapsed() < PRIVATE_LIFE);
        }
        if private.len() < MOST_PRIVATE {
            private.entry(path.to_owned()).or_insert_with(Instant::now);
        }
    }
}

/// Whether anybody is refused in a way that our own credentials may change: some registries hide what is private behind
/// a 404.
fn closed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404)
}

fn what(ask: &Ask) -> String {
    format!("{} {}/{}", ask.method, ask.path, ask.tail)
}

fn client(
    base: &Url,
    guarded: bool,
    tls: ClientConfig,
    patience: Patience,
    policy: redirect::Policy,
) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(crate::USER_AGENT)
        .redirect(policy)
        .referer(false)
        .connect_timeout(patience.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(4)
        .tcp_nodelay(true);
    if guarded {
        // A proxy would look names up itself, and the check of addresses would check the proxy's.
        builder = builder.no_proxy().dns_resolver(PublicOnly);
    } else if is_here(base) {
        builder = builder.no_proxy();
    }
    builder.build()
}

/// Whether a registry is on this machine, where the environment's proxy is of no use.
fn is_here(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
