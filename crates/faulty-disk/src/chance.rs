//! Chance from a seed: the same each time.

/// A small generator (splitmix64: Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// All that follows depends on the seed alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of the numbers below `end`, which is not 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// True so many times in a hundred.
    pub const fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }
}
