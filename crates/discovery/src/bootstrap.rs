//! Whom to ask first: names are looked up, a sample of what they give is dialled, again and again until somebody is there.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, seq::IteratorRandom};

/// How many addresses of one round are dialled: a name of a large cluster has more.
const SAMPLE: usize = 8;
/// How many of a name's addresses are looked at.
const MOST_RESOLVED: usize = 1024;
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How often the names are asked again when all is well: two halves of a cluster that lost each other meet so.
const QUIET_PAUSE: Duration = Duration::from_secs(60);
/// "Only my own address" must be heard so often, over so long, before it is believed.
const ALONE_TIMES: u32 = 3;
const ALONE_PAUSE: Duration = Duration::from_millis(2600);
const ALONE_SPAN: Duration = Duration::from_secs(5);

/// What one round of look-ups gave.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) addresses: BTreeSet<SocketAddr>,
    /// Whether every name had an answer with at least one address.
    pub(crate) complete: bool,
}

/// Looks all names up, at the same time.
pub(crate) async fn resolve(names: Vec<String>) -> Resolved {
    let lookups = names.into_iter().map(|name| async move {
        let outcome = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host(&name)).await;
        match outcome {
            Ok(Ok(found)) => found.take(MOST_RESOLVED).collect(),
            Ok(Err(error)) => {
                tracing::debug!(%name, %error, "the bootstrap name could not be looked up");
                Vec::new()
            }
            Err(_) => {
                tracing::debug!(%name, "looking up the bootstrap name took too long");
                Vec::new()
            }
        }
    });
    let found = futures::future::join_all(lookups).await;
    Resolved { complete: found.iter().all(|one| !one.is_empty()), addresses: found.into_iter().flatten().collect() }
}

/// When to look the names up, and what to make of the answers.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    names: Vec<String>,
    next: Option<Instant>,
    pause: Duration,
    alone: Option<(u32, Instant)>,
}

/// What to do after a round.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Dial these.
    Dial(Vec<SocketAddr>),
    /// The names have shown often enough that there is nobody but me.
    NobodyThere,
}

impl Bootstrap {
    pub(crate) fn new(names: Vec<String>, now: Instant) -> Self {
        Self { next: (!names.is_empty()).then_some(now), names, pause: FIRST_PAUSE, alone: None }
    }

    pub(crate) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The names to look up, when it is time; the answer goes to [`Bootstrap::resolved`].
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<String>> {
        (self.next? <= now).then(|| {
            self.next = None;
            self.names.clone()
        })
    }

    /// All peers were lost: ask at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        if self.next.is_some() {
            self.next = Some(now);
        }
    }

    /// Takes an answer. `company` tells whether any peer is connected, `mine` which addresses are my own.
    pub(crate) fn resolved(
        &mut self,
        found: &Resolved,
        company: bool,
        mine: impl Fn(SocketAddr) -> bool,
        random: &mut impl Rng,
        now: Instant,
    ) -> Step {
        let others: Vec<_> = found.addresses.iter().copied().filter(|address| !mine(*address)).collect();
        if found.complete && others.is_empty() {
            let (times, since) = self.alone.map_or((1, now), |(times, since)| (times + 1, since));
            self.alone = Some((times, since));
            self.next = Some(now + ALONE_PAUSE);
            if times >= ALONE_TIMES && now.saturating_duration_since(since) >= ALONE_SPAN {
                self.next = Some(now + LAST_PAUSE);
                return Step::NobodyThere;
            }
            return Step::Dial(Vec::new());
        }
        self.alone = None;
        let pause = if company { QUIET_PAUSE } else { self.pause };
        self.next = Some(now + pause);
        self.pause = if company { FIRST_PAUSE } else { (self.pause * 2).min(LAST_PAUSE) };
        Step::Dial(others.into_iter().sample(random, SAMPLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn found(ports: impl IntoIterator<Item = u16>) -> Resolved {
        Resolved { addresses: ports.into_iter().map(at).collect(), complete: true }
    }

    fn step(bootstrap: &mut Bootstrap, found: &Resolved, now: Instant) -> Step {
        assert!(bootstrap.due(now).is_some());
        bootstrap.resolved(found, false, |address| address == at(1), &mut rand::rng(), now)
    }

    #[test]
    fn only_my_own_address_three_times_over_five_seconds_means_nobody() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::new(vec!["peers:1".into()], start);
        let mut now = start;
        let mut rounds = 0;
        loop {
            rounds += 1;
            match step(&mut bootstrap, &found([1]), now) {
                Step::NobodyThere => break,
                Step::Dial(none) => assert!(none.is_empty()),
            }
            now += ALONE_PAUSE;
        }
        assert_eq!(rounds, 3);
        assert!(now - start >= ALONE_SPAN);
    }

    #[test]
    fn an_empty_answer_or_an_error_means_ask_again() {
        let mut now = Instant::now();
        let mut bootstrap = Bootstrap::new(vec!["peers:1".into()], now);
        for _ in 0..10 {
            assert_eq!(step(&mut bootstrap, &Resolved::default(), now), Step::Dial(vec![]));
            assert!(bootstrap.due(now).is_none());
            now += LAST_PAUSE;
        }
    }

    #[test]
    fn dials_a_sample_without_myself() {
        let now = Instant::now();
        let mut bootstrap = Bootstrap::new(vec!["peers:1".into()], now);
        let Step::Dial(sample) = step(&mut bootstrap, &found(1..100), now) else { panic!("there are others") };
        assert_eq!(sample.len(), SAMPLE);
        assert!(!sample.contains(&at(1)));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_an_incomplete_answer() {
        let both = resolve(vec!["127.0.0.1:7".into(), "name.invalid:7".into()]).await;
        assert!(!both.complete);
        assert_eq!(both.addresses.into_iter().collect::<Vec<_>>(), ["127.0.0.1:7".parse().unwrap()]);
    }
}
