//! The rate of a link, as `tc` writes it.

use std::{fmt, str::FromStr};

use anyhow::{Context, ensure};

/// Bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(u64);

impl Rate {
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// So many times as much.
    pub(super) const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    pub(super) fn bytes_a_second(self) -> f64 {
        self.0 as f64 / 8.0
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    /// Reads `200mbit`, `1gbit`, `2.5gbit`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (number, unit) = match text {
            _ if text.ends_with("gbit") => (&text[..text.len() - 4], 1e9),
            _ if text.ends_with("mbit") => (&text[..text.len() - 4], 1e6),
            _ => anyhow::bail!("expected a rate such as 200mbit or 1gbit"),
        };
        let number: f64 = number.parse().context("expected a rate such as 200mbit or 1gbit")?;
        ensure!((0.001..=1e6).contains(&number) && number * unit >= 1e6, "expected 1mbit at least");
        Ok(Self((number * unit) as u64))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits.is_multiple_of(1_000_000_000) => write!(f, "{}gbit", bits / 1_000_000_000),
            bits => write!(f, "{}mbit", bits as f64 / 1e6),
        }
    }
}
