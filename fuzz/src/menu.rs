//! Bytes as a list of choices.

use std::time::Duration;

/// The bytes that are left; when there are none, every choice is the first.
pub(crate) struct Menu<'a>(pub(crate) &'a [u8]);

impl<'a> Menu<'a> {
    pub(crate) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// One of so many, 256 at most.
    pub(crate) fn of(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number that is mostly one of those below `count`, and sometimes any at all.
    pub(crate) fn near(&mut self, count: u32) -> u32 {
        match self.byte() {
            255 => self.u32(),
            low => u32::from(low) % (count + 2),
        }
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// From no time to some minutes, short ones more often.
    pub(crate) fn span(&mut self) -> Duration {
        let byte = self.byte();
        Duration::from_micros(u64::from(byte & 31) << (2 * (byte >> 5)) << 5)
    }

    /// A run of at most 255 bytes, as long as the first says.
    pub(crate) fn run(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (run, rest) = self.0.split_at(length);
        self.0 = rest;
        run
    }
}
