//! Who may upload.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many uploads to slow receivers may run beside those that have a place.
const MOST_ASIDE: usize = 32;

/// One place for each upload that may run at a time, first come, first served.
///
/// Invariant: `count` is how many places there are, taken ones included; one that is to go is taken away when it is free.
pub(super) struct Places {
    places: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    count: usize,
}

/// A place, free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    aside: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(count: u32) -> Self {
        let count = count as usize;
        Self { places: Arc::new(Semaphore::new(count)), aside: Arc::new(Semaphore::new(MOST_ASIDE)), count }
    }

    /// Changes how many there are: at once where there are to be more, otherwise as far as some are free. Say it again from time
    /// to time.
    pub(super) fn resize(&mut self, count: u32) {
        let count = count as usize;
        if count > self.count {
            self.places.add_permits(count - self.count);
            self.count = count;
        } else {
            self.count -= self.places.forget_permits(self.count - count);
        }
    }

    /// Waits for a place, in turn.
    pub(super) fn take(&self) -> impl Future<Output = Place> + Send + use<> {
        let (places, aside) = (Arc::clone(&self.places), Arc::clone(&self.aside));
        async move { Place { _permit: places.acquire_owned().await.expect("nobody closes it"), aside } }
    }
}

impl Place {
    /// Leaves the place to another, while not too many have done so.
    pub(super) fn step_aside(&mut self) {
        if let Ok(permit) = Arc::clone(&self.aside).try_acquire_owned() {
            self._permit = permit;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take(places: &Places) -> Option<Place> {
        places.take().now_or_never()
    }

    #[test]
    fn who_steps_aside_leaves_its_place_but_not_everybody_may() {
        let places = Places::new(1);
        let mut aside = Vec::new();
        for _ in 0..MOST_ASIDE {
            let mut place = take(&places).unwrap();
            assert!(take(&places).is_none());
            place.step_aside();
            aside.push(place);
        }
        let mut last = take(&places).unwrap();
        last.step_aside();
        assert!(take(&places).is_none(), "enough have stepped aside");
        aside.pop();
        last.step_aside();
        assert!(take(&places).is_some());
    }

    #[test]
    fn places_come_at_once_and_go_when_they_are_free() {
        let mut places = Places::new(2);
        let (one, other) = (take(&places).unwrap(), take(&places).unwrap());
        assert!(take(&places).is_none());
        places.resize(1);
        drop(one);
        // It was taken when it was to go.
        places.resize(1);
        assert!(take(&places).is_none());
        drop(other);
        let other = take(&places).unwrap();
        places.resize(3);
        let more = (take(&places).unwrap(), take(&places).unwrap());
        assert!(take(&places).is_none());
        drop((other, more));
    }
}
