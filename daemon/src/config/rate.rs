//! How fast a setting lets bytes be.

use std::{fmt, str::FromStr};

use shoal_pace::Rate as Pace;

use super::Expected;

/// A rate, written as network people do: `200mbit`, `2.5gbit`, or as bytes: `25MiB/s`, `1.5GB/s`; or `none`, so that a flag can
/// lift what the file says. Bits count by thousands, as in `tc`; bytes by the unit that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<Pace>);

/// The least: with less, a piece of a large blob would be on its way for minutes.
const LEAST: u64 = 125_000;
/// The most: above it nothing is held back by anything.
const MOST: u64 = 125_000_000_000;
/// Units of bits, in bits.
const BITS: [(&str, u64); 3] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)];

impl FromStr for Rate {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = Expected("a rate from 1mbit to 1000gbit, such as 200mbit, 2.5gbit or 25MiB/s, or none");
        let text = text.trim().to_ascii_lowercase();
        if text == "none" {
            return Ok(Self(None));
        }
        let bytes = bytes(&text).filter(|bytes| (LEAST..=MOST).contains(bytes)).ok_or(expected)?;
        Ok(Self(Pace::of_bytes(bytes)))
    }
}

fn bytes(text: &str) -> Option<u64> {
    if let Some(size) = text.strip_suffix("/s") {
        return size.trim().parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
    }
    let (number, unit) = BITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let number: f64 = number.trim().parse().ok()?;
    // Nothing that is not finite is left in the bounds that are checked next.
    Some((number * unit as f64 / 8.0).round() as u64)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0.map(Pace::bytes) else { return f.write_str("none") };
        match BITS.iter().find(|(_, unit)| (bytes * 8).is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", bytes * 8 / unit),
            None => write!(f, "{bytes}B/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        for (text, bytes, shown) in [
            ("200mbit", 25_000_000, "200mbit"),
            ("2.5 Gbit", 312_500_000, "2500mbit"),
            ("1500kbit", 187_500, "1500kbit"),
            ("25MiB/s", 26_214_400, "26214400B/s"),
            ("1.5GB/s", 1_500_000_000, "12gbit"),
            (" 125000B/s ", 125_000, "1mbit"),
            ("1000gbit", 125_000_000_000, "1000gbit"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.0.map(Pace::bytes), rate.to_string().as_str()), (Some(bytes), shown), "{text}");
            assert_eq!(shown.parse(), Ok(rate), "{text}");
        }
        assert_eq!("None".parse::<Rate>().unwrap().to_string(), "none");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "", "0", "fast", "200", "200M", "200mbps", "mbit", "0mbit", "-1gbit", "999kbit", "1kB/s", "inf gbit",
            "NaNmbit", "1001gbit", "25MiB",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was taken");
        }
    }
}
