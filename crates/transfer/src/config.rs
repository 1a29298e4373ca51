//! The limits of the data plane.

use std::time::Duration;

use crate::Rates;

/// The limits of one endpoint. The defaults suit a daemon with some two dozen neighbours in a data centre: what one
/// connection may hold of a peer's unread bytes, and of our unacknowledged ones, is what its memory is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferConfig {
    /// How many peers may be connected at once.
    pub max_connections: usize,
    /// How many incoming connections may be between their first packet and their proof: what strangers may cost.
    pub max_half_admitted: usize,
    /// How long a handshake and the proof behind it may take.
    pub admission_timeout: Duration,
    /// How long the handshake with one address may take when dialling.
    pub dial_timeout: Duration,
    /// A peer that was silent for so long is gone.
    pub idle_timeout: Duration,
    /// How often a silent connection is kept alive.
    pub keep_alive: Duration,
    /// How many bytes of one stream may be here unread.
    pub stream_window: u32,
    /// How many bytes of all streams of a connection may be here unread.
    pub connection_window: u32,
    /// How many bytes sent over a connection may be unacknowledged at first, and at least.
    pub least_send_window: u32,
    /// How many bytes sent over all connections together may always be unacknowledged.
    pub least_in_flight: u64,
    /// How many at most, where bandwidth times delay asks for it.
    pub send_window: u32,
    /// How long what is sent may wait before the links on its way: that is what every other word waits behind.
    pub queueing: Duration,
    /// How many piece streams a peer may have open towards us at once.
    pub piece_streams: u32,
    /// How long the head of a piece's stream may take.
    pub header_timeout: Duration,
    /// How long an upload or a piece's stream may stand still.
    pub stall_timeout: Duration,
    /// The largest UDP payload, in bytes, that is received, and up to which the path's MTU is searched: 1200 to 65527.
    /// Receive buffers are 2,048 times as large, so keep it near the network's real MTU.
    pub max_udp_payload: u16,
    /// What the UDP socket should hold of what comes, in bytes. The system may allow less.
    pub receive_buffer: usize,
    /// What it should hold of what goes out: what waits there is late, and what is in it cannot be overtaken.
    pub send_buffer: usize,
    /// How many bytes of a piece are read from its source at a time.
    pub upload_chunk: u32,
    /// How many bytes of control messages may wait for one peer. One more, and the peer is too slow to be kept.
    pub control_queue: usize,
    /// How many events may wait for their reader; behind them the peers are held back.
    pub events: usize,
    /// What may go out and come in a second, over all connections, when the endpoint is bound; [`Endpoint::set_rates`] changes it.
    ///
    /// [`Endpoint::set_rates`]: crate::Endpoint::set_rates
    pub rates: Rates,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_half_admitted: 64,
            admission_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(5),
            stream_window: 2 << 20,
            connection_window: 6 << 20,
            least_send_window: 48 << 10,
            least_in_flight: 512 << 10,
            send_window: 4 << 20,
            queueing: Duration::from_millis(4),
            piece_streams: 16,
            header_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            max_udp_payload: 1472,
            receive_buffer: 4 << 20,
            send_buffer: 256 << 10,
            upload_chunk: 256 << 10,
            control_queue: 8 << 20,
            events: 256,
            rates: Rates::default(),
        }
    }
}
