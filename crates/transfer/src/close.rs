//! Why connections and streams end, in words for us and in codes for the wire.

use quinn::{ConnectionError, VarInt};
use shoal_proto::codec::{CodecError, VERSION};

use crate::AdmissionError;

const GONE: u32 = 0;
const KEY: u32 = 1;
const LATE: u32 = 2;
const BROKEN: u32 = 3;
const WRONG_NODE: u32 = 4;
const DUPLICATE: u32 = 5;
const TOO_SLOW: u32 = 6;
const FULL: u32 = 7;
const REPLACED: u32 = 8;
/// Beyond this, the low byte is the version that the closing side speaks.
const VERSION_BASE: u32 = 0x100;

/// TLS's alert for "no application protocol in common", as QUIC carries it.
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// Why a connected peer is connected no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The peer said goodbye: it stops, or has no use for the connection.
    #[error("the peer left")]
    PeerLeft,
    /// This node closed the connection.
    #[error("this node closed the connection")]
    Closed,
    /// The peer was started anew, and its new connection took the place of this one.
    #[error("the peer started anew and connected again")]
    Replaced,
    /// Nothing came from the peer for the whole idle timeout.
    #[error("nothing came from the peer for the whole idle timeout")]
    TimedOut,
    /// More control messages waited for the peer than may.
    #[error("the peer is too slow: more control messages waited for it than may")]
    TooSlow,
    /// The peer says that this node is too slow in taking its control messages.
    #[error("the peer found this node too slow in taking its control messages")]
    WeAreTooSlow,
    /// The peer sent what no honest daemon sends.
    #[error("the peer broke the protocol: {0}")]
    Broken(CodecError),
    /// The peer says that this node broke the protocol.
    #[error("the peer says that this node broke the protocol: {0}")]
    WeBroke(String),
    /// The peer does not accept this node's proof, though this node accepted the peer's: a rotation was cut short.
    #[error(
        "the peer does not accept this node's cluster key: a key must be in every node's file before any node's first line"
    )]
    AnotherClusterKey,
    /// The connection failed beneath us.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// Why a receiver does not take a piece, or takes no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It changed its mind, or what received the piece is gone.
    #[error("it was cancelled")]
    Cancelled,
    /// It never asked for the piece, or has it from elsewhere.
    #[error("it is not wanted")]
    Unwanted,
    /// It lacks the midstates that the piece would be checked against.
    #[error("its midstates are not known")]
    NoMidstates,
    /// More bytes came than the piece has.
    #[error("it was longer than the piece")]
    Overlong,
    /// It has no room now.
    #[error("there is no room")]
    NoRoom,
    /// A later version's reason.
    #[error("reason {0}")]
    Other(u32),
}

impl Refusal {
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Cancelled => 0,
            Self::Unwanted => 1,
            Self::NoMidstates => 2,
            Self::Overlong => 3,
            Self::NoRoom => 4,
            Self::Other(code) => code,
        })
    }

    pub(crate) fn from_code(code: VarInt) -> Self {
        match code.into_inner() {
            0 => Self::Cancelled,
            1 => Self::Unwanted,
            2 => Self::NoMidstates,
            3 => Self::Overlong,
            4 => Self::NoRoom,
            code => Self::Other(u32::try_from(code).unwrap_or(u32::MAX)),
        }
    }
}

/// Closes a connection whose dialer or listener is not let in.
pub(crate) fn refuse(connection: &quinn::Connection, why: &AdmissionError) {
    let code = match why {
        AdmissionError::AnotherClusterKey => KEY,
        AdmissionError::OtherVersion { .. } => VERSION_BASE + u32::from(VERSION),
        AdmissionError::TooLate => LATE,
        AdmissionError::Malformed(_) | AdmissionError::OtherProtocol => BROKEN,
        AdmissionError::Duplicate => DUPLICATE,
        AdmissionError::Full => FULL,
        AdmissionError::Myself => WRONG_NODE,
        AdmissionError::Lost(_) => GONE,
    };
    connection.close(VarInt::from_u32(code), why.to_string().as_bytes());
}

/// Closes a connection that led to another node than was expected.
pub(crate) fn wrong_node(connection: &quinn::Connection) {
    connection.close(VarInt::from_u32(WRONG_NODE), b"another node was expected at this address");
}

/// Closes an admitted connection.
pub(crate) fn close(connection: &quinn::Connection, why: &Disconnect) {
    let code = match why {
        Disconnect::TooSlow => TOO_SLOW,
        Disconnect::Broken(_) => BROKEN,
        Disconnect::Replaced => REPLACED,
        Disconnect::PeerLeft
        | Disconnect::Closed
        | Disconnect::TimedOut
        | Disconnect::WeAreTooSlow
        | Disconnect::WeBroke(_)
        | Disconnect::AnotherClusterKey
        | Disconnect::Lost(_) => GONE,
    };
    connection.close(VarInt::from_u32(code), why.to_string().as_bytes());
}

/// What the end of an admitted connection means.
pub(crate) fn disconnect(error: &ConnectionError) -> Disconnect {
    match error {
        ConnectionError::LocallyClosed => Disconnect::Closed,
        ConnectionError::TimedOut => Disconnect::TimedOut,
        ConnectionError::Reset => Disconnect::Lost("the peer's daemon was started anew".to_owned()),
        ConnectionError::ApplicationClosed(close) => match application_code(close) {
            GONE | DUPLICATE => Disconnect::PeerLeft,
            KEY => Disconnect::AnotherClusterKey,
            TOO_SLOW => Disconnect::WeAreTooSlow,
            REPLACED => Disconnect::Replaced,
            _ => Disconnect::WeBroke(reason(&close.reason)),
        },
        other => Disconnect::Lost(other.to_string()),
    }
}

/// What the end of a connection means that was not admitted yet.
pub(crate) fn refusal(error: &ConnectionError) -> AdmissionError {
    match error {
        ConnectionError::ApplicationClosed(close) => match application_code(close) {
            KEY => AdmissionError::AnotherClusterKey,
            LATE => AdmissionError::TooLate,
            DUPLICATE => AdmissionError::Duplicate,
            FULL => AdmissionError::Full,
            code if code & !0xff == VERSION_BASE => AdmissionError::OtherVersion { theirs: (code & 0xff) as u8 },
            _ => AdmissionError::Lost(reason(&close.reason)),
        },
        ConnectionError::ConnectionClosed(close) => transport(close.error_code, error),
        ConnectionError::TransportError(failure) => transport(failure.code, error),
        other => AdmissionError::Lost(other.to_string()),
    }
}

fn transport(code: quinn::TransportErrorCode, error: &ConnectionError) -> AdmissionError {
    if code == quinn::TransportErrorCode::CONNECTION_REFUSED {
        AdmissionError::Full
    } else if u64::from(code) == NO_APPLICATION_PROTOCOL {
        AdmissionError::OtherProtocol
    } else {
        AdmissionError::Lost(error.to_string())
    }
}

fn application_code(close: &quinn::ApplicationClose) -> u32 {
    u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)
}

/// A peer's words, short and printable: they go into a log.
fn reason(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        use Refusal::{Cancelled, NoMidstates, NoRoom, Other, Overlong, Unwanted};
        for refusal in [Cancelled, Unwanted, NoMidstates, Overlong, NoRoom, Other(77)] {
            assert_eq!(Refusal::from_code(refusal.code()), refusal);
        }
        assert_eq!(Refusal::from_code(VarInt::MAX), Other(u32::MAX));
    }

    #[test]
    fn a_peers_words_are_fit_for_a_log() {
        assert_eq!(reason(b"one\ntwo\x1b[31m\xff"), "one two [31m\u{fffd}");
        assert_eq!(reason(&[b'a'; 5000]).len(), 200);
    }
}
