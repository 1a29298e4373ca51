//! The server: how it is set up, listens, and stops.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use shoal_blob::Digest;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Artifact, CatalogError, Counts, Faults, access::Access, catalog::Catalog, faults::Mischief, ledger::Ledger,
    service::Service, token::Tokens, wire::Wire,
};

/// The most connections at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 8192;
/// What the HTTP server buffers of a body before it stops asking for more.
const BUFFER_BYTES: usize = 128 * 1024;
/// How long a connection may wait between requests, and how long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A registry to be started: what it holds, who may pull, how it misbehaves.
#[derive(Debug, Default)]
#[must_use = "a registry serves only after `listen`"]
pub struct RegistryBuilder {
    artifacts: Vec<Artifact>,
    access: Access,
    faults: Faults,
    send_buffer: Option<u32>,
}

/// A registry that serves until it is dropped or stopped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    service: Arc<Service>,
    serving: JoinHandle<()>,
    stop: DropGuard,
}

/// Why a registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot listen there.
    #[error("the registry cannot listen on {address}; a free address of this machine is needed")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The name has no address.
    #[error("the address for the registry to listen on was not found")]
    Address(#[source] io::Error),
    /// An artifact has a name that cannot be served.
    #[error(transparent)]
    Artifact(#[from] CatalogError),
}

impl RegistryBuilder {
    /// Adds an artifact. The same blob may be part of several, in several repositories.
    pub fn artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }

    /// Demands Basic credentials, and adds a user. May be called for several users.
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        self.access.basic(user, password);
        self
    }

    /// Demands Bearer tokens, which the registry's own `/token` hands out to users with Basic credentials, and adds a
    /// user. May be called for several users; the last `lifetime` holds for all.
    pub fn token_auth(mut self, user: &str, password: &str, lifetime: Duration) -> Self {
        self.access.bearer(user, password, lifetime);
        self
    }

    /// Lets anybody pull from a repository although others demand credentials; with tokens, `/token` gives one for it to
    /// callers without credentials.
    pub fn public(mut self, repository: &str) -> Self {
        self.access.public(repository);
        self
    }

    /// Misbehaves from the start.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Limits what the kernel buffers for each connection, so that bytes counted as sent are nearer to what the client
    /// has read. Slows long ways down.
    pub const fn send_buffer(mut self, bytes: u32) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Starts to serve, on a task of the current tokio runtime. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`] when an artifact's names do not fit the grammar or the address cannot be listened on.
    pub async fn listen(self, address: impl ToSocketAddrs) -> Result<Registry, ListenError> {
        let mut catalog = Catalog::default();
        for artifact in &self.artifacts {
            catalog.put(artifact)?;
        }
        let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let address = lookup_host(address).await.and_then(|mut all| all.next().ok_or_else(none));
        let address = address.map_err(ListenError::Address)?;
        let listener = bind(address, self.send_buffer).map_err(|source| ListenError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| ListenError::Listen { address, source })?;
        let service = Arc::new(Service::new(address, catalog, self.access, self.faults));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::clone(&service), stop.clone()));
        Ok(Registry { address, service, serving, stop: stop.drop_guard() })
    }
}

impl Registry {
    /// A registry that is empty, open to all and without fault, to be set up further.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, such as `http://127.0.0.1:40001`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked and sent so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.service.ledger.snapshot()
    }

    /// Returns once the figures meet a condition, and the figures then. It has no time limit of its own.
    pub async fn until(&self, met: impl FnMut(&Counts) -> bool) -> Counts {
        self.service.ledger.until(met).await
    }

    /// Puts in another artifact; tags that were there move to it.
    ///
    /// # Errors
    /// [`CatalogError`] when its names do not fit the grammar.
    pub fn put(&self, artifact: &Artifact) -> Result<(), CatalogError> {
        self.service.catalog.write().unwrap_or_else(PoisonError::into_inner).put(artifact)
    }

    /// Misbehaves differently from now on; requests left hanging lose their connection.
    pub fn set_faults(&self, faults: Faults) {
        self.service.mischief.send_replace(Arc::new(Mischief::new(faults)));
    }

    /// Holds a blob's bodies back once `bytes` of it have been sent, by all its bodies together and since the registry
    /// started: exactly that many, unless more were sent already. Replaces an earlier limit.
    pub fn hold_at(&self, digest: &Digest, bytes: u64) {
        self.service.ledger.account(digest).set_gate(bytes);
    }

    /// Lets a blob's bodies go on.
    pub fn release(&self, digest: &Digest) {
        self.hold_at(digest, u64::MAX);
    }

    /// The tokens that it has handed out and that have not ended: what must be in nobody's log.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.service.access.tokens().map(Tokens::all).unwrap_or_default()
    }

    /// Ends all tokens that were handed out; their bearers get 401 from the next request on.
    pub fn revoke_tokens(&self) {
        if let Some(tokens) = self.service.access.tokens() {
            tokens.revoke_all();
        }
    }

    /// Closes every connection and returns when all is closed. Dropping the registry does the same without waiting.
    pub async fn stop(self) {
        drop(self.stop);
        // The task does not panic by itself; if the runtime ended it, all is closed as well.
        self.serving.await.ok();
    }
}

fn bind(address: SocketAddr, send_buffer: Option<u32>) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

async fn serve(listener: TcpListener, service: Arc<Service>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let accepting = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let service = Arc::clone(&service);
                    connections.spawn(async move {
                        connection(stream, service).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Mostly a lack of file descriptors, which passes as connections end.
                    tracing::warn!(%error, "the registry did not get a connection and tries again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection keeps Nagle's delay");
    }
    let visit = Visit::new(Arc::clone(&service.ledger));
    let (wire, ending) = Wire::new(stream);
    let answering = service_fn(|request| {
        let (service, ending) = (Arc::clone(&service), Arc::clone(&ending));
        async move { service.answer(request, ending).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(wire), answering)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the registry ended early");
    }
    drop(visit);
}

/// A connection in the books for as long as it lives.
struct Visit(Arc<Ledger>);

impl Visit {
    fn new(ledger: Arc<Ledger>) -> Self {
        ledger.accepted.add();
        ledger.connections.up();
        ledger.tell();
        Self(ledger)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.connections.down();
        self.0.tell();
    }
}
