//! Bytes that look random, come from a seed, and can be computed at any offset without those before them.

/// An endless stream of bytes: word `i` (8 bytes, little-endian) is the `i`-th output of SplitMix64 (Steele, Lea, Flood:
/// "Fast splittable pseudorandom number generators", 2014) with the given seed.
///
/// SplitMix64 counts and then mixes, so each word depends only on the seed and on its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

/// The step of SplitMix64's counter: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Noise {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The word with the given number, from 0.
    #[must_use]
    #[inline]
    pub const fn word(&self, number: u64) -> u64 {
        mix(self.seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// Fills `out` with the bytes from `offset` on. Takes time for `out` alone, wherever it lies.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let mut number = offset / 8;
        let skipped = (offset % 8) as usize;
        let mut out = out;
        if skipped > 0 {
            let word = self.word(number).to_le_bytes();
            let length = out.len().min(8 - skipped);
            let (head, rest) = out.split_at_mut(length);
            head.copy_from_slice(&word[skipped..skipped + length]);
            out = rest;
            number += 1;
        }
        let mut counter = self.seed.wrapping_add(number.wrapping_mul(GAMMA));
        let mut words = out.chunks_exact_mut(8);
        for word in &mut words {
            counter = counter.wrapping_add(GAMMA);
            word.copy_from_slice(&mix(counter).to_le_bytes());
        }
        let tail = words.into_remainder();
        let word = mix(counter.wrapping_add(GAMMA)).to_le_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

#[inline]
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_splitmix64() {
        // The first outputs of the reference implementation for the seed 1234567.
        let noise = Noise::new(1_234_567);
        let words: Vec<u64> = (0..3).map(|number| noise.word(number)).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    proptest! {
        #[test]
        fn any_window_equals_the_stream(seed: u64, start in 0usize..5000, length in 0usize..3000) {
            let noise = Noise::new(seed);
            let stream: Vec<u8> = (0..1000).flat_map(|number| noise.word(number).to_le_bytes()).collect();
            let mut window = vec![0; length];
            noise.fill(start as u64, &mut window);
            prop_assert_eq!(&window, &stream[start..start + length]);
        }

        #[test]
        fn far_offsets_do_not_overflow(seed: u64, offset in u64::MAX - 5000..u64::MAX - 1000, cut in 0usize..100) {
            let noise = Noise::new(seed);
            let mut whole = [0; 100];
            noise.fill(offset, &mut whole);
            let mut parts = [0; 100];
            let (left, right) = parts.split_at_mut(cut);
            noise.fill(offset, left);
            noise.fill(offset + cut as u64, right);
            prop_assert_eq!(whole, parts);
        }
    }
}
