//! One place where a registry is reached: how a request is sent there, and as whom.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, Response, Url, redirect};
use rustls::ClientConfig;

use crate::{
    address::{Reach, is_here},
    authority::Authority,
    counters::Counters,
    credentials::Sources,
    error::ErrorKind,
    failure::Failure,
    health::Health,
    proxy::Proxies,
    registry::{Ask, Visibility},
    retry::Patience,
    token::Identity,
};

/// How long it is remembered that a repository is not served to anybody.
const PRIVATE_LIFE: Duration = Duration::from_secs(600);
/// How many such repositories are remembered.
const MOST_PRIVATE: usize = 4096;

/// One endpoint of a registry, with connections, tokens and a memory of its own.
pub(crate) struct Endpoint {
    pub(crate) health: Health,
    base: Url,
    reach: Reach,
    patience: Patience,
    counters: Arc<Counters>,
    authority: Authority,
    http: Client,
    /// The same without redirects: for a caller's own authorization, which goes to the registry and nowhere else.
    still: Client,
    private: Mutex<HashMap<String, Instant>>,
}

/// What the endpoints of one registry share.
pub(crate) struct Shared {
    pub(crate) reach: Reach,
    pub(crate) sources: Option<Arc<Sources>>,
    pub(crate) tls: ClientConfig,
    pub(crate) proxies: Proxies,
    /// Whether the proxies are those of this registry, which hold for one on this machine too.
    pub(crate) own_proxy: bool,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
}

impl Endpoint {
    pub(crate) fn new(base: Url, shared: &Shared) -> Result<Self, reqwest::Error> {
        let Shared { reach, sources, patience, counters, .. } = shared;
        let http = client(&base, shared, reach.redirects())?;
        let still = client(&base, shared, redirect::Policy::none())?;
        let (reach, patience, counters) = (reach.clone(), *patience, counters.clone());
        let authority =
            Authority::new(base.clone(), reach.clone(), http.clone(), patience, counters.clone(), sources.clone());
        let (health, private) = (Health::default(), Mutex::new(HashMap::new()));
        Ok(Self { health, base, reach, patience, counters, authority, http, still, private })
    }

    /// Where it is, for the log: the URL has no credentials in it.
    pub(crate) const fn base(&self) -> &Url {
        &self.base
    }

    /// The registry's own challenge, word for word, as `/v2/` shows it.
    pub(crate) async fn ping(&self) -> Result<HeaderMap, Failure> {
        self.authority.ping().await
    }

    /// Sends a request once for each identity that may have to be tried: anybody first, so that what is public is known to
    /// be; then ourselves. A repository that is known not to be public is asked as ourselves at once.
    pub(crate) async fn answer(&self, ask: &Ask) -> Result<(Response, Visibility), Failure> {
        if !self.authority.has_credentials().await {
            return self.answer_to(ask, Identity::Anonymous).await;
        }
        let mut private = self.is_private(&ask.path);
        if !private {
            private = match self.answer_to(ask, Identity::Anonymous).await {
                Err(Failure::Final(ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::NotFound)) => true,
                Ok((response, _)) if closed(response.status()) => true,
                other => return other,
            };
        }
        let answer = self.answer_to(ask, Identity::Own).await?;
        if private && answer.0.status().is_success() {
            self.note_private(&ask.path);
        }
        Ok(answer)
    }

    /// Sends a request as one identity, with another token where the first has grown old.
    pub(crate) async fn answer_to(&self, ask: &Ask, identity: Identity) -> Result<(Response, Visibility), Failure> {
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
            return Ok((response, visibility));
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
        self.reach.check(&url)?;
        self.counters.sent(ask.kind);
        let mut request = client.request(ask.method.clone(), url).headers(ask.headers.clone());
        if let Some(shown) = shown {
            request = request.header(header::AUTHORIZATION, shown);
        }
        let sent = tokio::time::timeout(self.patience.stall, request.send()).await;
        Ok(sent.map_err(|_| Failure::stalled(self.patience.stall))??)
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

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Whether anybody is refused in a way that our own credentials may change: some registries hide what is private behind
/// a 404.
fn closed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404)
}

fn client(base: &Url, shared: &Shared, policy: redirect::Policy) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(shared.tls.clone())
        .user_agent(crate::USER_AGENT)
        .redirect(policy)
        .referer(false)
        .connect_timeout(shared.patience.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(4)
        .tcp_nodelay(true)
        .no_proxy()
        .dns_resolver(shared.reach.clone());
    // A registry on this machine is not asked through a proxy that was meant for all the others.
    if shared.own_proxy || !is_here(base) {
        for proxy in shared.proxies.for_client()? {
            builder = builder.proxy(proxy);
        }
    }
    builder.build()
}
