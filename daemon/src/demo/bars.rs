//! What is shown while it runs, on standard error.

use std::{
    borrow::Cow,
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bars: live on a terminal, plain lines elsewhere, and only warnings with `--json`.
pub(super) struct Bars {
    all: MultiProgress,
    quiet: bool,
}

impl Bars {
    pub(super) fn new(quiet: bool) -> Self {
        let hidden = quiet || !stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        Self { all: MultiProgress::with_draw_target(target), quiet }
    }

    /// Says what happens.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Says what went wrong.
    pub(super) fn warn(&self, text: &str) {
        self.all.suspend(|| eprintln!("{text}"));
    }

    /// A bar for a node's weight layer.
    pub(super) fn node(&self, node: usize, bytes: u64) -> ProgressBar {
        let style = "{prefix:>8} {bar:40.cyan/blue} {bytes:>10} of {total_bytes}  {bytes_per_sec:>12}  {elapsed}";
        self.bar(format!("node-{node}"), bytes, style)
    }

    /// A bar for something that is prepared.
    pub(super) fn work(&self, what: &'static str, bytes: u64) -> ProgressBar {
        self.bar(what, bytes, "{prefix} {bar:40.cyan/blue} {bytes:>10} of {total_bytes}")
    }

    /// A sign of life without an end in sight.
    pub(super) fn spinner(&self, what: &'static str) -> ProgressBar {
        let spinner = self.all.add(ProgressBar::new_spinner().with_message(what));
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }

    fn bar(&self, prefix: impl Into<Cow<'static, str>>, bytes: u64, style: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(style).expect("the template is a constant that parses");
        let style = style.progress_chars("━╸─");
        self.all.add(ProgressBar::new(bytes).with_style(style).with_prefix(prefix))
    }
}
