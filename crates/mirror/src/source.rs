//! Where bytes came from.

/// Where this node had bytes from when it sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// They were here before the request came.
    Store,
    /// They came from other nodes meanwhile.
    Peers,
    /// They came from the origin meanwhile.
    Origin,
}

impl Source {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Store, Self::Peers, Self::Origin];
}

/// Bytes by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BySource([u64; Source::ALL.len()]);

impl BySource {
    /// So many bytes of one source.
    #[must_use]
    pub const fn all_from(source: Source, bytes: u64) -> Self {
        let mut this = Self([0; Source::ALL.len()]);
        this.0[source as usize] = bytes;
        this
    }

    pub(crate) fn of(count: impl Fn(Source) -> u64) -> Self {
        Self(Source::ALL.map(count))
    }

    /// How many came from there.
    #[must_use]
    pub const fn of_source(&self, source: Source) -> u64 {
        self.0[source as usize]
    }
}
