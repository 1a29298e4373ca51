//! The highest grant of each digest that this node has seen: what a standby keeps, and what it says when it is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shoal_blob::{Digest, Layout};
use shoal_proto::{Epoch, SignedGrant};

use crate::Time;

/// A grant is remembered for so long after it was last seen, so that a new epoch is counted above it.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Epochs are counted one by one: a number beyond this was made up, to leave none above it.
const HIGHEST_NUMBER: u64 = 1 << 48;

/// Whether the first epoch of a digest outranks the second: by its number, then by whose coordinator is the closer.
#[must_use]
pub fn outranks(digest: &Digest, one: Epoch, other: Epoch) -> bool {
    let farther = |epoch: Epoch| std::cmp::Reverse(epoch.coordinator.distance(digest));
    (one.number, farther(one)) > (other.number, farther(other))
}

/// Whether a grant is signed by its coordinator and means something.
#[must_use]
pub fn is_sound(grant: &SignedGrant) -> bool {
    let claimed = grant.grant();
    (1..=HIGHEST_NUMBER).contains(&claimed.epoch.number) && Layout::new(claimed.length).is_ok() && grant.check().is_ok()
}

/// Grants by digest: the highest epoch of each, for a quarter of an hour, a bounded number.
///
/// Invariant: every grant in it is sound, and `by_age` has exactly one entry for each.
#[derive(Debug)]
pub struct Remembered {
    grants: BTreeMap<Digest, (SignedGrant, Time)>,
    by_age: BTreeSet<(Time, Digest)>,
    most: usize,
}

impl Remembered {
    /// Remembers nothing yet, and never more than `most` grants.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { grants: BTreeMap::new(), by_age: BTreeSet::new(), most }
    }

    /// Keeps a grant if it is sound and not below the one that is there. Returns whether it is the highest now.
    pub fn keep(&mut self, now: Time, grant: &SignedGrant) -> bool {
        let digest = grant.grant().digest;
        match self.grants.get_mut(&digest) {
            Some((known, seen)) if known == grant => {
                self.by_age.remove(&(*seen, digest));
                *seen = now;
            }
            Some((known, _)) if !outranks(&digest, grant.grant().epoch, known.grant().epoch) => return false,
            _ if !is_sound(grant) => return false,
            _ => {
                if let Some((_, seen)) = self.grants.insert(digest, (grant.clone(), now)) {
                    self.by_age.remove(&(seen, digest));
                }
            }
        }
        self.by_age.insert((now, digest));
        self.forget(now);
        true
    }

    /// The highest grant of a digest.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<&SignedGrant> {
        self.grants.get(digest).map(|(grant, _)| grant)
    }

    fn forget(&mut self, now: Time) {
        while let Some(&(seen, digest)) = self.by_age.first() {
            if self.grants.len() <= self.most && now.since(seen) < LIFETIME {
                return;
            }
            self.by_age.pop_first();
            self.grants.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::{Grant, NodeKey, Visibility};

    fn grant(key: &NodeKey, blob: u8, number: u64) -> SignedGrant {
        let epoch = Epoch { number, coordinator: key.id() };
        let (digest, duration) = (Digest::Sha256([blob; 32]), Duration::from_secs(3));
        Grant { digest, length: 7, epoch, seed: key.id(), duration, visibility: Visibility::Public }.sign(key)
    }

    #[test]
    fn keeps_the_highest_and_forgets_the_oldest() {
        let key = NodeKey::from_seed(&[1; 32]);
        let mut remembered = Remembered::new(2);
        let at = |s| Time::ZERO + Duration::from_secs(s);
        assert!(remembered.keep(at(0), &grant(&key, 1, 5)));
        assert!(!remembered.keep(at(1), &grant(&key, 1, 4)));
        assert!(!remembered.keep(at(1), &grant(&key, 2, u64::MAX)), "a made-up number");
        assert!(remembered.keep(at(2), &grant(&key, 2, 1)));
        assert!(remembered.keep(at(3), &grant(&key, 1, 5)), "seen again");
        assert!(remembered.keep(at(4), &grant(&key, 3, 1)));
        assert!(remembered.get(&Digest::Sha256([2; 32])).is_none(), "the one not seen for longest has gone");
        assert_eq!(remembered.get(&Digest::Sha256([1; 32])).unwrap().grant().epoch.number, 5);
        assert!(remembered.keep(at(2000), &grant(&key, 4, 1)));
        assert_eq!(remembered.grants.len(), 1);
    }

    #[test]
    fn ties_go_to_the_closer_coordinator() {
        let digest = Digest::Sha256([3; 32]);
        let (one, other) = (NodeKey::from_seed(&[1; 32]).id(), NodeKey::from_seed(&[2; 32]).id());
        let (near, far) = if one.distance(&digest) < other.distance(&digest) { (one, other) } else { (other, one) };
        let epoch = |number, coordinator| Epoch { number, coordinator };
        assert!(outranks(&digest, epoch(2, near), epoch(2, far)));
        assert!(!outranks(&digest, epoch(2, far), epoch(2, near)));
        assert!(outranks(&digest, epoch(3, far), epoch(2, near)));
        assert!(!outranks(&digest, epoch(2, near), epoch(2, near)));
    }
}
