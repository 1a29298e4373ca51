//! What the world outside wants of a running daemon.

use std::io::Read;

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// A wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the settings again: SIGHUP.
    Reload,
    /// End: SIGTERM, SIGINT, or the end of standard input where that was asked for.
    End,
}

/// The signals of this process, from now on.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<mpsc::Receiver<()>>,
}

impl Signals {
    /// Takes the signals over; `until_stdin_closes` also watches standard input.
    ///
    /// # Errors
    /// When the system does not let a signal be handled.
    pub fn listen(until_stdin_closes: bool) -> anyhow::Result<Self> {
        let take = |kind, name| signal(kind).with_context(|| format!("handle {name}"));
        Ok(Self {
            hangup: take(SignalKind::hangup(), "SIGHUP")?,
            terminate: take(SignalKind::terminate(), "SIGTERM")?,
            interrupt: take(SignalKind::interrupt(), "SIGINT")?,
            stdin: until_stdin_closes.then(watch_stdin).transpose()?,
        })
    }

    /// The next wish. Cancelling the wait loses none.
    pub async fn next(&mut self) -> Wish {
        let closed = async {
            match &mut self.stdin {
                Some(stdin) => stdin.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => return Wish::End,
            _ = self.interrupt.recv() => return Wish::End,
            _ = closed => {}
            _ = self.hangup.recv() => return Wish::Reload,
        }
        // It stays closed, and wishes for one end only.
        self.stdin = None;
        Wish::End
    }
}

/// Reads standard input to its end, on a thread that the process does not wait for.
fn watch_stdin() -> anyhow::Result<mpsc::Receiver<()>> {
    let (end, ended) = mpsc::channel(1);
    let read = move || {
        let mut buffer = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|length| length > 0) {}
        drop(end);
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .context("start the thread that reads standard input")?;
    Ok(ended)
}
