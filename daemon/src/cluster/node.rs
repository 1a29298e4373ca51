//! One daemon: its ports, its folder, its log, and the process while it runs.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, Command};

use super::{flags::Flags, host::Place, ports::Ports};

/// How much of a log is shown where something went wrong.
const TAIL_BYTES: u64 = 6 << 10;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) flags: Flags,
    pub(super) env: Vec<(String, String)>,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A daemon that does not run yet.
    pub(super) fn new(dir: &Path, number: usize, place: Place, mut flags: Flags) -> Self {
        let (Ports { mirror, peer, admin }, address) = (place.ports, place.host.address);
        let data_dir = dir.join(format!("node-{number}"));
        flags.set("data-dir", &data_dir.to_string_lossy());
        flags.set("mirror-listen", &format!("127.0.0.1:{mirror}"));
        flags.set("peer-listen", &SocketAddr::new(address, peer).to_string());
        flags.set("admin-listen", &SocketAddr::new(address, admin).to_string());
        let log = dir.join(format!("node-{number}.log"));
        Self { place, flags, env: Vec::new(), data_dir, log, child: None }
    }

    pub(super) fn start(&mut self, binary: &Path, peers: &str) -> anyhow::Result<()> {
        if self.pid().is_some() {
            bail!("it runs already");
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("open its log")?;
        let mut words = self.place.host.enter.iter().map(OsStr::new).chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(binary.as_os_str()));
        command.args(words);
        // What is set for this process is not meant for these daemons.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHOAL_") && name != "SHOAL_LOG" {
                command.env_remove(name);
            }
        }
        command.args(["daemon", "--until-stdin-closes"]).args(self.flags.args());
        if self.flags.args().any(|arg| arg.starts_with("--cluster-key-file=")) && !peers.is_empty() {
            command.arg(format!("--bootstrap={peers}"));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        drop(self.place.held.take());
        self.child = Some(command.spawn().with_context(|| format!("run {}", binary.display()))?);
        Ok(())
    }

    /// Whether it was started and nobody has waited for its end.
    pub(super) const fn is_started(&self) -> bool {
        self.child.is_some()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How the process ended, where it has; it can still be waited for.
    pub(super) fn ended(&self) -> Option<String> {
        let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())) else {
            return Some("it was not started".to_owned());
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid), look).ok()??;
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "in an unknown way".to_owned(),
        })
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("it does not run")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.wait().await?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            bail!("it had ended before: {status}");
        }
        Ok(())
    }

    /// Waits for its end. Afterwards it can be started again; a wait that was cancelled can be repeated.
    pub(super) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().context("it was not started")?;
        // Waiting would close standard input, on which it would end; it is to end by itself.
        let stdin = child.stdin.take();
        let status = child.wait().await;
        drop(stdin);
        self.child = None;
        Ok(status?)
    }

    pub(super) fn log_tail(&self) -> String {
        let read = || {
            let mut file = File::open(&self.log)?;
            let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log.display()))
    }
}
