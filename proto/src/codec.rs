//! Frames: a version byte, a length, a body. The length is checked before anything is allocated for it.
//!
//! The body is postcard; a frame that is valid but longer than its value is refused, so that nothing can hide behind it.

use serde::{Serialize, de::DeserializeOwned};

use crate::topics::TopicError;

/// The version that this daemon speaks. It reads no other.
pub const VERSION: u8 = 2;
/// How many bytes stand before a body: the version and the body's length, big-endian.
pub const HEAD_BYTES: usize = 5;
/// The longest body on the control stream between neighbours, in bytes: a bitmap of a million pieces.
pub const MAX_TRADE_BODY: usize = 512 << 10;
/// The longest body of a coordination message, in bytes.
pub const MAX_COORDINATION_BODY: usize = 512 << 10;
/// The longest head of a piece's stream, in bytes: two signed segments of SHA-512.
pub const MAX_PIECE_HEADER: usize = 1024;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The other daemon is of another version.
    #[error(
        "the peer speaks version {theirs} of the protocol and this daemon version {VERSION}: upgrade the older one"
    )]
    Version {
        /// What it speaks.
        theirs: u8,
    },
    /// The frame is longer than its kind may be.
    #[error("a frame of {length} bytes where at most {limit} are allowed")]
    TooLong {
        /// Bytes in the body.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The body is not a message.
    #[error("a frame that is not a message: {0}")]
    Malformed(String),
    /// The body is a message, about nobody knows what.
    #[error("a message about no blob that has been named: {0}")]
    Topic(#[from] TopicError),
}

/// A frame for a value.
///
/// # Errors
/// [`CodecError::TooLong`] when the value's body is longer than `limit`.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    encode_before(value, &[], limit)
}

/// A frame for a value and what follows it, the rest of the body, which has been encoded already.
///
/// # Errors
/// [`CodecError::TooLong`] when both together are longer than `limit`.
pub fn encode_before<T: Serialize>(value: &T, rest: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = postcard::to_extend(value, vec![VERSION, 0, 0, 0, 0])
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    frame.extend_from_slice(rest);
    let length = frame.len() - HEAD_BYTES;
    match u32::try_from(length) {
        Ok(prefix) if length <= limit => {
            frame[1..HEAD_BYTES].copy_from_slice(&prefix.to_be_bytes());
            Ok(frame)
        }
        _ => Err(CodecError::TooLong { length, limit }),
    }
}

/// How long the body is that follows this head, in bytes: at most `limit`.
///
/// # Errors
/// [`CodecError`] on another version or too long a body; the connection is of no use then.
pub fn body_length(head: [u8; HEAD_BYTES], limit: usize) -> Result<usize, CodecError> {
    let [theirs, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if theirs != VERSION {
        Err(CodecError::Version { theirs })
    } else if length > limit {
        Err(CodecError::TooLong { length, limit })
    } else {
        Ok(length)
    }
}

/// The value of a whole body.
///
/// # Errors
/// [`CodecError::Malformed`] when it is not one, or something follows it.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::Malformed(format!("{} bytes follow the message", rest.len()))),
        Err(error) => Err(CodecError::Malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Authority, Epoch, MAX_SEGMENT_STATES, NodeKey, PieceHeader, Segment,
        topics::Topic,
        trade::{Envelope, Hello, MAX_MESSAGES, Message},
    };
    use proptest::prelude::*;
    use shoal_blob::{Digest, Midstate, PieceSet};

    fn split(frame: &[u8]) -> ([u8; HEAD_BYTES], &[u8]) {
        let (head, body) = frame.split_first_chunk().unwrap();
        (*head, body)
    }

    #[test]
    fn the_largest_honest_messages_fit() {
        let mut have = PieceSet::full(1 << 20);
        have.remove(0);
        let hello = Hello { length: 1 << 44, have, wants: true, zone: "z".repeat(64) };
        let topic = Topic::New(4095, Digest::Sha512([1; 64]));
        let envelope = Envelope { topic, messages: vec![Message::Hello(hello)] };
        let frame = encode(&envelope, MAX_TRADE_BODY).unwrap();
        let (head, body) = split(&frame);
        assert_eq!(body_length(head, MAX_TRADE_BODY).unwrap(), body.len());
        assert_eq!(decode::<Envelope>(body).unwrap(), envelope);
    }

    #[test]
    fn the_head_of_a_piece_has_room_for_the_largest_proof() {
        let key = NodeKey::from_seed(&[3; 32]);
        let digest = Digest::Sha512([1; 64]);
        let authority = Authority::Lease(Epoch { number: u64::MAX, coordinator: key.id() });
        let states = [Midstate::Sha512([u64::MAX; 8]); MAX_SEGMENT_STATES];
        let testimony = Segment::new(digest, u64::MAX, authority, u32::MAX, &states).sign(&key).testimony();
        let (piece, slot, proof) = (u32::MAX, u32::MAX, vec![testimony.clone(), testimony]);
        let mut header = PieceHeader { digest, piece, slot, from: [1; 8], to: [2; 8], proof };
        let frame = encode(&header, MAX_PIECE_HEADER).unwrap();
        assert_eq!(decode::<PieceHeader>(split(&frame).1).unwrap(), header);
        header.proof.extend_from_within(..);
        assert!(matches!(encode(&header, MAX_PIECE_HEADER), Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn another_version_and_too_long_a_frame_are_refused_by_their_heads() {
        assert_eq!(body_length([0, 0, 0, 0, 1], 10), Err(CodecError::Version { theirs: 0 }));
        let endless = body_length([VERSION, 255, 255, 255, 255], 10);
        assert_eq!(endless, Err(CodecError::TooLong { length: u32::MAX as usize, limit: 10 }));
        assert!(encode(&vec![0u8; 100], 99).is_err());
    }

    #[test]
    fn an_envelope_holds_some_messages_and_not_too_many() {
        let mut envelope = Envelope { topic: Topic::Known(1), messages: vec![Message::Bye; MAX_MESSAGES] };
        let read = |envelope: &Envelope| decode::<Envelope>(split(&encode(envelope, MAX_TRADE_BODY).unwrap()).1);
        assert_eq!(read(&envelope).as_ref(), Ok(&envelope));
        envelope.messages.push(Message::Bye);
        assert!(matches!(read(&envelope), Err(CodecError::Malformed(_))));
        envelope.messages.clear();
        assert!(matches!(read(&envelope), Err(CodecError::Malformed(_))));
        // A count that promises more than there is takes no memory.
        assert!(decode::<Envelope>(&[1, 1, 255, 255, 255, 255, 15, 11]).is_err());
    }

    #[test]
    fn a_topic_goes_before_messages_that_were_encoded_without_it() {
        let envelope = Envelope { topic: Topic::Known(300), messages: vec![Message::Slot { slot: 9 }, Message::Bye] };
        let whole = encode(&envelope, MAX_TRADE_BODY).unwrap();
        let messages = encode(&envelope.messages, MAX_TRADE_BODY).unwrap();
        assert_eq!(encode_before(&envelope.topic, split(&messages).1, MAX_TRADE_BODY).unwrap(), whole);
    }

    #[test]
    fn what_is_said_most_is_short() {
        let frame = |messages| encode(&Envelope { topic: Topic::Known(3), messages }, MAX_TRADE_BODY).unwrap().len();
        let have = Message::Have { pieces: vec![5000], queue: 2 };
        assert_eq!(frame(vec![Message::Slot { slot: 300 }]), 11);
        assert_eq!(frame(vec![have, Message::Slot { slot: 300 }]), 16);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Envelope>(&bytes);
            let _ = decode::<crate::coordination::Coordination>(&bytes);
            let _ = decode::<crate::PieceHeader>(&bytes);
        }

        #[test]
        fn what_follows_a_message_is_refused(slot in any::<u32>(), extra in any::<u8>()) {
            let topic = Topic::New(0, Digest::Sha256([1; 32]));
            let envelope = Envelope { topic, messages: vec![Message::Pass { slot }, Message::Bye] };
            let frame = encode(&envelope, MAX_TRADE_BODY).unwrap();
            let mut body = split(&frame).1.to_vec();
            prop_assert_eq!(&decode::<Envelope>(&body).unwrap(), &envelope);
            body.push(extra);
            prop_assert!(decode::<Envelope>(&body).is_err());
        }
    }
}
