//! How the registry misbehaves.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use shoal_blob::Digest;

use crate::{
    Noise, Refusal,
    pacer::Pacer,
    refusal::{Aimed, Treatment},
};

/// All the ways in which the registry misbehaves; none by default. Made by chaining: `Faults::none().rate(100_000)`.
///
/// Replaced while the registry serves, the new rate, refusals and wrong bytes hold at once, also for bodies under way; how
/// a body ends, and its own rate, were decided when it began.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rate: Option<u64>,
    rate_of_each: Option<u64>,
    latency: Duration,
    first_byte_delay: Duration,
    break_after: Option<(Range<u64>, u64)>,
    truncate: Option<u64>,
    ignore_ranges: bool,
    wrong_bytes: Vec<(Digest, u64)>,
    lengthen: u64,
    redirect_blobs: Option<String>,
    refusals: Vec<Refusal>,
}

impl Faults {
    /// No fault.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// All blob bodies together get this many bytes a second (at least 1), evenly.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = Some(bytes_per_second.max(1));
        self
    }

    /// Each blob body gets this many bytes a second (at least 1), however many there are.
    #[must_use]
    pub fn rate_of_each(mut self, bytes_per_second: u64) -> Self {
        self.rate_of_each = Some(bytes_per_second.max(1));
        self
    }

    /// Every answer waits that long, as over a long way.
    #[must_use]
    pub const fn latency(mut self, delay: Duration) -> Self {
        self.latency = delay;
        self
    }

    /// Every blob body waits that long after its headers.
    #[must_use]
    pub const fn first_byte_delay(mut self, delay: Duration) -> Self {
        self.first_byte_delay = delay;
        self
    }

    /// Resets the connection (RST) of every blob body after a number of bytes drawn from `bytes` with a generator of that
    /// seed, drawn anew for each body; one that is shorter ends well. Bytes that the client's machine has taken by then
    /// may be lost on it.
    #[must_use]
    pub const fn break_after(mut self, bytes: Range<u64>, seed: u64) -> Self {
        self.break_after = Some((bytes, seed));
        self
    }

    /// Ends every blob body after that many bytes with an orderly close (FIN) before its `Content-Length`; one that is
    /// shorter ends well.
    #[must_use]
    pub const fn truncate(mut self, bytes: u64) -> Self {
        self.truncate = Some(bytes);
        self
    }

    /// Answers 200 with the whole blob to a ranged request.
    #[must_use]
    pub const fn ignore_ranges(mut self) -> Self {
        self.ignore_ranges = true;
        self
    }

    /// Flips all bits of the blob's byte at `offset`, in every body. May be given several times.
    #[must_use]
    pub fn wrong_byte(mut self, digest: Digest, offset: u64) -> Self {
        self.wrong_bytes.push((digest, offset));
        self
    }

    /// Tells of every blob, by HEAD and by GET, that many bytes more than there are. The body ends where the bytes do.
    #[must_use]
    pub const fn lengthen(mut self, bytes: u64) -> Self {
        self.lengthen = bytes;
        self
    }

    /// Answers blob requests with 307 to the same path at `base`, such as `http://127.0.0.1:5001`.
    #[must_use]
    pub fn redirect_blobs(mut self, base: &str) -> Self {
        self.redirect_blobs = Some(base.trim_end_matches('/').to_owned());
        self
    }

    /// Adds a rule by which requests are refused. The first that fits decides.
    #[must_use]
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        self.refusals.push(refusal);
        self
    }
}

/// How a body ends early: after how many of its bytes, and whether the connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) after: u64,
    pub(crate) reset: bool,
}

/// Faults in force, with what they remember.
#[derive(Debug)]
pub(crate) struct Mischief {
    faults: Faults,
    pub(crate) pacer: Option<Pacer>,
    bodies: AtomicU64,
    used: Vec<AtomicU64>,
}

impl Mischief {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            pacer: faults.rate.map(Pacer::new),
            bodies: AtomicU64::new(0),
            used: faults.refusals.iter().map(|_| AtomicU64::new(0)).collect(),
            faults,
        }
    }

    /// What becomes of a request, where a rule fits it; counts its use.
    pub(crate) fn treatment(&self, aimed: &Aimed<'_>) -> Option<Treatment> {
        self.faults.refusals.iter().zip(&self.used).find_map(|(refusal, used)| {
            let fits = refusal.fits(aimed) && refusal.first.is_none_or(|first| used.fetch_add(1, Relaxed) < first);
            fits.then_some(refusal.treatment)
        })
    }

    /// How the next body ends, where it does not end well.
    pub(crate) fn next_cut(&self, body_bytes: u64) -> Option<Cut> {
        let number = self.bodies.fetch_add(1, Relaxed);
        let broken = self.faults.break_after.as_ref().map(|(bytes, seed)| {
            let width = bytes.end.saturating_sub(bytes.start).max(1);
            Cut { after: bytes.start + Noise::new(*seed).word(number) % width, reset: true }
        });
        let truncated = self.faults.truncate.map(|after| Cut { after, reset: false });
        broken.into_iter().chain(truncated).filter(|cut| cut.after < body_bytes).min_by_key(|cut| cut.after)
    }

    /// The offsets within `range` at which a blob's byte is wrong.
    pub(crate) fn wrong_bytes(&self, digest: &Digest, range: &Range<u64>) -> impl Iterator<Item = u64> {
        let wrong = self.faults.wrong_bytes.iter().filter(move |(of, at)| of == digest && range.contains(at));
        wrong.map(|(_, at)| *at)
    }

    pub(crate) const fn latency(&self) -> Duration {
        self.faults.latency
    }

    /// The rate that a body that begins now has for itself.
    pub(crate) fn own_pacer(&self) -> Option<Pacer> {
        self.faults.rate_of_each.map(Pacer::new)
    }

    pub(crate) const fn first_byte_delay(&self) -> Duration {
        self.faults.first_byte_delay
    }

    pub(crate) const fn ignores_ranges(&self) -> bool {
        self.faults.ignore_ranges
    }

    /// By how much lengths are overstated.
    pub(crate) const fn excess(&self) -> u64 {
        self.faults.lengthen
    }

    pub(crate) fn redirect(&self) -> Option<&str> {
        self.faults.redirect_blobs.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use http::StatusCode;

    #[test]
    fn cuts_are_drawn_from_the_range_and_repeat_with_the_seed() {
        let draw = |seed| {
            let mischief = Mischief::new(Faults::none().break_after(100..200, seed));
            (0..50).map(|_| mischief.next_cut(1000).unwrap().after).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).iter().all(|after| (100..200).contains(after)));
        assert_eq!(Mischief::new(Faults::none().break_after(100..200, 1)).next_cut(100), None);
    }

    #[test]
    fn the_first_n_are_refused_and_a_later_rule_gets_the_rest() {
        let mischief = Mischief::new(
            Faults::none()
                .refuse(Refusal::status(StatusCode::SERVICE_UNAVAILABLE).of(Target::Blobs).first(2))
                .refuse(Refusal::hang().of(Target::Manifests)),
        );
        let blob = Aimed { target: Target::BlobGets, repository: Some("a"), user: None };
        let refused: Vec<bool> = (0..4).map(|_| mischief.treatment(&blob).is_some()).collect();
        assert_eq!(refused, [true, true, false, false]);
        assert_eq!(mischief.treatment(&Aimed { target: Target::Manifests, ..blob }), Some(Treatment::Hang));
    }
}
