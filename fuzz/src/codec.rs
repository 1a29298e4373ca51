//! Frames and messages of peers.

use serde::{Serialize, de::DeserializeOwned};
use shoal_proto::{
    PieceHeader,
    codec::{self, HEAD_BYTES, MAX_COORDINATION_BODY, MAX_PIECE_HEADER, MAX_TRADE_BODY},
    coordination::Coordination,
    topics::{Hearing, MAX_TOPICS},
    trade::{Envelope, MAX_MESSAGES},
};

/// The first byte says what the rest is taken for.
pub fn eat(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => letter(rest),
        1 => same_again::<Coordination>(rest, MAX_COORDINATION_BODY),
        2 => same_again::<(u16, PieceHeader)>(rest, MAX_PIECE_HEADER),
        3 => brief_frames(rest),
        4 => first_frame(rest),
        _ => same_again::<shoal_proto::SignedSegment>(rest, MAX_TRADE_BODY),
    }
}

/// What was read is written, and read again as the same.
fn same_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8], limit: usize) {
    if let Ok(value) = codec::decode::<T>(bytes)
        && let Ok(body) = codec::body(&value, limit)
    {
        assert!(body.len() <= limit);
        assert_eq!(codec::decode::<T>(&body).as_ref(), Ok(&value));
    }
}

fn letter(bytes: &[u8]) {
    let Ok(envelope) = Envelope::open(bytes) else { return };
    assert!((1..=MAX_MESSAGES).contains(&envelope.messages.len()));
    let bodies: Result<Vec<_>, _> =
        envelope.messages.iter().map(|message| codec::body(message, MAX_TRADE_BODY)).collect();
    let Ok(frame) = bodies.and_then(|bodies| Envelope::seal(envelope.topic, &bodies.concat())) else { return };
    let place = codec::brief_body(&frame, MAX_TRADE_BODY).expect("a frame that was sealed").expect("whole");
    assert_eq!(place.end, frame.len());
    assert_eq!(Envelope::open(&frame[place]), Ok(envelope));
}

/// A stream of brief frames of letters, as a connection has them: numbers stay bounded, and each frame ends where it says.
fn brief_frames(mut bytes: &[u8]) {
    let mut hearing = Hearing::default();
    while let Ok(Some(place)) = codec::brief_body(bytes, MAX_TRADE_BODY) {
        assert!(place.len() <= MAX_TRADE_BODY && place.start > 0);
        let Some(body) = bytes.get(place.clone()) else { return };
        if let Ok(envelope) = Envelope::open(body) {
            let Ok(digest) = hearing.digest(envelope.topic) else { return };
            assert!(hearing.number(&digest).is_some_and(|number| number < MAX_TOPICS));
        }
        bytes = &bytes[place.end..];
    }
}

fn first_frame(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    for limit in [64, MAX_COORDINATION_BODY] {
        if let Ok(length) = codec::body_length(*head, limit) {
            assert!(length <= limit);
            let _ = rest.get(..length).map(codec::decode::<Coordination>);
        }
    }
}
