//! What a test needs of the machine, and what happens where it is not there.

use std::{env, io::Write};

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// A program in the search path.
    Program(&'static str),
    /// To be the superuser: containerd mounts.
    Root,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Program(name) => env::var_os("PATH")
                .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file())),
            Self::Root => rustix::process::geteuid().is_root(),
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program(name) => write!(f, "the program `{name}` is not installed"),
            Self::Root => write!(f, "containerd needs root"),
        }
    }
}

/// Whether everything is there. Says what is not.
///
/// # Panics
/// When something is missing and `SHOAL_REQUIRE_REAL=1` says that nothing may be.
pub(crate) fn met(needs: impl IntoIterator<Item = Need>) -> bool {
    let missing: Vec<String> = needs.into_iter().filter(|need| !need.is_met()).map(|need| need.to_string()).collect();
    if !missing.is_empty() {
        skip(&missing.join(", "));
    }
    missing.is_empty()
}

/// Says that the test is skipped, and why.
///
/// # Panics
/// When `SHOAL_REQUIRE_REAL=1` says that none may be.
pub(crate) fn skip(why: &str) {
    assert!(env::var_os("SHOAL_REQUIRE_REAL").is_none_or(|value| value != "1"), "SHOAL_REQUIRE_REAL=1, and {why}");
    // Not `eprintln!`, whose output is kept from view where a test passes.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "SKIPPED: {test}: {why}").ok();
}
