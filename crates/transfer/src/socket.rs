//! The UDP socket and what QUIC is told to do with it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{AckFrequencyConfig, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{BindError, TransferConfig};

/// How many bytes of all streams a connection may have unread before it is admitted: a proof, many times over.
const WINDOW_BEFORE_ADMISSION: u32 = 16 << 10;
/// How long a peer may keep an acknowledgement to itself; QUIC's default is 25 ms, as long as a piece takes on a fast link.
const LONGEST_ACK_DELAY: Duration = Duration::from_millis(3);
/// How many packets it may take in without one. An acknowledgement costs both ends, and the links between them, about as much as
/// the bunch of packets that it is for.
const UNACKNOWLEDGED_PACKETS: u32 = 12;

/// A bound UDP socket with buffers as large as asked for, or as the system allows.
pub(crate) fn bind(addr: SocketAddr, config: &TransferConfig) -> Result<std::net::UdpSocket, BindError> {
    let opened = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        // Both fail softly: the system's limits (net.core.rmem_max, wmem_max) hold.
        let _ = socket.set_recv_buffer_size(config.receive_buffer);
        let _ = socket.set_send_buffer_size(config.send_buffer);
        socket.bind(&addr.into())?;
        Ok(socket)
    };
    let socket = opened().map_err(|source| BindError::Socket { addr, source })?;
    let (receive, send) = (socket.recv_buffer_size().unwrap_or(0), socket.send_buffer_size().unwrap_or(0));
    let (wanted_receive, wanted_send) = (config.receive_buffer, config.send_buffer);
    if receive < wanted_receive || send < wanted_send {
        tracing::debug!(
            receive,
            wanted_receive,
            send,
            wanted_send,
            "UDP buffers are smaller than wanted: net.core.rmem_max, wmem_max"
        );
    }
    Ok(socket.into())
}

pub(crate) fn endpoint(config: &TransferConfig) -> Result<EndpointConfig, BindError> {
    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(config.max_udp_payload).map_err(|_| BindError::Config {
        setting: "max_udp_payload",
        value: config.max_udp_payload.to_string(),
        accepted: "1200 to 65527 bytes",
    })?;
    Ok(endpoint)
}

/// How connections behave; `bidi` is how many bidirectional streams the other end may open: one, where it dialled.
///
/// Until a connection is admitted no piece stream may be opened towards us and next to nothing sent: see
/// [`Newcomer::live`](crate::connection::Newcomer::live) for what is allowed then.
pub(crate) fn transport(config: &TransferConfig, bidi: u32) -> Result<Arc<TransportConfig>, BindError> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.max_udp_payload);
    let idle = config.idle_timeout.try_into().map_err(|_| BindError::Config {
        setting: "idle_timeout",
        value: format!("{:?}", config.idle_timeout),
        accepted: "a duration below 2^62 milliseconds",
    })?;
    // A piece's last packet, alone on its way, is to be acknowledged soon: an uploader's next piece waits for that word.
    let mut acknowledge = AckFrequencyConfig::default();
    acknowledge
        .max_ack_delay(Some(LONGEST_ACK_DELAY))
        .ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_PACKETS));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(bidi))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(WINDOW_BEFORE_ADMISSION.min(config.connection_window)))
        .stream_receive_window(VarInt::from_u32(config.stream_window))
        .send_window(u64::from(config.least_send_window))
        // By priority, for each packet anew: control first, then the oldest piece. quinn's other way ends a stream that it has
        // begun before it looks at any other: a word then waits for a whole piece, on a slow link for seconds.
        .send_fairness(true)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        .datagram_receive_buffer_size(None)
        .ack_frequency_config(Some(acknowledge))
        .mtu_discovery_config(Some(mtu));
    Ok(Arc::new(transport))
}
