//! Reaching a node at one of its addresses.

use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use quinn::Connection;
use shoal_proto::NodeId;
use tokio::time::{interval, timeout};

use crate::{AdmissionError, certificate::peer_node, close};

/// How many addresses of one node are tried.
const MOST_ADDRESSES: usize = 8;
/// How long one address is tried alone before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Why a node could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address was given.
    #[error("no address of node {node} is known")]
    NoAddress {
        /// Who was dialled.
        node: NodeId,
    },
    /// Another node answered.
    #[error("node {expected} was expected at {addr} and node {found} answered: its address has changed hands")]
    WrongNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
        /// Where.
        addr: SocketAddr,
    },
    /// The connection was not admitted, by us or by the peer.
    #[error("node {node} at {addr}: {why}")]
    Refused {
        /// Who was dialled.
        node: NodeId,
        /// Where.
        addr: SocketAddr,
        /// Why.
        why: AdmissionError,
    },
    /// Nothing answered in time.
    #[error("node {node} did not answer at {addr}: is UDP let through to that port?")]
    Silent {
        /// Who was dialled.
        node: NodeId,
        /// Where.
        addr: SocketAddr,
    },
    /// The address cannot be reached from here at all.
    #[error("node {node} cannot be dialled at {addr}: {why}")]
    Unreachable {
        /// Who was dialled.
        node: NodeId,
        /// Where.
        addr: SocketAddr,
        /// What the system or the QUIC library said.
        why: String,
    },
    /// This node has as many connections as it may.
    #[error("node {node} was not dialled: this node has as many connections as it may")]
    Full {
        /// Who was to be dialled.
        node: NodeId,
    },
    /// The endpoint is being closed.
    #[error("node {node} was not dialled: this node is stopping")]
    Closing {
        /// Who was to be dialled.
        node: NodeId,
    },
}

impl DialError {
    /// How much an error tells: of several addresses' errors the most telling is reported.
    const fn weight(&self) -> u8 {
        match self {
            Self::NoAddress { .. } => 0,
            Self::Unreachable { .. } => 1,
            Self::Silent { .. } => 2,
            Self::WrongNode { .. } => 3,
            Self::Refused { .. } | Self::Full { .. } | Self::Closing { .. } => 4,
        }
    }
}

/// A connection to the node that is expected, by the first of its addresses that answers; not admitted yet.
pub(crate) async fn reach(
    quinn: &quinn::Endpoint,
    node: NodeId,
    addrs: &[SocketAddr],
    limit: Duration,
) -> Result<(Connection, SocketAddr), DialError> {
    let mut untried = addrs.iter().take(MOST_ADDRESSES);
    let mut attempts = FuturesUnordered::new();
    let mut next = interval(STAGGER);
    let mut told = DialError::NoAddress { node };
    loop {
        tokio::select! {
            _ = next.tick(), if untried.len() > 0 => {
                if let Some(addr) = untried.next() {
                    attempts.push(attempt(quinn, node, *addr, limit));
                }
            }
            Some(outcome) = attempts.next() => match outcome {
                Ok(reached) => return Ok(reached),
                Err(error) => {
                    if error.weight() > told.weight() {
                        told = error;
                    }
                    next.reset_immediately();
                }
            },
            else => return Err(told),
        }
    }
}

async fn attempt(
    quinn: &quinn::Endpoint,
    node: NodeId,
    addr: SocketAddr,
    limit: Duration,
) -> Result<(Connection, SocketAddr), DialError> {
    // The name goes nowhere: it is not sent, and a certificate's names are not looked at.
    let connecting =
        quinn.connect(addr, "shoal").map_err(|error| DialError::Unreachable { node, addr, why: error.to_string() })?;
    let connection = match timeout(limit, connecting).await {
        Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => return Err(DialError::Silent { node, addr }),
        Ok(Err(error)) => return Err(DialError::Refused { node, addr, why: close::refusal(&error) }),
        Ok(Ok(connection)) => connection,
    };
    match peer_node(&connection) {
        Some(found) if found == node => Ok((connection, addr)),
        Some(found) => {
            close::wrong_node(&connection);
            Err(DialError::WrongNode { expected: node, found, addr })
        }
        None => {
            let why = AdmissionError::OtherProtocol;
            close::refuse(&connection, &why);
            Err(DialError::Refused { node, addr, why })
        }
    }
}
