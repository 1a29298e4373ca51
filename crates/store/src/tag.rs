//! What a tag meant when the registry was last asked.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shoal_blob::Digest;

use crate::{IndexError, StoreError, index::Table, place::Place};

/// The most tags.
const MOST: usize = 8192;
/// How many of the oldest go at once when there are too many.
const GO_AT_ONCE: usize = MOST / 16;
/// The longest repository and tag together, in bytes. The grammars of both allow less.
const MAX_NAME: usize = 1024;

/// What a tag meant, and when the registry said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedTag {
    /// The manifest's digest.
    pub digest: Digest,
    /// Seconds since 1970.
    pub asked_at: u64,
}

impl RememberedTag {
    /// How long ago the registry was asked; nothing when the clock was set back.
    #[must_use]
    pub fn age(&self) -> Duration {
        now().saturating_sub(Duration::from_secs(self.asked_at))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub(crate) struct Tags {
    place: Arc<Place>,
    count: Mutex<usize>,
}

impl Tags {
    pub(crate) fn open(place: Arc<Place>) -> Result<Self, IndexError> {
        let mut count = 0;
        place.index.scan(Table::Tags, |_, _| count += 1)?;
        Ok(Self { place, count: Mutex::new(count) })
    }

    pub(crate) fn remember(&self, repository: &str, tag: &str, digest: &Digest) -> Result<(), StoreError> {
        let Some(key) = key(repository, tag) else { return Ok(()) };
        let _open = self.place.enter()?;
        let mut count = self.count.lock();
        let known = self.place.index.get(Table::Tags, &key)?.is_some();
        if !known && *count >= MOST {
            *count -= self.drop_oldest()?;
        }
        let remembered = RememberedTag { digest: *digest, asked_at: now().as_secs() };
        let value = postcard::to_stdvec(&remembered).expect("a digest and a number can always be written");
        self.place.index.put(Table::Tags, &key, value)?;
        *count += usize::from(!known);
        Ok(())
    }

    pub(crate) fn recall(&self, repository: &str, tag: &str) -> Result<Option<RememberedTag>, StoreError> {
        let Some(key) = key(repository, tag) else { return Ok(None) };
        let value = self.place.index.get(Table::Tags, &key)?;
        Ok(value.and_then(|value| postcard::from_bytes(&value).ok()))
    }

    fn drop_oldest(&self) -> Result<usize, IndexError> {
        let mut all = Vec::new();
        self.place.index.scan(Table::Tags, |key, value| {
            let asked_at = postcard::from_bytes::<RememberedTag>(value).map_or(0, |tag| tag.asked_at);
            all.push((asked_at, key.to_vec()));
        })?;
        all.sort_unstable();
        all.truncate(GO_AT_ONCE);
        all.iter().try_for_each(|(_, key)| self.place.index.remove(Table::Tags, key))?;
        Ok(all.len())
    }
}

fn key(repository: &str, tag: &str) -> Option<Vec<u8>> {
    (repository.len() + tag.len() < MAX_NAME).then(|| [repository.as_bytes(), &[0], tag.as_bytes()].concat())
}
