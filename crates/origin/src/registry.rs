//! One registry: where a request goes, and how often.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use serde::{Deserialize, Serialize};
use shoal_pace::Limit;

use crate::{
    config::Access,
    counters::{Counters, RequestKind},
    endpoint::Endpoint,
    error::{ErrorKind, OriginError},
    failure::Failure,
    retry::{Budget, Patience},
    token::Identity,
};

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
    /// Where it is reached, the best place first; one at least.
    pub(crate) endpoints: Vec<Endpoint>,
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
    /// The number of the endpoint that gave it.
    pub(crate) endpoint: usize,
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

    /// Sends a request to the first endpoint that works, and on to the next ones where that fails or does not have what is
    /// asked for. Trouble anywhere outweighs a 404: what one endpoint lacks another may have.
    pub(crate) async fn answer(&self, ask: &Ask) -> Result<Answer, Failure> {
        let (mut missing, mut trouble) = (None, None);
        for endpoint in self.order() {
            let outcome = self.endpoints[endpoint].answer(ask).await;
            let answer = outcome.map(|(response, visibility)| Answer { response, visibility, endpoint });
            if self.endpoints.len() == 1 {
                return answer;
            }
            match &answer {
                Ok(found) => {
                    let (status, headers) = (found.response.status(), found.response.headers());
                    if let Failure::Passing(kind, wait) = Failure::of_status(status, headers) {
                        self.gave_trouble(endpoint, &kind, wait);
                        trouble = Some(answer);
                    } else {
                        self.works(endpoint);
                        if status != StatusCode::NOT_FOUND {
                            return answer;
                        }
                        missing = missing.or(Some(answer));
                    }
                }
                Err(Failure::Final(ErrorKind::NotFound)) => missing = missing.or(Some(answer)),
                Err(Failure::Final(_)) => return answer,
                Err(Failure::Passing(kind, wait)) => {
                    self.gave_trouble(endpoint, kind, *wait);
                    trouble = Some(answer);
                }
            }
        }
        trouble.or(missing).unwrap_or_else(|| Err(Failure::network("there is no endpoint")))
    }

    /// Whether anybody is answered with a success: asked as anybody, whatever credentials there are.
    pub(crate) async fn answer_to_anybody(&self, ask: &Ask) -> Result<(), Failure> {
        let mut last = None;
        for endpoint in self.order() {
            let answer = self.endpoints[endpoint].answer_to(ask, Identity::Anonymous).await;
            let outcome =
                answer.and_then(|(response, visibility)| Answer { response, visibility, endpoint }.success().map(drop));
            match outcome {
                Err(Failure::Passing(kind, wait)) if self.endpoints.len() > 1 => {
                    self.gave_trouble(endpoint, &kind, wait);
                    last = Some(Failure::Passing(kind, wait));
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Failure::network("there is no endpoint")))
    }

    /// The challenge that `/v2/` shows at the first endpoint that works.
    pub(crate) async fn ping(&self) -> Result<HeaderMap, Failure> {
        let mut last = None;
        for endpoint in self.order() {
            match self.endpoints[endpoint].ping().await {
                Err(Failure::Passing(kind, wait)) if self.endpoints.len() > 1 => {
                    self.gave_trouble(endpoint, &kind, wait);
                    last = Some(Failure::Passing(kind, wait));
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Failure::network("there is no endpoint")))
    }

    /// Sends a request with a caller's own authorization to the first endpoint that works, following no redirect.
    pub(crate) async fn send_as_caller(&self, ask: &Ask, authorization: &HeaderValue) -> Result<Response, Failure> {
        let mut last = None;
        for endpoint in self.order() {
            match self.endpoints[endpoint].send_as_caller(ask, authorization).await {
                Err(Failure::Passing(kind, wait)) if self.endpoints.len() > 1 => {
                    self.gave_trouble(endpoint, &kind, wait);
                    last = Some(Failure::Passing(kind, wait));
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Failure::network("there is no endpoint")))
    }

    /// The endpoints to ask now, by their numbers: those that work; where none does, the one whose rest ends first.
    fn order(&self) -> Vec<usize> {
        let all = 0..self.endpoints.len();
        if all.len() < 2 {
            return all.collect();
        }
        let now = Instant::now();
        let working: Vec<usize> = all.clone().filter(|at| self.endpoints[*at].health.admits(now)).collect();
        if working.is_empty() {
            all.min_by_key(|at| self.endpoints[*at].health.until()).into_iter().collect()
        } else {
            working
        }
    }

    fn works(&self, endpoint: usize) {
        let endpoint = &self.endpoints[endpoint];
        if endpoint.health.worked() {
            tracing::info!(registry = self.name, endpoint = %endpoint.base(), "an endpoint works again");
        }
    }

    /// Notes that an endpoint of several is in trouble: the others are asked for a while.
    pub(crate) fn gave_trouble(&self, endpoint: usize, kind: &ErrorKind, asked: Option<Duration>) {
        if self.endpoints.len() < 2 {
            return;
        }
        let endpoint = &self.endpoints[endpoint];
        let rest = endpoint.health.failed(Instant::now(), asked);
        tracing::warn!(registry = self.name, endpoint = %endpoint.base(), %kind, ?rest, "an endpoint is in trouble; the \
            others are asked");
    }

    pub(crate) fn error(&self, ask: &Ask, kind: ErrorKind) -> OriginError {
        OriginError { registry: self.name.clone(), what: what(ask), kind }
    }
}

fn what(ask: &Ask) -> String {
    format!("{} {}/{}", ask.method, ask.path, ask.tail)
}
