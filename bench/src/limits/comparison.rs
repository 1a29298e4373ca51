//! One figure held against another.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// What is to hold of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// It is shown for what it is.
    None,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    BytesPerSecond,
    /// Nanoseconds of processor time for each byte.
    CpuPerByte,
    Seconds,
}

/// A figure of Shoal's, that of what it is held against, and the median of their ratios within the rounds.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) figure: f64,
    pub(super) against: String,
    pub(super) other: f64,
    pub(super) ratio: f64,
    pub(super) goal: Goal,
}

impl Comparison {
    pub(super) const HEADING: &'static str =
        "what                                    figure  against                                 figure   ratio  goal";

    /// Whether the goal is met; `None` where there is none.
    pub(super) fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(least) => Some(self.ratio >= least),
            Goal::AtMost(most) => Some(self.ratio <= most),
            Goal::None => None,
        }
    }
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::BytesPerSecond => format!("{:.0} MB/s", figure / 1e6),
            Self::CpuPerByte => format!("{figure:.3} ns/B"),
            Self::Seconds => format!("{figure:.3} s"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::BytesPerSecond => "bytes_per_second",
            Self::CpuPerByte => "cpu_nanoseconds_per_byte",
            Self::Seconds => "seconds",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, other) = (self.unit.show(self.figure), self.unit.show(self.other));
        write!(f, "{:<32}{figure:>14}  {:<32}{other:>14}{:>8.3}", self.what, self.against, self.ratio)?;
        match self.goal {
            Goal::AtLeast(least) => write!(f, "  >= {least:.2}")?,
            Goal::AtMost(most) => write!(f, "  <= {most:.2}")?,
            Goal::None => {}
        }
        match self.is_met() {
            Some(true) => write!(f, "  ok"),
            Some(false) => write!(f, "  MISSED"),
            None => Ok(()),
        }
    }
}

impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (at_least, at_most) = match self.goal {
            Goal::AtLeast(least) => (Some(least), None),
            Goal::AtMost(most) => (None, Some(most)),
            Goal::None => (None, None),
        };
        let mut object = serializer.serialize_struct("Comparison", 9)?;
        object.serialize_field("what", &self.what)?;
        object.serialize_field("unit", self.unit.name())?;
        object.serialize_field("figure", &self.figure)?;
        object.serialize_field("against", &self.against)?;
        object.serialize_field("other", &self.other)?;
        object.serialize_field("ratio", &self.ratio)?;
        object.serialize_field("at_least", &at_least)?;
        object.serialize_field("at_most", &at_most)?;
        object.serialize_field("met", &self.is_met())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ratio: f64, goal: Goal) -> Comparison {
        let (what, against) = ("mirror".to_owned(), "nginx".to_owned());
        Comparison { what, unit: Unit::BytesPerSecond, figure: 2e9, against, other: 2.1e9, ratio, goal }
    }

    #[test]
    fn goals_are_met_or_missed_and_the_line_says_so() {
        for (goal, ratio, met) in [
            (Goal::AtLeast(0.95), 0.95, Some(true)),
            (Goal::AtLeast(0.95), 0.94, Some(false)),
            (Goal::AtMost(1.15), 1.15, Some(true)),
            (Goal::AtMost(1.15), 1.16, Some(false)),
            (Goal::None, 9.0, None),
        ] {
            let line = line(ratio, goal);
            assert_eq!(line.is_met(), met);
            assert_eq!(line.to_string().ends_with("MISSED"), met == Some(false));
            assert_eq!(serde_json::to_value(&line).unwrap()["met"], serde_json::json!(met));
        }
    }

    #[test]
    fn lines_stand_below_their_heading() {
        let text = line(1.0, Goal::AtMost(1.0)).to_string();
        for word in ["figure", "against", "ratio", "goal"] {
            assert!(Comparison::HEADING.contains(word));
        }
        let end = |text: &str, of: &str| text.find(of).unwrap() + of.len();
        assert_eq!(end(Comparison::HEADING, "ratio"), end(&text, "1.000"));
        assert_eq!(Comparison::HEADING.find("against"), text.find("nginx"));
    }
}
