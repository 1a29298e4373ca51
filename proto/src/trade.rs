//! What neighbours of a swarm say, in order, over the one control stream of their connection.
//!
//! Order is part of the protocol: a [`Message::Grant`] precedes the first `Slot` or `Offer` that a piece signed under it may
//! answer. The midstates themselves travel at the head of a piece's stream ([`PieceHeader`](crate::PieceHeader)), those
//! that its `Take` names; a piece that brings none where they are lacking is refused.

use serde::{Deserialize, Serialize};
use shoal_blob::{Digest, PieceSet};

use crate::{
    SignedGrant,
    codec::{self, CodecError, MAX_TRADE_BODY},
    topics::{MAX_TOPIC_BYTES, MAX_TOPICS, Topic},
};

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

/// A letter as it goes over the wire, or a part of one that is too long for one frame: a topic, and messages until the frame
/// ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The blob.
    pub topic: Topic,
    /// What is said: 1 to [`MAX_MESSAGES`].
    pub messages: Vec<Message>,
}

impl Envelope {
    /// The frame of messages that have been encoded already, one behind the other.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when they are longer than a frame may be.
    pub fn seal(topic: Topic, messages: &[u8]) -> Result<Vec<u8>, CodecError> {
        // Numbers are below MAX_TOPICS: a new one has that much added, and needs no byte that says so.
        let topic = match topic {
            Topic::Known(number) => codec::body(&number, MAX_TOPIC_BYTES),
            Topic::New(number, digest) => codec::body(&(number.saturating_add(MAX_TOPICS), digest), MAX_TOPIC_BYTES),
        };
        codec::brief(&[&topic?, messages], MAX_TRADE_BODY)
    }

    /// What is in the body of a frame.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] when it is not a topic and messages, none too many.
    pub fn open(body: &[u8]) -> Result<Self, CodecError> {
        let (number, rest) = codec::take::<u16>(body)?;
        let (topic, mut rest) = match number.checked_sub(MAX_TOPICS) {
            None => (Topic::Known(number), rest),
            Some(number) => {
                let (digest, rest) = codec::take(rest)?;
                (Topic::New(number, digest), rest)
            }
        };
        let mut messages = Vec::new();
        while !rest.is_empty() {
            // A message in memory may be far longer than its bytes: too many are refused before they are taken in.
            if messages.len() == MAX_MESSAGES {
                return Err(CodecError::Malformed(format!("more than {MAX_MESSAGES} messages are in it")));
            }
            let (message, behind) = codec::take(rest)?;
            messages.push(message);
            rest = behind;
        }
        if messages.is_empty() {
            return Err(CodecError::Malformed("no message is in it".to_owned()));
        }
        Ok(Self { topic, messages })
    }
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
