//! What stands between a runtime and the mirror, and the line to change.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::Version;

/// A line of a file; 0 is the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1 on.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => self.file.display().fmt(f),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The mirror is passed by.
    Problem,
    /// Worth knowing.
    Note,
}

/// Something that somebody should know or change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The line it is about.
    pub place: Place,
    /// What is the matter.
    pub what: String,
    /// What the line should be instead, or what to write; more than one line where a section is missing.
    pub change: Option<String>,
}

impl Finding {
    pub(crate) fn problem(place: Place, what: impl Into<String>, change: impl Into<String>) -> Self {
        Self { weight: Weight::Problem, place, what: what.into(), change: Some(change.into()) }
    }

    pub(crate) fn note(place: Place, what: impl Into<String>) -> Self {
        Self { weight: Weight::Note, place, what: what.into(), change: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Problem => "problem",
            Weight::Note => "note",
        };
        write!(f, "{weight}: {}: {}", self.place, self.what)?;
        if let Some(change) = &self.change {
            for line in change.lines() {
                write!(f, "\n{}", if line.is_empty() { String::new() } else { format!("    {line}") })?;
            }
        }
        Ok(())
    }
}

/// What a runtime would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each registry with the hosts that are asked, in order, as far as the files say.
    pub routes: Vec<(String, Vec<String>)>,
    /// What is in the way, problems first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the mirror is asked first, for all registries of the report.
    #[must_use]
    pub fn in_use(&self) -> bool {
        !self.routes.is_empty() && self.findings.iter().all(|finding| finding.weight != Weight::Problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (registry, hosts) in &self.routes {
            writeln!(f, "{registry}: {}", hosts.join(", then "))?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// Asks what holds for each of `versions`, and says of what does not hold for all of them for which it does.
pub(crate) fn over(versions: &[Version], judge: impl Fn(Version) -> Vec<Finding>) -> Vec<Finding> {
    let mut found: BTreeMap<Finding, Vec<Version>> = BTreeMap::new();
    for version in versions {
        for finding in judge(*version) {
            let seen = found.entry(finding).or_default();
            if seen.last() != Some(version) {
                seen.push(*version);
            }
        }
    }
    let naming = |(mut finding, seen): (Finding, Vec<Version>)| {
        if seen.len() < versions.len() {
            let names: Vec<String> = seen.iter().map(Version::to_string).collect();
            finding.what = format!("with containerd {}: {}", names.join(", "), finding.what);
        }
        finding
    };
    found.into_iter().map(naming).collect()
}
