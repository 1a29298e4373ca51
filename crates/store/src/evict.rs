//! What goes when there is no room.

use std::sync::Arc;

use shoal_blob::Digest;

use crate::Full;

/// Why a blob leaves the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// There was no room for another, and this one was used least recently.
    Evicted,
    /// Somebody asked for it.
    Removed,
    /// It was given up as wrong.
    Discarded,
}

/// Who is told before a blob's file goes.
pub(crate) type Hook = Arc<dyn Fn(&Digest, Departure) + Send + Sync>;

/// A blob that could go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) last_use: u64,
    pub(crate) pinned: bool,
    pub(crate) held: bool,
}

/// Chooses what goes so that there is room: the least recently used, no more than needed; nothing when all of it would not do.
///
/// A blob that goes gives its length back both to the capacity and to the disk, where it had been written or was promised.
pub(crate) fn choose(mut all: Vec<Candidate>, room: Full) -> Result<Vec<Digest>, Full> {
    let beyond_capacity = room.reserved.saturating_add(room.needed).saturating_sub(room.capacity);
    let promised = room.needed.saturating_add(room.unwritten).saturating_add(room.min_free);
    let beyond_disk = promised.saturating_sub(room.disk_free);
    let short = beyond_capacity.max(beyond_disk);
    let sum = |which: fn(&Candidate) -> bool| all.iter().filter(|one| which(one)).map(|one| one.length).sum();
    let (held, pinned) = (sum(|one| one.held), sum(|one| one.pinned && !one.held));
    all.retain(|one| !one.held && !one.pinned && one.length > 0);
    all.sort_by_key(|one| one.last_use);
    let mut gained = 0u64;
    let mut gone = Vec::new();
    for one in all {
        if gained >= short {
            break;
        }
        gained += one.length;
        gone.push(one.digest);
    }
    if gained >= short { Ok(gone) } else { Err(Full { held, pinned, ..room }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Full =
        Full { needed: 0, capacity: 100, reserved: 0, disk_free: 1000, unwritten: 0, min_free: 0, held: 0, pinned: 0 };

    fn blob(n: u8, length: u64) -> Candidate {
        Candidate { digest: Digest::Sha256([n; 32]), length, last_use: u64::from(n), pinned: false, held: false }
    }

    fn numbers(gone: &[Digest]) -> Vec<u8> {
        gone.iter().map(|digest| digest.as_bytes()[0]).collect()
    }

    #[test]
    fn the_least_recently_used_go_and_no_more_than_needed() {
        let all = vec![blob(3, 30), blob(1, 30), blob(2, 30)];
        let room = Full { needed: 50, reserved: 90, ..ROOM };
        assert_eq!(numbers(&choose(all.clone(), room).unwrap()), [1, 2]);
        assert_eq!(numbers(&choose(all.clone(), Full { needed: 10, reserved: 90, ..ROOM }).unwrap()), []);
        let disk = Full { needed: 10, reserved: 90, disk_free: 25, min_free: 20, ..ROOM };
        assert_eq!(numbers(&choose(all, disk).unwrap()), [1]);
    }

    #[test]
    fn nothing_goes_in_vain() {
        let all = vec![blob(1, 30), Candidate { held: true, ..blob(2, 40) }, Candidate { pinned: true, ..blob(3, 20) }];
        let room = Full { needed: 50, reserved: 90, ..ROOM };
        let full = choose(all, room).unwrap_err();
        assert_eq!((full.held, full.pinned), (40, 20));
        assert!(choose(Vec::new(), Full { needed: 101, ..ROOM }).is_err());
        assert!(choose(Vec::new(), Full { needed: 1, disk_free: 5, unwritten: 3, min_free: 2, ..ROOM }).is_err());
        assert!(choose(Vec::new(), Full { needed: u64::MAX, reserved: u64::MAX, ..ROOM }).is_err());
    }
}
