//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    config::{Layer, Size, Source, table},
    runtimes::{ContainerdCommand, CrioCommand},
};

/// A peer-to-peer registry mirror: each blob is read from the origin once and traded in verified pieces.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
// One of them is made in the life of a process.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Run the mirror of this node
    Daemon(DaemonArgs),
    /// Keys of a cluster
    #[command(subcommand)]
    Key(KeyCommand),
    /// Put this node's mirror before containerd, and take it away again
    #[command(subcommand)]
    Containerd(ContainerdCommand),
    /// Put this node's mirror before CRI-O, podman, skopeo and buildah, and take it away again
    #[command(subcommand)]
    Crio(CrioCommand),
    /// Show it: an origin, some daemons, and one pull on every node at the same moment
    Demo(DemoArgs),
}

/// The arguments of `shoal daemon`.
#[derive(Args, Debug)]
pub struct DaemonArgs {
    /// A TOML file with settings; flags and the environment win over it
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read the settings, print what would be in force, and end
    #[arg(long)]
    pub check: bool,

    /// End, as on SIGTERM, when standard input is closed: for programs that start daemons and may die
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,

    /// The settings.
    #[command(flatten)]
    pub settings: Layer,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Print a new cluster key: one line of 64 hexadecimal digits, from the system's randomness
    New,
}

/// The arguments of `shoal demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many daemons
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,

    /// How large the weight layer is; the disk needs room for about twice that for each node
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub size: Size,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,

    /// Keep the folder with the nodes' data, the clients' copies and the logs, and say where it is
    #[arg(long)]
    pub keep: bool,

    /// The folder to work in; a new one is made in it
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub dir: PathBuf,

    /// Use a registry that already runs, as in http://127.0.0.1:5000, instead of the embedded one. What it sent is then
    /// taken from the daemons' own counters: bytes for the layer, requests for all blobs and manifests
    #[arg(long, value_name = "URL", requires = "image", conflicts_with = "size")]
    pub registry: Option<String>,

    /// What to pull from that registry; its largest layer is taken for the weight layer
    #[arg(long, value_name = "REPO:TAG", requires = "registry")]
    pub image: Option<String>,

    /// Listen with the embedded registry here, for looking at it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", hide = true)]
    pub origin_listen: SocketAddr,
}

impl DaemonArgs {
    /// Where this process finds its settings.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::new(self.settings.clone(), self.config.clone())
    }
}

/// Reads the command line and the environment.
///
/// # Errors
/// What to print, and with which exit code: also for `--help` and `--version`.
pub fn parse<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args).map_err(naming_the_variable)?;
    Cli::from_arg_matches(&matches)
}

/// The command line with the defaults of the settings in their help.
fn command() -> clap::Command {
    let with_default = |command: clap::Command, row: table::Row| {
        command.mut_arg(row.key, |arg| match row.default.as_str() {
            "" | "false" => arg,
            default => arg.help(format!("{} [default: {default}]", row.meaning)),
        })
    };
    Cli::command().mut_subcommand("daemon", |daemon| table::rows().into_iter().fold(daemon, with_default))
}

/// Says that a wrong value comes from the environment, where it does: the message names only the flag by itself.
fn naming_the_variable(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        let (flag, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
        let named =
            |row: &table::Row| flag.as_deref().is_some_and(|flag| flag.split(' ').next() == row.flag.split(' ').next());
        if let Some(row) = table::rows().into_iter().find(named) {
            let from_env = std::env::var(&row.env).is_ok_and(|whole| {
                value.is_some_and(|value| whole == value || whole.split(',').any(|part| part == value))
            });
            if from_env {
                let tip = format!("the value comes from the environment variable {}", row.env);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_flag_that_does_not_parse_names_itself_the_value_and_what_is_expected() {
        for (args, parts) in [
            (&["--capacity", "lots"][..], &["--capacity", "lots", "a size such as"][..]),
            (&["--mirror-listen", "5050"], &["--mirror-listen", "5050", "ADDRESS:PORT"]),
            (&["--bootstrap", "peer"], &["--bootstrap", "peer", "HOST:PORT"]),
            (&["--log-format", "xml"], &["--log-format", "xml", "human, json"]),
            (&["--access", "docker.io=all"], &["--access", "docker.io=all", "NAME=caller"]),
            (&["--allow-any-registry=perhaps"], &["--allow-any-registry", "perhaps", "expected"]),
            (&["--capasity", "1GiB"], &["--capasity", "--capacity"]),
        ] {
            let error = parse(["shoal", "daemon"].iter().chain(args)).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in: {error}");
            }
        }
    }

    #[test]
    fn lists_repeat_and_take_commas() {
        let args = ["shoal", "daemon", "--bootstrap", "a:1,b:2", "--bootstrap", "c:3", "--allow-any-registry"];
        let Command::Daemon(args) = parse(args).unwrap().command else { panic!("a daemon was asked for") };
        let hosts: Vec<_> = args.settings.bootstrap.iter().map(|peer| peer.host.as_str()).collect();
        assert_eq!(hosts, ["a", "b", "c"]);
        assert_eq!(args.settings.allow_any_registry, Some(true));
    }

    #[test]
    fn the_demo_takes_an_image_with_a_registry_only() {
        assert!(parse(["shoal", "demo", "--registry", "http://127.0.0.1:5000"]).is_err());
        assert!(parse(["shoal", "demo", "--registry", "http://127.0.0.1:5000", "--image", "m:v1"]).is_ok());
        assert!(parse(["shoal", "demo", "--nodes", "0"]).is_err());
    }
}
