//! Versions of containerd.

use std::{fmt, str::FromStr};

/// A minor version of containerd; what is told apart here did not change between patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// As the 1 in 1.7.
    pub major: u16,
    /// As the 7 in 1.7.
    pub minor: u16,
}

impl Version {
    /// Those whose configuration is understood, oldest first.
    pub const KNOWN: [Self; 6] =
        [Self::new(1, 6), Self::new(1, 7), Self::new(2, 0), Self::new(2, 1), Self::new(2, 2), Self::new(2, 3)];

    /// MAJOR.MINOR.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Finds the version in what `containerd --version` prints.
    #[must_use]
    pub fn in_output(output: &str) -> Option<Self> {
        // Its name and where it is built from contain digits too, as in `github.com/containerd/containerd/v2 v2.1.4`.
        output
            .split_whitespace()
            .filter(|word| word.contains('.') && !word.contains('/'))
            .find_map(|word| word.parse().ok())
    }

    /// The configuration that is told from the section `io.containerd.cri.v1.images`.
    pub(crate) fn has_images_section(self) -> bool {
        self.major >= 2
    }

    /// Whether CRI pulls over the transfer service unless told otherwise.
    pub(crate) fn transfers(self) -> bool {
        self >= Self::new(2, 1)
    }

    /// What `config_path` is where nothing is said.
    pub(crate) fn default_config_path(self) -> &'static str {
        if self >= Self::new(2, 2) { "/etc/containerd/certs.d:/etc/docker/certs.d" } else { "" }
    }

    /// The highest `version` that a config.toml may have.
    pub(crate) fn highest_config(self) -> i64 {
        match (self.major, self.minor) {
            (..=1, _) => 2,
            (2, ..=2) => 3,
            _ => 4,
        }
    }

    /// What a host may be said to be capable of; any other word makes the whole hosts.toml invalid.
    pub(crate) fn capabilities(self) -> &'static [&'static str] {
        if self >= Self::new(2, 2) { &["pull", "resolve", "push", "referrers"] } else { &["pull", "resolve", "push"] }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (major, rest) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
            let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
            Some(Self::new(major.parse().ok()?, rest[..digits].parse().ok()?))
        };
        read().ok_or_else(|| "expected a version such as 1.7 or 2.2.1".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_containerd_prints() {
        for (output, version) in [
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", Some((1, 6))),
            (
                "containerd github.com/containerd/containerd v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182",
                Some((1, 7)),
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376",
                Some((2, 1)),
            ),
            ("containerd containerd.io 2.2.0-rc.1 abc", Some((2, 2))),
            ("command not found", None),
        ] {
            assert_eq!(
                Version::in_output(output),
                version.map(|(major, minor)| Version::new(major, minor)),
                "{output}"
            );
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(Version::new(1, 10) > Version::new(1, 7));
        assert!("2".parse::<Version>().is_err());
        assert!("two.one".parse::<Version>().is_err());
    }
}
