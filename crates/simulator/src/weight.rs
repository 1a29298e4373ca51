//! How many bytes what is said takes on the wire.
//!
//! What is said most is counted without being encoded; a test holds the count against the codec.

use shoal_blob::{Algorithm, Digest, Midstate};
use shoal_proto::{
    Authority, Epoch, NodeKey, PieceHeader, Segment, codec,
    coordination::Coordination,
    trade::{Lacks, MAX_MESSAGES, Message},
};

/// What a datagram costs beyond what is in it: IP, UDP, QUIC.
pub(crate) const DATAGRAM: u64 = 40;
/// What fits into one.
const PAYLOAD: u64 = 1200;

/// The headers of as many datagrams as so many bytes need.
pub(crate) const fn datagrams(bytes: u64) -> u64 {
    bytes.div_ceil(PAYLOAD) * DATAGRAM
}

const fn varint(value: u32) -> u64 {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// What is said to one neighbour in one go, as it grows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Letter {
    messages: usize,
    bytes: u64,
}

impl Letter {
    pub(crate) fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += trade(message);
    }

    /// Its frames, nearly always one; the first names the blob where that has not been done on this connection.
    pub(crate) fn bytes(self, digest: &Digest, named: bool) -> u64 {
        let name = if named { 0 } else { 1 + digest.as_bytes().len() as u64 };
        let (full, rest) = (self.messages / MAX_MESSAGES, self.messages % MAX_MESSAGES);
        // The one blob of a simulation has number 0.
        let head = |messages: usize| (codec::HEAD_BYTES + 2) as u64 + varint(messages as u32);
        let last = if rest == 0 { 0 } else { head(rest) };
        name + full as u64 * head(MAX_MESSAGES) + last + self.bytes
    }
}

/// A message between neighbours, without the frame that it may share with others.
fn trade(message: &Message) -> u64 {
    let body = match message {
        Message::Have { pieces, queue } => {
            let numbers: u64 = pieces.iter().map(|&piece| varint(piece)).sum();
            varint(pieces.len() as u32) + numbers + varint(u32::from(*queue))
        }
        Message::Slot { slot } | Message::Pass { slot } => varint(*slot),
        Message::Offer { slot, piece } | Message::Refuse { slot, piece } => varint(*slot) + varint(*piece),
        Message::Take { slot, piece, .. } => varint(*slot) + varint(*piece) + 2,
        Message::Want { piece } | Message::Cancel { piece } => varint(*piece),
        Message::Bye => 0,
        Message::Hello(_) | Message::Grant(_) | Message::Lost { .. } => {
            return encoded(message) - codec::HEAD_BYTES as u64;
        }
    };
    1 + body
}

/// The frame of a coordination message, and its headers.
pub(crate) fn coordination(message: &Coordination) -> u64 {
    let bytes = encoded(message);
    bytes + datagrams(bytes)
}

fn encoded<T: serde::Serialize>(value: &T) -> u64 {
    codec::encode(value, usize::MAX).map_or(0, |frame| frame.len() as u64)
}

/// The head of a piece's stream without and with one signed midstate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    bare: u64,
    midstate: u64,
}

impl Heads {
    /// For a blob of that digest and length.
    pub(crate) fn new(digest: Digest, length: u64, pieces: u32) -> Self {
        let key = NodeKey::from_seed(&[1; 32]);
        let authority = Authority::Lease(Epoch { number: 1, coordinator: key.id() });
        let states = [Midstate::initial(Algorithm::Sha256)];
        let testimony = Segment::new(digest, length, authority, pieces, &states).sign(&key).testimony();
        let bare = PieceHeader { digest, piece: pieces, slot: 1 << 14, from: [0; 8], to: [0; 8], proof: Vec::new() };
        let with = PieceHeader { proof: vec![testimony], ..bare.clone() };
        let bare = encoded(&bare);
        Self { bare, midstate: encoded(&with) - bare }
    }

    pub(crate) fn bytes(self, lacks: Lacks) -> u64 {
        self.bare + self.midstate * (u64::from(lacks.before) + u64::from(lacks.behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::{topics::Speaking, trade::Envelope};

    /// Counts a letter and encodes it, as the second with that digest and as the first.
    fn holds(digest: Digest, messages: &[Message]) {
        let mut letter = Letter::default();
        messages.iter().for_each(|message| letter.add(message));
        let mut speaking = Speaking::default();
        for named in [false, true] {
            let envelopes = messages.chunks(MAX_MESSAGES).map(|part| {
                let (topic, messages) = (speaking.topic(digest), part.to_vec());
                encoded(&Envelope { topic, messages })
            });
            let sent: u64 = envelopes.sum();
            assert_eq!(letter.bytes(&digest, named), sent, "{messages:?}");
        }
    }

    #[test]
    fn what_is_counted_is_what_is_sent() {
        let digest = Digest::Sha256([7; 32]);
        let (slot, piece) = (300, 70_000);
        let lacks = Lacks { before: true, behind: false };
        let messages = [
            Message::Have { pieces: vec![0, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28], queue: 200 },
            Message::Slot { slot },
            Message::Pass { slot },
            Message::Offer { slot, piece },
            Message::Refuse { slot, piece },
            Message::Take { slot, piece, lacks },
            Message::Want { piece },
            Message::Cancel { piece },
            Message::Bye,
            Message::Lost { pieces: vec![1, 1 << 20] },
        ];
        for message in &messages {
            holds(digest, std::slice::from_ref(message));
        }
        holds(digest, &messages);
        for count in [127, 128, MAX_MESSAGES, MAX_MESSAGES + 1, 2 * MAX_MESSAGES + 200] {
            holds(Digest::Sha512([7; 64]), &vec![Message::Slot { slot }; count]);
        }
    }
}
