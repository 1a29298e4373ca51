//! How one request failed: worth another attempt, or not.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode};

use crate::{
    address::refused_in,
    error::{ErrorKind, Trouble},
    retry::retry_after,
};

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// It may pass; with the wait that the origin asked for.
    Passing(ErrorKind, Option<Duration>),
    /// Asking again would give the same.
    Final(ErrorKind),
}

impl Failure {
    pub(crate) fn network(why: impl Into<String>) -> Self {
        Self::Passing(ErrorKind::Unavailable(Trouble::Network(why.into())), None)
    }

    pub(crate) fn wrong(why: impl Into<String>) -> Self {
        Self::Final(ErrorKind::WrongBytes(why.into()))
    }

    pub(crate) fn stalled(after: Duration) -> Self {
        Self::Passing(ErrorKind::Stalled(after), None)
    }

    /// What a status means that is not a success; 404 and 416 are for the caller to tell apart where it matters.
    pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap) -> Self {
        let wait = retry_after(headers, SystemTime::now());
        match status {
            StatusCode::UNAUTHORIZED => Self::Final(ErrorKind::Unauthorized),
            StatusCode::FORBIDDEN => Self::Final(ErrorKind::Forbidden),
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::Final(ErrorKind::NotFound),
            StatusCode::TOO_MANY_REQUESTS => Self::Passing(ErrorKind::RateLimited { retry_after: wait }, wait),
            StatusCode::NOT_IMPLEMENTED => Self::Final(ErrorKind::Unexpected(status.as_u16())),
            _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                Self::Passing(ErrorKind::Unavailable(Trouble::Status(status.as_u16())), wait)
            }
            _ => Self::Final(ErrorKind::Unexpected(status.as_u16())),
        }
    }

    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Passing(kind, _) | Self::Final(kind) => kind,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        if let Some(refused) = refused_in(&error) {
            return Self::Final(refused);
        }
        let redirect = error.is_redirect();
        // The address may be a signed one, which is a credential.
        let text = chain(&error.without_url());
        if redirect { Self::wrong(text) } else { Self::network(text) }
    }
}

/// An error with its causes, the last of which is usually the one that helps.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        at = cause.source();
    }
    text
}
