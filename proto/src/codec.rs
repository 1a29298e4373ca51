//! Frames: a head that says how long the body is, and the body. The length is checked before anything is allocated for it.
//!
//! A frame that may be the first word between two daemons says their version before a length of four bytes. Where both have
//! said theirs, on an admitted connection, frames are brief: the length alone, as a varint, one byte where that is enough.
//!
//! The body is postcard; a frame that is valid but longer than its value is refused, so that nothing can hide behind it.

use std::ops::Range;

use serde::{Serialize, de::DeserializeOwned};

use crate::topics::TopicError;

/// The version that this daemon speaks. It reads no other.
pub const VERSION: u8 = 3;
/// How many bytes stand before a body that is not brief: the version and the body's length, big-endian.
pub const HEAD_BYTES: usize = 5;
/// The longest head of a brief frame, in bytes: a varint of 32 bits.
pub const MAX_BRIEF_HEAD: usize = 5;
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

/// The body of a frame for a value.
///
/// # Errors
/// [`CodecError::TooLong`] when it is longer than `limit`.
pub fn body<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let body = postcard::to_stdvec(value).map_err(|error| CodecError::Malformed(error.to_string()))?;
    bounded(body.len(), limit)?;
    Ok(body)
}

/// A frame for a value.
///
/// # Errors
/// [`CodecError::TooLong`] when the value's body is longer than `limit`.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let body = body(value, limit)?;
    let length = bounded(body.len(), limit)?;
    Ok([&[VERSION][..], &length.to_be_bytes(), &body].concat())
}

/// A brief frame for a value.
///
/// # Errors
/// [`CodecError::TooLong`] when the value's body is longer than `limit`.
pub fn encode_brief<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    brief(&[&body(value, limit)?], limit)
}

/// A brief frame whose body has been encoded already, in parts.
///
/// # Errors
/// [`CodecError::TooLong`] when the parts together are longer than `limit`.
pub fn brief(parts: &[&[u8]], limit: usize) -> Result<Vec<u8>, CodecError> {
    let length = parts.iter().map(|part| part.len()).sum();
    let head = body(&bounded(length, limit)?, MAX_BRIEF_HEAD)?;
    Ok([&[&head[..]], parts].concat().concat())
}

/// A length as heads say it.
fn bounded(length: usize, limit: usize) -> Result<u32, CodecError> {
    u32::try_from(length).ok().filter(|_| length <= limit).ok_or(CodecError::TooLong { length, limit })
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

/// Where the body stands in the brief frame that begins here, at most `limit` bytes of it; `None` when its head is not whole.
///
/// # Errors
/// [`CodecError`] on too long a body, or a length that has another form than the shortest; the connection is of no use then.
pub fn brief_body(bytes: &[u8], limit: usize) -> Result<Option<Range<usize>>, CodecError> {
    let (length, rest) = match postcard::take_from_bytes::<u32>(bytes) {
        Ok((length, rest)) => (length as usize, rest),
        Err(postcard::Error::DeserializeUnexpectedEnd) => return Ok(None),
        Err(_) => return Err(CodecError::Malformed("its length is not a number".to_owned())),
    };
    let head = bytes.len() - rest.len();
    if head > 1 && bytes[head - 1] == 0 {
        Err(CodecError::Malformed("its length has more bytes than it needs".to_owned()))
    } else if length > limit {
        Err(CodecError::TooLong { length, limit })
    } else {
        Ok(Some(head..head + length))
    }
}

/// The value of a whole body.
///
/// # Errors
/// [`CodecError::Malformed`] when it is not one, or something follows it.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    match take(body)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError::Malformed(format!("{} bytes follow the message", rest.len()))),
    }
}

/// The value with which these bytes begin, and what follows it.
///
/// # Errors
/// [`CodecError::Malformed`] when they begin with none.
pub(crate) fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    postcard::take_from_bytes(bytes).map_err(|error| CodecError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Authority, Epoch, MAX_SEGMENT_STATES, NodeKey, PieceHeader, Segment,
        coordination::{Coordination, ToMember},
        topics::{MAX_TOPIC_BYTES, MAX_TOPICS, Topic},
        trade::{Envelope, Hello, MAX_MESSAGES, Message},
    };
    use proptest::prelude::*;
    use shoal_blob::{Digest, Midstate, PieceSet};

    /// The body of a brief frame that is alone.
    fn unwrapped(frame: &[u8]) -> &[u8] {
        let body = brief_body(frame, usize::MAX).unwrap().unwrap();
        assert_eq!(body.end, frame.len());
        &frame[body]
    }

    fn sealed(topic: Topic, messages: &[Message]) -> Vec<u8> {
        let encoded: Vec<_> = messages.iter().map(|message| body(message, MAX_TRADE_BODY).unwrap()).collect();
        Envelope::seal(topic, &encoded.concat()).unwrap()
    }

    #[test]
    fn the_largest_honest_messages_fit() {
        let mut have = PieceSet::full(1 << 20);
        have.remove(0);
        let hello = Hello { length: 1 << 44, have, wants: true, zone: "z".repeat(64) };
        let topic = Topic::New(4095, Digest::Sha512([1; 64]));
        let messages = vec![Message::Hello(hello)];
        let opened = Envelope::open(unwrapped(&sealed(topic, &messages)));
        assert_eq!(opened, Ok(Envelope { topic, messages }));
    }

    #[test]
    fn a_frame_says_its_version_and_its_length() {
        let message = Coordination::ToMember(ToMember::Survey { digest: Digest::Sha256([1; 32]) });
        let frame = encode(&message, MAX_COORDINATION_BODY).unwrap();
        let (head, rest) = frame.split_first_chunk().unwrap();
        assert_eq!((head[0], body_length(*head, MAX_COORDINATION_BODY)), (VERSION, Ok(rest.len())));
        assert_eq!(rest, body(&message, MAX_COORDINATION_BODY).unwrap());
        assert_eq!(decode::<Coordination>(rest).as_ref(), Ok(&message));
    }

    #[test]
    fn brief_frames_that_are_too_long_or_say_so_oddly_are_refused_by_their_heads() {
        let malformed = |head: &[u8]| matches!(brief_body(head, MAX_TRADE_BODY), Err(CodecError::Malformed(_)));
        assert_eq!(brief_body(&[100], 100), Ok(Some(1..101)));
        assert_eq!(brief_body(&[101], 100), Err(CodecError::TooLong { length: 101, limit: 100 }));
        let endless = brief_body(&[255, 255, 255, 255, 15], 100);
        assert_eq!(endless, Err(CodecError::TooLong { length: u32::MAX as usize, limit: 100 }));
        // Not the shortest, beyond 32 bits, without an end.
        for head in [&[0x80, 0][..], &[0xe4, 0x80, 0], &[255, 255, 255, 255, 16], &[128; 5], &[255; 9]] {
            assert!(malformed(head), "{head:?}");
        }
        // Cut short.
        for head in [&[][..], &[0x80], &[255; 4]] {
            assert_eq!(brief_body(head, MAX_TRADE_BODY), Ok(None), "{head:?}");
        }
        assert!(encode_brief(&vec![0u8; 100], 100).is_err());
        assert!(brief(&[&[0; 60], &[0; 41]], 100).is_err());
    }

    #[test]
    fn the_head_of_a_piece_has_room_for_the_largest_proof() {
        let key = NodeKey::from_seed(&[3; 32]);
        let digest = Digest::Sha512([1; 64]);
        let authority = Authority::Lease(Epoch { number: u64::MAX, coordinator: key.id() });
        let states = [Midstate::Sha512([u64::MAX; 8]); MAX_SEGMENT_STATES];
        let testimony = Segment::new(digest, u64::MAX, authority, u32::MAX, &states).sign(&key).testimony();
        let header = PieceHeader { piece: u32::MAX, link: [1; 8], proof: vec![testimony.clone(), testimony] };
        let mut head = (u16::MAX, header);
        let frame = encode_brief(&head, MAX_PIECE_HEADER).unwrap();
        assert_eq!(decode::<(u16, PieceHeader)>(unwrapped(&frame)).unwrap(), head);
        head.1.proof.extend_from_within(..);
        head.1.proof.extend_from_within(..);
        assert!(matches!(encode_brief(&head, MAX_PIECE_HEADER), Err(CodecError::TooLong { .. })));
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
        let opened = |count| {
            let opened = Envelope::open(unwrapped(&sealed(Topic::Known(1), &vec![Message::Bye; count])));
            opened.map(|envelope| envelope.messages.len())
        };
        assert_eq!(opened(MAX_MESSAGES), Ok(MAX_MESSAGES));
        for count in [0, MAX_MESSAGES + 1] {
            assert!(matches!(opened(count), Err(CodecError::Malformed(_))), "{count}");
        }
        // Of the second message there is but a part, or none of what it promises: that takes no memory.
        let lost = body(&Message::Lost { pieces: vec![3] }, 10).unwrap();
        for bytes in [&[1, 11, lost[0]][..], &[1, 11, lost[0], 255, 255, 255, 255, 15, 3]] {
            assert!(matches!(Envelope::open(bytes), Err(CodecError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_new_topic_is_told_from_a_known_one_by_its_number() {
        let (last, digest) = (MAX_TOPICS - 1, Digest::Sha512([1; 64]));
        let known = [0, 127, 128, last].map(|number| (Topic::Known(number), 1 + usize::from(number > 127)));
        let new = [0, last].map(|number| (Topic::New(number, digest), MAX_TOPIC_BYTES));
        for (topic, length) in known.into_iter().chain(new) {
            let frame = sealed(topic, &[Message::Bye]);
            assert_eq!((frame.len(), Envelope::open(unwrapped(&frame)).unwrap().topic), (1 + length + 1, topic));
        }
        // Without its digest, or with half of it.
        for bytes in [&[0x80, 0x20][..], &[0x80, 0x20, 32, 1, 1, 1], &[]] {
            assert!(matches!(Envelope::open(bytes), Err(CodecError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_said_most_is_short() {
        let frame = |messages: &[Message]| sealed(Topic::Known(3), messages).len();
        let have = Message::Have { pieces: vec![5000], queue: 2 };
        assert_eq!(frame(&[Message::Slot { slot: 300 }]), 5);
        assert_eq!(frame(&[have, Message::Slot { slot: 300 }]), 10);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Envelope::open(&bytes);
            let _ = decode::<Coordination>(&bytes);
            let _ = decode::<(u16, PieceHeader)>(&bytes);
        }

        #[test]
        fn a_brief_head_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..8), limit in any::<u32>()) {
            let limit = limit as usize;
            match brief_body(&bytes, limit) {
                Ok(Some(place)) => {
                    let length = u32::try_from(place.len()).unwrap();
                    prop_assert!(place.len() <= limit);
                    prop_assert_eq!(&bytes[..place.start], body(&length, MAX_BRIEF_HEAD).unwrap());
                }
                Ok(None) => prop_assert!(bytes.len() < MAX_BRIEF_HEAD && bytes.iter().all(|byte| byte & 0x80 != 0)),
                Err(CodecError::TooLong { length, .. }) => prop_assert!(length > limit),
                Err(error) => prop_assert!(matches!(error, CodecError::Malformed(_))),
            }
        }

        #[test]
        fn a_brief_frame_is_found_however_it_is_cut(length in 0..70_000usize, cut in 0..70_000usize) {
            let frame = brief(&[&vec![7; length]], 70_000).unwrap();
            let cut = cut.min(frame.len());
            match brief_body(&frame[..cut], 70_000).unwrap() {
                Some(place) => prop_assert_eq!((place.len(), place.end), (length, frame.len())),
                None => prop_assert!(cut < frame.len() - length),
            }
        }

        #[test]
        fn what_follows_the_messages_is_one_or_is_refused(slot in any::<u32>(), extra in any::<u8>()) {
            let topic = Topic::New(0, Digest::Sha256([1; 32]));
            let messages = vec![Message::Pass { slot }, Message::Bye];
            let frame = sealed(topic, &messages);
            let mut body = unwrapped(&frame).to_vec();
            prop_assert_eq!(Envelope::open(&body), Ok(Envelope { topic, messages: messages.clone() }));
            body.push(extra);
            let bye = extra == 11;
            prop_assert_eq!(Envelope::open(&body).map(|envelope| envelope.messages.len()).ok(), bye.then_some(3));
            let header = crate::PieceHeader { piece: slot, link: [1; 8], proof: Vec::new() };
            let mut body = super::body(&(0u16, header), MAX_PIECE_HEADER).unwrap();
            body.push(extra);
            prop_assert!(decode::<(u16, PieceHeader)>(&body).is_err());
        }
    }
}
