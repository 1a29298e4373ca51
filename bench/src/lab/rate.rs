//! The rate of a link.

use std::{fmt, str::FromStr};

use anyhow::Context;
use shoal::config;

/// Bytes a second, read as the daemon's limits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(u64);

impl Rate {
    /// That many bits a second, down to whole bytes.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits / 8)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0.saturating_mul(8)
    }

    /// So many times as much.
    pub(crate) const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    pub(crate) const fn bytes_a_second(self) -> f64 {
        self.0 as f64
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let rate: config::Rate = text.parse()?;
        Ok(Self(rate.0.context("a link has a rate, such as 200mbit")?.bytes()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits() {
            bits if bits.is_multiple_of(1_000_000_000) => write!(f, "{}gbit", bits / 1_000_000_000),
            bits => write!(f, "{}mbit", bits as f64 / 1e6),
        }
    }
}
