//! The data plane's one door, in both directions.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::RwLock;
use quinn::{Incoming, VarInt};
use shoal_proto::{ClusterKeys, NodeId, NodeKey};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    AdmissionError, Counts, DialError, Event, Peer, Rates, TransferConfig,
    admission::Prover,
    bare, certificate, close,
    connection::{Newcomer, settle_dialled},
    context::Context,
    dial,
    limited::LimitedSocket,
    links::Links,
    table::{Begin, Dial, Table, Verdict},
};

/// How long the last packets may take when the endpoint closes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One UDP socket, both roles, all peers. Cheap to clone.
///
/// Its owner reads the [`Event`]s that [`Endpoint::bind`] gives it, and acts through the [`Peer`] that came with
/// [`Event::Connected`]: [`Peer::send`] never waits, [`Peer::upload`] is awaited in a task of its own. It runs until [`Endpoint::close`].
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: NodeId,
    life: u64,
    quinn: quinn::Endpoint,
    keys: RwLock<Arc<ClusterKeys>>,
    context: Arc<Context>,
    table: Arc<Table>,
    events: mpsc::Sender<Event>,
    half_admitted: Arc<Semaphore>,
}

/// Why the endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The UDP socket.
    #[error("UDP {addr} cannot be bound: {source}")]
    Socket {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A limit that is out of its bounds.
    #[error("the transfer setting {setting} is {value}; accepted is {accepted}")]
    Config {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// The certificate.
    #[error("no certificate can be made of the node's key: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration.
    #[error("TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
}

impl Endpoint {
    /// Binds a UDP socket and begins to listen: members that knock are connected from now on. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        addr: SocketAddr,
        key: &NodeKey,
        keys: ClusterKeys,
        config: TransferConfig,
    ) -> Result<(Self, mpsc::Receiver<Event>), BindError> {
        let links = Arc::new(Links::new(config.rates, config.max_udp_payload));
        let quinn = bare::open(addr, key, &config, |socket| Arc::new(LimitedSocket::new(socket, Arc::clone(&links))))?;
        let (events, receiver) = mpsc::channel(config.events.max(2));
        let inner = Arc::new(Inner {
            me: key.id(),
            life: rand::random(),
            quinn,
            keys: RwLock::new(Arc::new(keys)),
            table: Table::new(key.id(), config.max_connections),
            half_admitted: Arc::new(Semaphore::new(config.max_half_admitted)),
            context: Arc::new(Context::new(config, links)),
            events,
        });
        inner.context.tasks.spawn(listen(Arc::clone(&inner)));
        Ok((Self(inner), receiver))
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.me
    }

    /// Where it listens: the port, when 0 was asked for.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.quinn.local_addr()
    }

    /// Replaces the cluster keys. Connections that stand are kept; every later one is held to the new keys.
    pub fn set_keys(&self, keys: ClusterKeys) {
        *self.0.keys.write() = Arc::new(keys);
    }

    /// What may go out and come in a second.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.0.context.links.rates()
    }

    /// Changes that, for connections that stand as well.
    pub fn set_rates(&self, rates: Rates) {
        let context = &self.0.context;
        context.links.set(rates);
        for peer in self.peers() {
            let window = context.links.window(context.config.connection_window, peer.rtt());
            peer.0.connection.set_receive_window(window);
        }
    }

    /// Says whether much comes over this node's link beside what peers send, such as what it reads of an origin: what waits before
    /// the link then makes round trips long, which says nothing of what this node sends, and four times as much of that may be on
    /// its way.
    pub fn set_besieged(&self, besieged: bool) {
        self.0.context.besieged.store(besieged, Relaxed);
    }

    /// The connection to a node: the one there is, or a new one by the first of its addresses that answers (at most eight are
    /// tried). Bounded in time by the dial and admission timeouts, and safe to drop. Never waits for events to be read.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(&self, node: NodeId, addrs: &[SocketAddr]) -> Result<Peer, DialError> {
        loop {
            if self.0.context.closing.is_cancelled() {
                return Err(DialError::Closing { node });
            }
            if node == self.0.me {
                let addr = addrs.first().copied().ok_or(DialError::NoAddress { node })?;
                return Err(DialError::Refused { node, addr, why: AdmissionError::Myself });
            }
            match self.0.table.begin(node) {
                Begin::Live(peer) => return Ok(peer),
                Begin::Wait(over) => over.cancelled().await,
                Begin::Full => return Err(DialError::Full { node }),
                Begin::Dial(dial) => return self.0.dial(dial, node, addrs).await,
            }
        }
    }

    /// The peer of that name, while connected.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<Peer> {
        self.0.table.get(node)
    }

    /// All connected peers, in no order.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.0.table.all()
    }

    /// The smoothed round-trip time to a node, while connected.
    #[must_use]
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        self.peer(node).map(|peer| peer.rtt())
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.context.counters.read(&self.0.context.links)
    }

    /// Stops: nothing new is begun; uploads under way and queued messages have `grace` to arrive; then all connections are
    /// closed, and each gives its `Disconnected`. Read the events meanwhile, or drop their receiver before.
    pub async fn close(&self, grace: Duration) {
        let (context, deadline) = (&self.0.context, Instant::now() + grace);
        context.closing.cancel();
        context.uploads.close();
        let _ = timeout_at(deadline, context.uploads.wait()).await;
        let peers = self.peers();
        peers.iter().for_each(|peer| peer.0.drain.cancel());
        context.writers.close();
        let _ = timeout_at(deadline, context.writers.wait()).await;
        for peer in self.peers() {
            peer.close();
        }
        self.0.quinn.close(VarInt::from_u32(0), b"this node stops");
        context.tasks.close();
        let _ = timeout(LAST_WORDS, async {
            context.tasks.wait().await;
            self.0.quinn.wait_idle().await;
        })
        .await;
    }
}

impl Inner {
    fn keys(&self) -> Arc<ClusterKeys> {
        Arc::clone(&self.keys.read())
    }

    async fn dial(&self, dial: Dial, node: NodeId, addrs: &[SocketAddr]) -> Result<Peer, DialError> {
        let config = &self.context.config;
        let knock = async {
            let (connection, addr) = dial::reach(&self.quinn, node, addrs, config.dial_timeout).await?;
            let keys = self.keys();
            let prover = Prover { me: self.me, life: self.life, keys: &keys };
            let mut abandon = Abandon(Some(&connection));
            let admitted = prover.knock(&connection, node, Instant::now() + config.admission_timeout).await;
            let settled = admitted.map(|admitted| {
                abandon.0 = None;
                settle_dialled(Newcomer::new(admitted, Arc::clone(&self.context)), &self.table, &self.events)
            });
            settled.map_err(|why| DialError::Refused { node, addr, why })
        };
        let outcome = tokio::select! {
            biased;
            () = dial.overtaken() => None,
            () = self.context.closing.cancelled() => return Err(DialError::Closing { node }),
            outcome = knock => Some(outcome),
        };
        match (outcome, self.table.get(node)) {
            (Some(Ok(peer)), _) | (_, Some(peer)) => Ok(peer),
            (Some(Err(error)), None) => Err(error),
            (None, None) => {
                let why = AdmissionError::Lost("the peer's own connection ended at once".to_owned());
                let addr = addrs.first().copied().ok_or(DialError::NoAddress { node })?;
                Err(DialError::Refused { node, addr, why })
            }
        }
    }

    /// Hears one that knocks, and lets it in or not.
    async fn admit(&self, incoming: Incoming, _half_admitted: OwnedSemaphorePermit) {
        let addr = incoming.remote_address();
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let mut node = None;
        if let Err(why) = self.hear(incoming, &mut node).await {
            self.context.counters.refused(&why);
            tracing::debug!(%addr, ?node, %why, "not admitted");
            // A dialer that had no more need of it is no news; and strangers leave at least half of the room to members.
            let news = !matches!(why, AdmissionError::Duplicate | AdmissionError::Lost(_));
            if news && self.events.capacity() > self.events.max_capacity() / 2 {
                let _ = self.events.try_send(Event::Refused { addr, node, why });
            }
        }
    }

    async fn hear(&self, incoming: Incoming, known: &mut Option<NodeId>) -> Result<(), AdmissionError> {
        let deadline = Instant::now() + self.context.config.admission_timeout;
        let handshake = async { incoming.accept()?.await };
        let connection = match timeout_at(deadline, handshake).await {
            Ok(connection) => connection.map_err(|error| close::refusal(&error))?,
            Err(_) => return Err(AdmissionError::TooLate),
        };
        let refuse = |why| {
            close::refuse(&connection, &why);
            Err(why)
        };
        let Some(node) = certificate::peer_node(&connection) else { return refuse(AdmissionError::OtherProtocol) };
        *known = Some(node);
        if node == self.me {
            return refuse(AdmissionError::Myself);
        }
        let keys = self.keys();
        let prover = Prover { me: self.me, life: self.life, keys: &keys };
        let newcomer = Newcomer::new(prover.answer(&connection, node, deadline).await?, Arc::clone(&self.context));
        let mut patient = true;
        loop {
            if self.context.closing.is_cancelled() {
                return refuse(AdmissionError::Lost("this node stops".to_owned()));
            }
            match self.table.accepted(newcomer.peer.clone(), patient) {
                Verdict::Keep(predecessor) => {
                    newcomer.live(predecessor, Arc::clone(&self.table), self.events.clone());
                    return Ok(());
                }
                Verdict::Refuse(why) => return refuse(why),
                Verdict::Wait(over) => {
                    // Where our own dial leads nowhere, the peer's must not fail with it.
                    let _ = timeout(self.context.config.dial_timeout / 2, over.cancelled()).await;
                    patient = false;
                }
            }
        }
    }
}

/// Closes a connection whose admission was given up, with a word that tells the listener not to mind.
struct Abandon<'a>(Option<&'a quinn::Connection>);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            close::refuse(connection, &AdmissionError::Duplicate);
        }
    }
}

/// Takes what knocks, as much of it as may be half admitted at once.
async fn listen(inner: Arc<Inner>) {
    loop {
        let incoming = tokio::select! {
            incoming = inner.quinn.accept() => incoming,
            () = inner.context.closing.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        let half = inner.context.config.max_half_admitted / 2;
        if inner.half_admitted.available_permits() < half
            && incoming.may_retry()
            && !incoming.remote_address_validated()
        {
            // Under a flood, only those who really are where they say may take one of the remaining places.
            let _ = incoming.retry();
            continue;
        }
        match Arc::clone(&inner.half_admitted).try_acquire_owned() {
            Ok(permit) => {
                let door = Arc::clone(&inner);
                inner.context.tasks.spawn(async move { door.admit(incoming, permit).await });
            }
            Err(_) => {
                inner.context.counters.refused(&AdmissionError::Full);
                incoming.refuse();
            }
        }
    }
}
