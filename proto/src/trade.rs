//! What neighbours of a swarm say, in order, over the one control stream of their connection.
//!
//! Order is part of the protocol: a [`Message::Grant`] precedes the first `Slot` or `Offer` that a piece signed under it may
//! answer. The midstates themselves travel at the head of a piece's stream ([`PieceHeader`](crate::PieceHeader)), those
//! that its `Take` names; a piece that brings none where they are lacking is refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use shoal_blob::{Digest, PieceSet};

use crate::{SignedGrant, topics::Topic};

/// How many pieces one batch may name.
pub const MAX_BATCH: usize = 4096;

/// How many messages one envelope may hold.
pub const MAX_MESSAGES: usize = 256;

/// What is said to one neighbour about one blob in one go, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The blob.
    pub digest: Digest,
    /// What is said.
    pub messages: Vec<Message>,
}

/// A letter as it goes over the wire, or a part of one that is too long for one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The blob.
    pub topic: Topic,
    /// What is said: 1 to [`MAX_MESSAGES`].
    #[serde(deserialize_with = "bounded")]
    pub messages: Vec<Message>,
}

/// A message in memory may be far longer than its bytes: too many are refused before they are taken in.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Message>, D::Error> {
    struct Messages;
    impl<'de> Visitor<'de> for Messages {
        type Value = Vec<Message>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "1 to {MAX_MESSAGES} messages")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut messages = Vec::new();
            while let Some(message) = seq.next_element()? {
                if messages.len() == MAX_MESSAGES {
                    return Err(A::Error::invalid_length(MAX_MESSAGES + 1, &self));
                }
                messages.push(message);
            }
            if messages.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(messages) }
        }
    }
    deserializer.deserialize_seq(Messages)
}

/// What one neighbour says to another about one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first word: what I have. Answered with a Hello of the other's.
    Hello(Hello),
    /// A lease that I know; precedes what its seed signed. It is rare and the largest by far: a box keeps all others small.
    Grant(Box<SignedGrant>),
    /// I have these pieces now.
    Have {
        /// In any order, at most [`MAX_BATCH`].
        pieces: Vec<u32>,
        /// How many pieces are on their way to me, or waiting to leave: how loaded I am.
        queue: u16,
    },
    /// I have these pieces no longer.
    Lost {
        /// At most [`MAX_BATCH`].
        pieces: Vec<u32>,
    },
    /// You may take one piece of mine: answer Take or Pass.
    Slot {
        /// Numbered by the uploader.
        slot: u32,
    },
    /// I would send you this very piece: answer Take or Pass.
    Offer {
        /// Numbered by the uploader.
        slot: u32,
        /// The piece.
        piece: u32,
    },
    /// Send me this piece in that slot.
    Take {
        /// The slot.
        slot: u32,
        /// The piece.
        piece: u32,
        /// Which of its two midstates have to come with it.
        lacks: Lacks,
    },
    /// I do not need that slot now.
    Pass {
        /// The slot.
        slot: u32,
    },
    /// A reader waits for this piece: give me your next slot.
    Want {
        /// The piece.
        piece: u32,
    },
    /// I have that piece from elsewhere: do not send it, or stop.
    Cancel {
        /// The piece.
        piece: u32,
    },
    /// I cannot send what you took: pick it elsewhere.
    Refuse {
        /// The slot.
        slot: u32,
        /// The piece.
        piece: u32,
    },
    /// I leave this swarm.
    Bye,
}

/// Which of a piece's two midstates its receiver does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    /// The one before the piece.
    pub before: bool,
    /// The one behind it.
    pub behind: bool,
}

/// A neighbour's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The blob's length in bytes; the layout follows from it.
    pub length: u64,
    /// What I have.
    pub have: PieceSet,
    /// Whether I want the rest.
    pub wants: bool,
    /// Where I am; empty when I was not told.
    pub zone: String,
}
