//! What a pull has to survive.

use serde::Serialize;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Case {
    /// The link of one node carries a tenth of what the others' do
    Slow,
    /// One member takes pieces, says that it has them, promises them and sends none
    Mute,
    /// One member has pieces sent to it and reads none of their bytes
    Deaf,
    /// One daemon stands still (SIGSTOP) when a fifth has been read
    Hung,
    /// The cluster is cut in two for 20 s
    Parted,
}

impl Case {
    /// What it is, for people.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Slow => "a link of a tenth",
            Self::Mute => "accepts, never sends",
            Self::Deaf => "stops reading",
            Self::Hung => "stands still",
            Self::Parted => "cut in two",
        }
    }
}
