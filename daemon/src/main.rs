//! The program `shoal`.

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use shoal::{
    cli::{self, Command, DaemonArgs, DemoArgs, KeyCommand},
    config::Settings,
    demo, descriptors, key,
    logs::Logs,
    metrics::Metrics,
    node::Node,
    privacy::close_memory,
    runtimes::{self, Outcome},
    signals::{Signals, Wish},
};
use tokio::{runtime::Runtime, time::timeout};

/// Files and sockets that are open for other ends than clients: the store, the index, peers, origins.
const OTHER_FILES: u64 = 512;
/// What a drain may take beyond its own limit: to close connections and to flush the index.
const CLOSING: Duration = Duration::from_secs(10);
/// How long tasks that are still busy may take once everything has ended.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Something went wrong while it ran.
const FAILED: u8 = 1;
/// What was asked for, or the settings, cannot be used.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    // Libraries that choose their TLS by themselves find this provider, the only one that is built in.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed before ring");
        return FAILED.into();
    }
    match cli::parse(std::env::args_os()).map(|cli| cli.command) {
        Ok(Command::Daemon(args)) => daemon(&args),
        Ok(Command::Key(KeyCommand::New)) => told(new_key()),
        Ok(Command::Containerd(command)) => told_of(runtimes::containerd(&command)),
        Ok(Command::Crio(command)) => told_of(runtimes::crio(&command)),
        Ok(Command::Demo(args)) => told(show(&args)),
        Err(answer) => {
            // Where nobody reads it there is nothing left to say.
            answer.print().ok();
            u8::try_from(answer.exit_code()).unwrap_or(MISUSED).into()
        }
    }
}

fn told(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            FAILED.into()
        }
    }
}

/// What came of a command that can end without an error and all the same not be what was wanted.
fn told_of(outcome: anyhow::Result<Outcome>) -> ExitCode {
    let said = outcome.and_then(|outcome| {
        say(&outcome.said)?;
        eprint!("{}", outcome.warned);
        Ok(outcome.well)
    });
    match said {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err(error) => told(Err(error)),
    }
}

/// The daemon's day: settings, logs, work until a signal, drain.
fn daemon(args: &DaemonArgs) -> ExitCode {
    // Before the first secret is read.
    if let Err(error) = close_memory() {
        return told(Err(error));
    }
    let settings = match args.source().read() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return MISUSED.into();
        }
    };
    if args.check {
        return told(print_settings(&settings));
    }
    let logs = match Logs::start(settings.log_format, &settings.log) {
        Ok(logs) => logs,
        Err(error) => return told(Err(error.context("start the logs"))),
    };
    let runtime = match Runtime::new().context("start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return told(Err(error)),
    };
    let outcome = runtime.block_on(Box::pin(work(args, settings, &logs)));
    runtime.shutdown_timeout(LAST_BREATH);
    match outcome {
        Ok(()) => {
            tracing::info!("ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            FAILED.into()
        }
    }
}

async fn work(args: &DaemonArgs, settings: Settings, logs: &Logs) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start is not lost and does not kill.
    let mut signals = Signals::listen(args.until_stdin_closes)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %settings.data_dir.display(), "shoal starts");
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }

    let files = descriptors::lift();
    let needed = (settings.mirror_connections + settings.mirror_readers) as u64 + OTHER_FILES;
    if files < needed {
        tracing::warn!(
            files,
            needed,
            "fewer files may be open than `mirror_connections` and `mirror_readers` can need; raise the limit"
        );
    }
    let metrics = Arc::new(Metrics::new());
    let node = Node::start(settings.clone(), Arc::clone(&metrics)).await?;
    tracing::info!(
        mirror = %node.mirror_addr(), peers = %node.peer_addr(), admin = %node.admin_addr(),
        "listening"
    );

    while signals.next().await == Wish::Reload {
        reload(args, &settings, &node, &metrics, logs);
    }

    tracing::info!(within = ?settings.drain, "draining: open downloads may finish; a second signal ends at once");
    let ending = async { while signals.next().await != Wish::End {} };
    tokio::select! {
        drained = timeout(settings.drain + CLOSING, node.drain(settings.drain)) => {
            drained.context("the drain did not end in its time")
        }
        () = ending => anyhow::bail!("a second signal ended the drain"),
    }
}

/// Reads the settings again; when anything is wrong, what was in force stays.
fn reload(args: &DaemonArgs, started_with: &Settings, node: &Node, metrics: &Metrics, logs: &Logs) {
    let outcome = args.source().read().map_err(anyhow::Error::from).and_then(|settings| {
        let (waiting, warnings) = (started_with.waiting_for_restart(&settings), settings.warnings());
        let filter = settings.log.clone();
        node.reload(settings)?;
        logs.set_filter(&filter)?;
        Ok((waiting, warnings))
    });
    let label = match outcome {
        Ok((waiting, warnings)) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            if !waiting.is_empty() {
                tracing::warn!(settings = waiting.join(", "), "these settings have changed and wait for a restart");
            }
            tracing::info!("the settings were read again");
            "applied"
        }
        Err(error) => {
            tracing::error!("the settings were read again and not applied: {error:#}");
            "refused"
        }
    };
    metrics.reloads.with_label_values(&[label]).inc();
}

fn print_settings(settings: &Settings) -> anyhow::Result<()> {
    for warning in settings.warnings() {
        eprintln!("warning: {warning}");
    }
    say(&toml::to_string(settings.layer()).context("write the settings as TOML")?)
}

fn new_key() -> anyhow::Result<()> {
    say(&format!("{}\n", *key::new()?.to_line()))
}

fn show(args: &DemoArgs) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("start the runtime")?;
    let outcome = runtime.block_on(Box::pin(demo::run(args)));
    runtime.shutdown_timeout(LAST_BREATH);
    let report = outcome?;
    if args.json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        say(&report.to_string())?;
    }
    let faults = report.faults();
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// Writes to standard output. Unlike `println!`, does not panic when nobody reads.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}
