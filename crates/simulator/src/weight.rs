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

/// A brief frame with a body of that length, which is far below 4 GiB.
const fn brief(body: u64) -> u64 {
    varint(body as u32) + body
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Letter {
    /// The messages of its full frames in bytes, if it has any beside the last.
    full: Vec<u64>,
    /// The messages of the last in bytes, and how many there are.
    last: (u64, usize),
}

impl Letter {
    pub(crate) fn add(&mut self, message: &Message) {
        let (bytes, count) = &mut self.last;
        if *count == MAX_MESSAGES {
            self.full.push(std::mem::take(bytes));
            *count = 0;
        }
        *bytes += trade(message);
        *count += 1;
    }

    /// Its frames, nearly always one; the first names the blob where that has not been done on this connection.
    pub(crate) fn bytes(&self, digest: &Digest, named: bool) -> u64 {
        // The one blob of a simulation has number 0, and a new number takes two bytes.
        let (known, new) = (1, 2 + 1 + digest.as_bytes().len() as u64);
        let topic = |at| if at == 0 && !named { new } else { known };
        let frames = self.full.iter().map(|&bytes| (bytes, MAX_MESSAGES)).chain([self.last]);
        let frames = frames.filter(|(_, count)| *count > 0).enumerate();
        frames.map(|(at, (messages, _))| brief(topic(at) + messages)).sum()
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
            return body(message);
        }
    };
    1 + body
}

/// The frame of a coordination message, and its headers.
pub(crate) fn coordination(message: &Coordination) -> u64 {
    let bytes = codec::HEAD_BYTES as u64 + body(message);
    bytes + datagrams(bytes)
}

fn body<T: serde::Serialize>(value: &T) -> u64 {
    codec::body(value, usize::MAX).map_or(0, |body| body.len() as u64)
}

/// The body of the frame at the head of a piece's stream: what it is without a midstate, and what each signed one adds.
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
        let bare = PieceHeader { piece: pieces, link: [0; 8], proof: Vec::new() };
        let with = PieceHeader { proof: vec![testimony], ..bare.clone() };
        // The one blob of a simulation has number 0.
        let head = |header| body(&(0u16, header));
        let bare = head(bare);
        Self { bare, midstate: head(with) - bare }
    }

    pub(crate) fn bytes(self, lacks: Lacks) -> u64 {
        brief(self.bare + self.midstate * (u64::from(lacks.before) + u64::from(lacks.behind)))
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
                let messages: Vec<_> = part.iter().map(|message| codec::body(message, usize::MAX).unwrap()).collect();
                Envelope::seal(speaking.topic(digest), &messages.concat()).unwrap().len()
            });
            let sent = envelopes.sum::<usize>() as u64;
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
