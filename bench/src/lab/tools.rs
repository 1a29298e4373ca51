//! The programs that make the network.

use std::{io::ErrorKind, process::Command};

use anyhow::{Context, bail};
use shoal::cluster::Host;

/// Runs `ip`.
pub(crate) fn ip(words: &[&str]) -> anyhow::Result<()> {
    run("ip", words).map(drop)
}

/// Runs `tc`.
pub(crate) fn tc(words: &[&str]) -> anyhow::Result<()> {
    run("tc", words).map(drop)
}

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
/// When it is missing or fails; the message has what it said.
pub(crate) fn run(program: &str, words: &[&str]) -> anyhow::Result<String> {
    let command = format!("{program} {}", words.join(" "));
    let output = match Command::new(program).args(words).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{program}` is not installed; Debian has it in the package iproute2")
        }
        Err(error) => return Err(error).with_context(|| format!("run `{command}`")),
    };
    if !output.status.success() {
        bail!("`{command}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program on a host.
pub(crate) fn within(host: &Host, program: &str) -> tokio::process::Command {
    let mut words = host.enter.iter().map(String::as_str).chain([program]);
    let mut command = tokio::process::Command::new(words.next().unwrap_or(program));
    command.args(words);
    command
}
