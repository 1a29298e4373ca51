//! Where log lines go and how they look.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::LogFormat;

/// The logs of this process, whose filter can be changed.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Writes events that pass `filter` to standard error from now on.
    ///
    /// # Errors
    /// When the filter does not parse or logs were started before in this process.
    pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
        let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
        let lines = match format {
            LogFormat::Human => lines.with_ansi(stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).try_init()?;
        Ok(Self { filter: handle })
    }

    /// Lets other events pass from now on.
    ///
    /// # Errors
    /// When the filter does not parse; the old one stays.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(EnvFilter::try_new(filter)?)?)
    }
}
