//! The daemon's program.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The program that was named, or that which was built beside this one.
pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("find this program")?.with_file_name("shoal"),
    };
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    if !path.is_file() {
        bail!(
            "there is no program {}; `cargo build{profile} -p shoal` makes it, `--shoal` names another",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_how_to_be_made() {
        let error = find(Some(Path::new("/nowhere/shoal"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/shoal") && error.contains("cargo build"), "{error}");
    }
}
