//! The gate keeper: noise and admission as one upgrade, and who stands inside by what proof.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};
use parking_lot::{Mutex, RwLock};
use shoal_proto::{ClusterKeys, NodeId, Role};

use crate::{
    admission::{AdmissionError, Door, Evidence},
    identity,
};

/// The keys of the cluster, which may be replaced, and what each connection was admitted for.
#[derive(Debug)]
pub(crate) struct Gate {
    me: NodeId,
    keys: RwLock<ClusterKeys>,
    replaced: AtomicU64,
    inside: Mutex<HashMap<u64, Evidence>>,
    next: AtomicU64,
}

impl Gate {
    pub(crate) fn new(me: NodeId, keys: ClusterKeys) -> Self {
        let keys = RwLock::new(keys);
        Self { me, keys, replaced: AtomicU64::new(0), inside: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Takes other keys, for every connection from now on.
    pub(crate) fn replace(&self, keys: ClusterKeys) {
        *self.keys.write() = keys;
        self.replaced.fetch_add(1, Ordering::Release);
    }

    /// How often the keys have been replaced.
    pub(crate) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    /// The peers that have a connection for whose proof they would not be admitted now.
    pub(crate) fn outdated(&self) -> Vec<NodeId> {
        let keys = self.keys.read().clone();
        let inside = self.inside.lock();
        let mut peers: Vec<_> = inside.values().filter(|e| !e.holds(&keys, self.me)).map(|e| e.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    fn seat(self: &Arc<Self>, evidence: Evidence) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.inside.lock().insert(number, evidence);
        Seat { gate: Arc::clone(self), number }
    }
}

/// A place inside; given back when the connection ends.
struct Seat {
    gate: Arc<Gate>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.inside.lock().remove(&self.number);
    }
}

/// Noise, then admission: what the transport calls authentication.
#[derive(Clone)]
pub(crate) struct Admission {
    noise: noise::Config,
    gate: Arc<Gate>,
    time_limit: Duration,
}

impl Admission {
    pub(crate) fn new(keypair: &Keypair, gate: Arc<Gate>, time_limit: Duration) -> Result<Self, noise::Error> {
        Ok(Self { noise: noise::Config::new(keypair)?, gate, time_limit })
    }

    async fn admit<S>(gate: Arc<Gate>, role: Role, peer: PeerId, mut stream: S) -> Result<Entry<S>, AdmissionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let node = identity::node_id(&peer).ok_or(AdmissionError::NotANode)?;
        let keys = gate.keys.read().clone();
        let door = Door { keys, me: gate.me, peer: node };
        let evidence = match role {
            Role::Dialer => door.dial(&mut stream).await?,
            Role::Listener => door.listen(&mut stream).await?,
        };
        Ok((peer, Admitted { stream, _seat: gate.seat(evidence) }))
    }
}

async fn in_time<T>(
    limit: Duration,
    admitted: impl Future<Output = Result<T, AdmissionError>>,
) -> Result<T, AdmissionError> {
    tokio::time::timeout(limit, admitted).await.unwrap_or(Err(AdmissionError::TooSlow))
}

type Entry<S> = (PeerId, Admitted<S>);

impl UpgradeInfo for Admission {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.noise.protocol_info()
    }
}

impl<T> InboundConnectionUpgrade<T> for Admission
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Entry<noise::Output<T>>;
    type Error = AdmissionError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: T, info: Self::Info) -> Self::Future {
        let admitted = async move {
            let (peer, stream) = self.noise.upgrade_inbound(socket, info).await?;
            Self::admit(self.gate, Role::Listener, peer, stream).await
        };
        in_time(self.time_limit, admitted).boxed()
    }
}

impl<T> OutboundConnectionUpgrade<T> for Admission
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Entry<noise::Output<T>>;
    type Error = AdmissionError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: T, info: Self::Info) -> Self::Future {
        let admitted = async move {
            let (peer, stream) = self.noise.upgrade_outbound(socket, info).await?;
            Self::admit(self.gate, Role::Dialer, peer, stream).await
        };
        in_time(self.time_limit, admitted).boxed()
    }
}

/// The encrypted stream of one who was admitted.
pub(crate) struct Admitted<S> {
    stream: S,
    _seat: Seat,
}

impl<S: AsyncRead + Unpin> AsyncRead for Admitted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Admitted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The admission error in a chain of errors; libp2p and [`io::Error`] wrap it several times.
pub(crate) fn admission_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a AdmissionError> {
    let mut error = error;
    loop {
        if let Some(found) = error.downcast_ref::<AdmissionError>() {
            return Some(found);
        }
        // The source of an I/O error is the source of what it wraps: the wrapped one itself would be passed over.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error = match wrapped {
            Some(inner) => inner as &(dyn Error + 'static),
            None => error.source()?,
        };
    }
}
