//! `shoal containerd` and `shoal crio`: container runtimes told to ask this node's mirror first, and told so no longer.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use shoal_runtimes::{Containerd, Crio, Finding, Mirror, Plan, Registry, Report, Version, Weight};

/// What can be done with containerd.
#[derive(Debug, Subcommand)]
pub enum ContainerdCommand {
    /// Put Shoal first in hosts.toml files; what is in them stays
    Install {
        /// Which files, and of which registries.
        #[command(flatten)]
        args: ContainerdArgs,

        /// Set `config_path` in containerd's own configuration to --config-path too; containerd then wants a restart
        #[arg(long)]
        set_config_path: bool,
    },
    /// Say whether containerd would ask Shoal first, and which lines to change if not; ends with 1 then
    Status(ContainerdArgs),
    /// Take out exactly what Shoal wrote
    Uninstall(ContainerdArgs),
}

/// Where containerd's files are.
#[derive(Args, Clone, Debug)]
pub struct ContainerdArgs {
    /// The folder of hosts.toml files, with a folder for each registry
    #[arg(long, value_name = "DIR", default_value = "/etc/containerd/certs.d")]
    pub config_path: PathBuf,

    /// The registries, as images name them, with commas between; with a URL where that is not https://NAME. A URL is
    /// written only where there is no hosts.toml yet
    #[arg(long, value_name = "NAME[=URL]", value_delimiter = ',')]
    pub registries: Vec<Registry>,

    /// Where no registry is named: install for all that have no folder of their own (`_default`); look at, or take out,
    /// all that Shoal wrote
    #[arg(long, conflicts_with = "registries")]
    pub all: bool,

    /// containerd's own configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    pub containerd_config: PathBuf,

    /// Which containerd it is, as in 1.7; asked of the program `containerd` unless said
    #[arg(long, value_name = "VERSION")]
    pub containerd_version: Option<Version>,

    /// Where Shoal listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5050")]
    pub mirror: Mirror,

    /// Show what would change, as a diff, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What can be done with CRI-O, podman, skopeo and buildah.
#[derive(Debug, Subcommand)]
pub enum CrioCommand {
    /// Write a drop-in for registries.conf that puts Shoal first; it keeps what other files say of the same registries
    Install {
        /// Which files, and of which registries.
        #[command(flatten)]
        args: CrioArgs,

        /// The registries, as images name them, with commas between; with a URL where that is not https://NAME and no
        /// file says where it is
        #[arg(long, value_name = "NAME[=URL]", value_delimiter = ',', required = true)]
        registries: Vec<Registry>,
    },
    /// Say whether Shoal would be asked first, and which lines to change if not; ends with 1 then
    Status {
        /// Which files.
        #[command(flatten)]
        args: CrioArgs,

        /// The registries; those that Shoal wrote something for unless said
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        registries: Vec<Registry>,
    },
    /// Take out exactly what Shoal wrote
    Uninstall {
        /// Which files.
        #[command(flatten)]
        args: CrioArgs,

        /// The registries; all that Shoal wrote something for unless said
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        registries: Vec<Registry>,
    },
}

/// Where the files of containers/image are.
#[derive(Args, Clone, Debug)]
pub struct CrioArgs {
    /// The folder of drop-ins
    #[arg(long, value_name = "DIR", default_value = "/etc/containers/registries.conf.d")]
    pub config_path: PathBuf,

    /// The file that the drop-ins are read after
    #[arg(
        long,
        env = "CONTAINERS_REGISTRIES_CONF",
        value_name = "FILE",
        default_value = "/etc/containers/registries.conf"
    )]
    pub registries_conf: PathBuf,

    /// Where Shoal listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5050")]
    pub mirror: Mirror,

    /// Show what would change, as a diff, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What came of a command.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For standard output.
    pub said: String,
    /// For standard error.
    pub warned: String,
    /// Whether that is what was wanted.
    pub well: bool,
}

/// Does what was asked for with containerd.
///
/// # Errors
/// When a file cannot be read or written, or cannot be edited without harm.
pub fn containerd(command: &ContainerdCommand) -> anyhow::Result<Outcome> {
    let (ContainerdCommand::Install { args, .. }
    | ContainerdCommand::Status(args)
    | ContainerdCommand::Uninstall(args)) = command;
    let containerd = Containerd {
        config_path: absolute(&args.config_path)?,
        config: absolute(&args.containerd_config)?,
        version: args.containerd_version.or_else(installed_version),
    };
    let report = || containerd.status(&args.registries, &args.mirror);
    match command {
        ContainerdCommand::Install { set_config_path, .. } => {
            let plan = containerd.install(&args.registries, &args.mirror, *set_config_path)?;
            let mut outcome = carry_out(&plan, args.dry_run)?;
            if args.dry_run {
                plan.notes().iter().for_each(|finding| outcome.warn(finding));
            } else {
                outcome.warn_of(&report()?, "containerd");
            }
            if plan.files().any(|file| file == containerd.config) {
                outcome.warned += "containerd reads its configuration when it starts: systemctl restart containerd\n";
            }
            Ok(outcome)
        }
        ContainerdCommand::Status(_) => {
            let whose = match containerd.version {
                Some(version) => format!("containerd {version}"),
                None => "containerd, whichever it is".to_owned(),
            };
            Ok(Outcome::of(&report()?, &whose))
        }
        ContainerdCommand::Uninstall(_) => Ok(carry_out(&containerd.uninstall(&args.registries)?, args.dry_run)?),
    }
}

/// Does what was asked for with CRI-O and its relatives.
///
/// # Errors
/// When a file cannot be read or written, or cannot be edited without harm.
pub fn crio(command: &CrioCommand) -> anyhow::Result<Outcome> {
    let (CrioCommand::Install { args, registries }
    | CrioCommand::Status { args, registries }
    | CrioCommand::Uninstall { args, registries }) = command;
    let crio = Crio { registries_conf: absolute(&args.registries_conf)?, drop_ins: absolute(&args.config_path)? };
    match command {
        CrioCommand::Install { .. } => {
            let mut outcome = carry_out(&crio.install(registries, &args.mirror)?, args.dry_run)?;
            if !args.dry_run {
                outcome.warn_of(&crio.status(registries, &args.mirror)?, "CRI-O and podman");
            }
            Ok(outcome)
        }
        CrioCommand::Status { .. } => Ok(Outcome::of(&crio.status(registries, &args.mirror)?, "CRI-O and podman")),
        CrioCommand::Uninstall { .. } => Ok(carry_out(&crio.uninstall(registries)?, args.dry_run)?),
    }
}

fn carry_out(plan: &Plan, dry_run: bool) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { well: true, ..Outcome::default() };
    if plan.is_empty() {
        outcome.said += "nothing to change\n";
    } else if dry_run {
        outcome.said += &plan.to_string();
    } else {
        plan.apply()?;
        for file in plan.files() {
            writeln!(outcome.said, "changed {}", file.display())?;
        }
    }
    Ok(outcome)
}

impl Outcome {
    fn of(report: &Report, whose: &str) -> Self {
        let asks = if report.in_use() { "would ask Shoal first" } else { "would go past Shoal" };
        Self { said: format!("{report}{whose} {asks}\n"), warned: String::new(), well: report.in_use() }
    }

    fn warn(&mut self, finding: &Finding) {
        self.warned += &format!("{finding}\n");
    }

    fn warn_of(&mut self, report: &Report, whose: &str) {
        report.findings.iter().for_each(|finding| self.warn(finding));
        if report.findings.iter().any(|finding| finding.weight == Weight::Problem) {
            self.warned += &format!("until that is mended, {whose} would go past Shoal\n");
        }
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}

/// The version of the containerd in the search path.
fn installed_version() -> Option<Version> {
    let output = Command::new("containerd").arg("--version").output().ok()?;
    Version::in_output(&String::from_utf8_lossy(&output.stdout))
}
