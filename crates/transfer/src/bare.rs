//! The data plane's QUIC with nothing behind it: no admission, no pieces.
//!
//! [`Endpoint`](crate::Endpoint) is built on it, and measurements hold Shoal against it.

use std::{net::SocketAddr, sync::Arc};

use quinn::{AsyncUdpSocket, Connection, Runtime, VarInt};
use shoal_proto::NodeKey;

use crate::{BindError, TransferConfig, certificate, socket};

/// Binds a UDP socket as [`Endpoint::bind`](crate::Endpoint::bind) does, for dialling and listening. Whoever knocks is let in;
/// what a connection may carry then is next to nothing until it is [widened](widen). Must be called within a tokio runtime.
///
/// # Errors
/// [`BindError`].
pub fn bind(addr: SocketAddr, key: &NodeKey, config: &TransferConfig) -> Result<quinn::Endpoint, BindError> {
    open(addr, key, config, |socket| socket)
}

/// The same over what `wrap` makes of the socket.
pub(crate) fn open(
    addr: SocketAddr,
    key: &NodeKey,
    config: &TransferConfig,
    wrap: impl FnOnce(Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket>,
) -> Result<quinn::Endpoint, BindError> {
    let (client, server) = certificate::tls(key)?;
    let mut server = quinn::ServerConfig::with_crypto(server);
    server
        .transport_config(socket::transport(config, 1)?)
        .max_incoming(config.max_half_admitted)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(1 << 20);
    let mut client = quinn::ClientConfig::new(client);
    client.transport_config(socket::transport(config, 0)?);

    let socket = socket::bind(addr, config)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let settings = socket::endpoint(config)?;
    let opened = runtime
        .wrap_udp_socket(socket)
        .and_then(|socket| quinn::Endpoint::new_with_abstract_socket(settings, Some(server), wrap(socket), runtime));
    let mut quinn = opened.map_err(|source| BindError::Socket { addr, source })?;
    quinn.set_default_client_config(client);
    Ok(quinn)
}

/// Lets the other end of a connection send as much as a member may.
pub fn widen(connection: &Connection, config: &TransferConfig) {
    widen_to(connection, config, VarInt::from_u32(config.connection_window));
}

/// The same with a window of its own.
pub(crate) fn widen_to(connection: &Connection, config: &TransferConfig, window: VarInt) {
    connection.set_receive_window(window);
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(config.piece_streams));
}
