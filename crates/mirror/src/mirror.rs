//! The server: a listener, and the connections it accepted.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use shoal_blob::{NameError, Repository};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Audit, Library, MirrorConfig, MirrorCounts,
    connection::{self, Endings},
    counts::Held,
    service::Shared,
};

/// How many connections beyond the limit are listened to at once before they are told so; those beyond these are told so at
/// once and closed.
const MOST_REFUSALS: usize = 64;
/// How long bodies that are ended short may take to flush what they had given.
const CUT_GRACE: Duration = Duration::from_secs(5);
/// How long to wait before accepting again when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The registry that a node's clients see.
///
/// Make one, then call [`Mirror::serve`] with each listener. The limits count over all listeners together.
pub struct Mirror {
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Mirror {
    /// A mirror of what `library` has. Nothing is opened yet.
    ///
    /// # Errors
    /// [`NameError::Registry`] when the default registry is not a registry's name.
    pub fn new(library: Arc<dyn Library>, config: MirrorConfig) -> Result<Self, NameError> {
        if let Some(registry) = &config.default_registry {
            Repository::new(registry, "any")?;
        }
        let room = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Ok(Self {
            connections: room(config.max_connections),
            refusals: room(MOST_REFUSALS),
            shared: Arc::new(Shared {
                library,
                readers: room(config.max_readers),
                counts: Arc::new(MirrorCounts::new()),
                config,
                audit: None,
            }),
        })
    }

    /// The same, telling `audit` what became of each request for a manifest or a blob.
    ///
    /// # Panics
    /// When it serves already.
    #[must_use]
    pub fn told_to(mut self, audit: Arc<dyn Audit>) -> Self {
        Arc::get_mut(&mut self.shared).expect("no connection has it yet").audit = Some(audit);
        self
    }

    /// What has been counted so far; it goes on counting.
    #[must_use]
    pub fn counts(&self) -> Arc<MirrorCounts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves connections until `shutdown` is cancelled, then drains and returns.
    ///
    /// Draining: the listener is closed and idle connections end at once; bodies may go on for
    /// [`MirrorConfig::drain`], then they end short, and requests without an answer yet get `503`. What has not ended
    /// five seconds after that is dropped. When the returned future is dropped all connections end at once.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let endings = Endings { drain: shutdown.clone(), cut: CancellationToken::new() };
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = open.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((socket, address)) => self.admit(&mut open, socket, address, &endings),
                    Err(error) => {
                        tracing::warn!(%error, "no connection could be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        if !open.is_empty() {
            tracing::info!(connections = open.len(), "the mirror is draining");
        }
        if !all_ended(&mut open, self.shared.config.drain).await {
            endings.cut.cancel();
            all_ended(&mut open, CUT_GRACE).await;
        }
        open.shutdown().await;
    }

    fn admit(&self, open: &mut JoinSet<()>, socket: TcpStream, address: SocketAddr, endings: &Endings) {
        let (shared, endings) = (Arc::clone(&self.shared), endings.clone());
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            let held: (OwnedSemaphorePermit, Held) =
                (permit, Held::new(&shared.counts, |counts| &counts.open_connections));
            open.spawn(async move {
                connection::serve(shared, socket, address, true, endings).await;
                drop(held);
            });
            return;
        }
        shared.counts.refused_connections.fetch_add(1, Relaxed);
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            open.spawn(async move {
                connection::serve(shared, socket, address, false, endings).await;
                drop(permit);
            });
        } else {
            connection::turn_away(&socket, &shared.config);
        }
    }
}

/// Waits until all connections have ended; `false` when time ran out first.
async fn all_ended(open: &mut JoinSet<()>, within: Duration) -> bool {
    let ended = async {
        while let Some(ended) = open.join_next().await {
            report(ended);
        }
    };
    timeout(within, ended).await.is_ok()
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
