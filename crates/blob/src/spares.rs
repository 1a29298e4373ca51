//! The memory of pieces that nobody needs any more, for those that come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much memory waits to be used again, in bytes: one piece of the largest.
const MOST_BYTES: usize = 16 << 20;

/// Memory that is used again. New memory has a page fault for every 4 KiB, which costs more than a piece's copy into it.
///
/// Meant for the pieces of one blob, which have one length but for the last. A handle to the same memory when cloned.
#[derive(Clone, Debug, Default)]
pub struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

/// Memory with a piece in it, which becomes a spare when nobody looks at it any more.
pub(crate) struct Used {
    memory: Vec<u8>,
    spares: Spares,
}

impl Spares {
    /// Empty memory, used before where there is some.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut memory = self.all().pop().unwrap_or_default();
        memory.reserve_exact(capacity);
        memory
    }

    pub(crate) fn used(&self, memory: Vec<u8>) -> Used {
        Used { memory, spares: self.clone() }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Used {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.clear();
        let mut all = self.spares.all();
        let waiting: usize = all.iter().map(Vec::capacity).sum();
        if waiting + memory.capacity() <= MOST_BYTES {
            all.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_looks_at_it() {
        let spares = Spares::default();
        let mut memory = spares.take(5000);
        memory.extend_from_slice(&[7; 5000]);
        let place = memory.as_ptr();
        let used = spares.used(memory);
        let other = spares.take(5000);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(used.as_ref(), [7; 5000]);
        drop(used);
        let again = spares.take(5000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn no_more_waits_than_may() {
        let spares = Spares::default();
        let used: Vec<_> = (0..20).map(|_| spares.used(Vec::with_capacity(1 << 20))).collect();
        drop(used);
        assert_eq!(spares.all().len(), 16);
    }
}
