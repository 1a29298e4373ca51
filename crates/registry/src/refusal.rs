//! A rule by which requests are refused or left without an answer.

use std::time::Duration;

use http::StatusCode;

/// What kind of request a [`Refusal`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any, the `/v2/` check among them.
    All,
    /// Manifests, GET and HEAD.
    Manifests,
    /// Blobs, GET and HEAD.
    Blobs,
    /// GETs of blobs alone: their HEADs are answered.
    BlobGets,
    /// The token endpoint.
    Token,
}

/// What happens to a request that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Status { status: StatusCode, retry_after: Option<Duration> },
    Hang,
}

/// A rule: which requests, and what becomes of them. By itself it is about all requests.
///
/// Rules are looked at after the caller has shown who it is, in the order in which they were given; the first that fits
/// decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) treatment: Treatment,
    target: Target,
    repository: Option<String>,
    user: Option<String>,
    pub(crate) first: Option<u64>,
}

/// A request as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aimed<'a> {
    pub(crate) target: Target,
    pub(crate) repository: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

impl Refusal {
    /// Answers with that status and the distribution-spec's error body; 401 carries a challenge.
    #[must_use]
    pub const fn status(status: StatusCode) -> Self {
        Self::with(Treatment::Status { status, retry_after: None })
    }

    /// Reads the request and answers nothing. The connection is closed when the faults are replaced.
    #[must_use]
    pub const fn hang() -> Self {
        Self::with(Treatment::Hang)
    }

    const fn with(treatment: Treatment) -> Self {
        Self { treatment, target: Target::All, repository: None, user: None, first: None }
    }

    /// Only requests of that kind.
    #[must_use]
    pub const fn of(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Only requests for that repository.
    #[must_use]
    pub fn in_repository(mut self, repository: &str) -> Self {
        self.repository = Some(repository.to_owned());
        self
    }

    /// Only requests of a caller that proved to be that user.
    #[must_use]
    pub fn for_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Only the first `count` requests that fit, from when the faults were set.
    #[must_use]
    pub const fn first(mut self, count: u64) -> Self {
        self.first = Some(count);
        self
    }

    /// Adds `Retry-After`, rounded up to whole seconds. Without effect on [`Self::hang`].
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        if let Treatment::Status { status, .. } = self.treatment {
            self.treatment = Treatment::Status { status, retry_after: Some(wait) };
        }
        self
    }

    pub(crate) fn fits(&self, aimed: &Aimed<'_>) -> bool {
        let target = match self.target {
            Target::All => true,
            Target::Blobs => matches!(aimed.target, Target::Blobs | Target::BlobGets),
            one => one == aimed.target,
        };
        let same = |mine: &Option<String>, theirs: Option<&str>| mine.is_none() || mine.as_deref() == theirs;
        target && same(&self.repository, aimed.repository) && same(&self.user, aimed.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_only_what_it_names() {
        let get = Aimed { target: Target::BlobGets, repository: Some("a"), user: Some("ann") };
        let head = Aimed { target: Target::Blobs, ..get };
        let check = Aimed { target: Target::All, repository: None, user: None };
        let rule = Refusal::status(StatusCode::FORBIDDEN);
        assert!([get, head, check].iter().all(|aimed| rule.fits(aimed)));
        let blobs = rule.clone().of(Target::Blobs);
        assert!(blobs.fits(&get) && blobs.fits(&head) && !blobs.fits(&check));
        let gets = rule.clone().of(Target::BlobGets);
        assert!(gets.fits(&get) && !gets.fits(&head));
        let ann = rule.for_user("ann").in_repository("a");
        assert!(ann.fits(&get) && !ann.fits(&check));
        assert!(!ann.fits(&Aimed { user: Some("bob"), ..get }) && !ann.fits(&Aimed { repository: Some("b"), ..get }));
    }
}
