//! The way to a connection: TCP, noise, admission, yamux; all of it within one time limit.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, tcp, yamux,
};

use crate::gate::{Admission, Gate};

/// How many streams one connection may have open at once.
const MOST_STREAMS: usize = 512;

/// What connecting, and agreeing on noise and yamux by name, may take beside the admission.
const NEGOTIATION: Duration = Duration::from_secs(1);

/// Builds the transport.
pub(crate) fn build(
    keypair: &Keypair,
    gate: Arc<Gate>,
    time_limit: Duration,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(MOST_STREAMS);
    Ok(FreshPort(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)))
        .upgrade(Version::V1)
        .authenticate(Admission::new(keypair, gate, time_limit)?)
        .multiplex(streams)
        .timeout(time_limit + NEGOTIATION)
        .boxed())
}

/// TCP that dials from a fresh port. Dials from the listening port, libp2p's default, let two nodes that dial each other
/// at once meet half-way on one connection of which both are the dialer; and a peer cannot be dialled again while its last
/// connection is in TIME_WAIT.
struct FreshPort<T>(T);

impl<T: Transport<Error = io::Error> + Unpin> Transport for FreshPort<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, how: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.0.dial(address, DialOpts { port_use: PortUse::New, ..how })
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
