//! Blobs by number: what each direction of a connection calls them, so that a digest is said once and not with every word.
//!
//! Whoever speaks numbers, from 0 on, and names a digest along with its number the first time. When all [`MAX_TOPICS`]
//! numbers are taken, the one that was used least recently is given away. The order of the stream is what keeps both sides
//! agreed, so both belong to one connection and end with it.
//!
//! A piece's stream keeps no order with that stream and may overtake it. So whoever sends a piece calls its blob by the number
//! that the *receiver* gave it, heard with its `Take`: that number the receiver cannot but know. It may have been given away
//! since, after thousands of other blobs were spoken of; the piece is one that nobody expects then.

use std::collections::HashMap;

use shoal_blob::Digest;

/// How many blobs have a number at a time, in one direction of a connection.
pub const MAX_TOPICS: u16 = 4096;
/// The longest topic on the wire, in bytes: a number and a digest of SHA-512.
pub const MAX_TOPIC_BYTES: usize = 2 + 1 + 64;

/// Which blob is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// This one, which has that number from now on; whatever had it before has none.
    New(u16, Digest),
    /// The one that has that number.
    Known(u16),
}

/// Why a topic names no blob: what no honest daemon sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing was said of that number before.
    #[error("number {0} stands for no blob")]
    Unknown(u16),
    /// A number was passed over, or is beyond the last.
    #[error("a blob was given number {number} where {next} comes next and there are {MAX_TOPICS}")]
    OutOfTurn {
        /// The number.
        number: u16,
        /// How many are taken.
        next: u16,
    },
}

/// What this side calls the blobs of which it speaks.
///
/// Invariant: no two blobs have one number, and the numbers are those from 0 to how many there are, in `digests` again.
#[derive(Debug, Default)]
pub struct Speaking {
    numbers: HashMap<Digest, Number>,
    digests: Vec<Digest>,
    clock: u64,
}

#[derive(Debug)]
struct Number {
    number: u16,
    used: u64,
}

/// What the other side calls the blobs of which it speaks: as much memory as it has named blobs, and that is bounded.
#[derive(Debug, Default)]
pub struct Hearing {
    digests: Vec<Digest>,
}

impl Speaking {
    /// How to name a blob now. What it gives has to be said, in this order.
    pub fn topic(&mut self, digest: Digest) -> Topic {
        self.clock += 1;
        let used = self.clock;
        if let Some(known) = self.numbers.get_mut(&digest) {
            known.used = used;
            return Topic::Known(known.number);
        }
        let number = match u16::try_from(self.digests.len()) {
            Ok(next) if next < MAX_TOPICS => {
                self.digests.push(digest);
                next
            }
            _ => self.give_away(digest),
        };
        self.numbers.insert(digest, Number { number, used });
        Topic::New(number, digest)
    }

    /// The blob that has this number now, where one has it: what a piece is of that the other side sends under it.
    #[must_use]
    pub fn digest(&self, number: u16) -> Option<Digest> {
        self.digests.get(usize::from(number)).copied()
    }

    /// Takes the number of the blob that was spoken of least recently.
    fn give_away(&mut self, digest: Digest) -> u16 {
        let oldest = self.numbers.iter().min_by_key(|(_, number)| number.used).map(|(oldest, _)| *oldest);
        let number = oldest.and_then(|oldest| self.numbers.remove(&oldest)).map_or(0, |oldest| oldest.number);
        self.digests[usize::from(number)] = digest;
        number
    }
}

impl Hearing {
    /// The blob that a topic names.
    ///
    /// # Errors
    /// [`TopicError`]; the connection is of no use then.
    pub fn digest(&mut self, topic: Topic) -> Result<Digest, TopicError> {
        match topic {
            Topic::Known(number) => self.digests.get(usize::from(number)).copied().ok_or(TopicError::Unknown(number)),
            Topic::New(number, digest) => {
                let next = self.digests.len();
                match self.digests.get_mut(usize::from(number)) {
                    Some(taken) => *taken = digest,
                    None if usize::from(number) == next && number < MAX_TOPICS => self.digests.push(digest),
                    None => return Err(TopicError::OutOfTurn { number, next: next as u16 }),
                }
                Ok(digest)
            }
        }
    }

    /// The number that the other side has for a blob, if it has one: how to name the blob at the head of a piece.
    #[must_use]
    pub fn number(&self, digest: &Digest) -> Option<u16> {
        self.digests.iter().position(|named| named == digest).and_then(|number| u16::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob(number: u16) -> Digest {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Digest::Sha256(bytes)
    }

    #[test]
    fn a_digest_is_said_once() {
        let mut speaking = Speaking::default();
        let said: Vec<Topic> = [5, 6, 5, 6, 7].map(|number| speaking.topic(blob(number))).into();
        let (known, new) = (Topic::Known, Topic::New);
        assert_eq!(said, [new(0, blob(5)), new(1, blob(6)), known(0), known(1), new(2, blob(7))]);
        let mut hearing = Hearing::default();
        let heard: Vec<Digest> = said.into_iter().map(|topic| hearing.digest(topic).unwrap()).collect();
        assert_eq!(heard, [5, 6, 5, 6, 7].map(blob));
    }

    #[test]
    fn a_piece_is_named_by_the_number_that_its_receiver_gave() {
        let (mut speaking, mut hearing) = (Speaking::default(), Hearing::default());
        for number in 0..MAX_TOPICS {
            hearing.digest(speaking.topic(blob(number))).unwrap();
        }
        assert_eq!(hearing.number(&blob(9)).and_then(|number| speaking.digest(number)), Some(blob(9)));
        assert_eq!((hearing.number(&blob(MAX_TOPICS)), speaking.digest(MAX_TOPICS)), (None, None));
        // The first number goes to another blob: known to the receiver, and not yet to the sender.
        let stale = hearing.number(&blob(0)).unwrap();
        let topic = speaking.topic(blob(MAX_TOPICS));
        assert_eq!(speaking.digest(stale), Some(blob(MAX_TOPICS)));
        hearing.digest(topic).unwrap();
        assert_eq!((hearing.number(&blob(0)), hearing.number(&blob(MAX_TOPICS))), (None, Some(stale)));
    }

    #[test]
    fn the_number_used_least_recently_is_given_away() {
        let mut speaking = Speaking::default();
        for number in 0..MAX_TOPICS {
            assert_eq!(speaking.topic(blob(number)), Topic::New(number, blob(number)));
        }
        assert_eq!(speaking.topic(blob(0)), Topic::Known(0));
        let another = blob(MAX_TOPICS);
        assert_eq!(speaking.topic(another), Topic::New(1, another));
        assert_eq!(speaking.topic(blob(1)), Topic::New(2, blob(1)), "it has to be named anew");
        assert_eq!(speaking.topic(blob(0)), Topic::Known(0));
        assert_eq!(speaking.numbers.len(), usize::from(MAX_TOPICS));
    }

    #[test]
    fn numbers_that_nobody_gave_are_refused() {
        let mut hearing = Hearing::default();
        assert_eq!(hearing.digest(Topic::Known(0)), Err(TopicError::Unknown(0)));
        let passed_over = hearing.digest(Topic::New(1, blob(1)));
        assert_eq!(passed_over, Err(TopicError::OutOfTurn { number: 1, next: 0 }));
        for number in 0..MAX_TOPICS {
            hearing.digest(Topic::New(number, blob(number))).unwrap();
        }
        let beyond = hearing.digest(Topic::New(MAX_TOPICS, blob(9)));
        assert_eq!(beyond, Err(TopicError::OutOfTurn { number: MAX_TOPICS, next: MAX_TOPICS }));
        assert_eq!(hearing.digest(Topic::Known(u16::MAX)), Err(TopicError::Unknown(u16::MAX)));
        assert_eq!(hearing.digest(Topic::Known(3)), Ok(blob(3)), "what was known still is");
    }

    fn topics() -> impl Strategy<Value = Topic> {
        let number = prop_oneof![0..6u16, (MAX_TOPICS - 2)..=MAX_TOPICS, any::<u16>()];
        (number, proptest::option::of(0..9u16))
            .prop_map(|(number, named)| named.map_or(Topic::Known(number), |named| Topic::New(number, blob(named))))
    }

    proptest! {
        #[test]
        fn both_sides_agree(said in proptest::collection::vec(0..MAX_TOPICS + 300, 1..300), once_around in any::<bool>()) {
            let (mut speaking, mut hearing) = (Speaking::default(), Hearing::default());
            let before = if once_around { MAX_TOPICS } else { 0 };
            for number in (0..before).chain(said) {
                prop_assert_eq!(hearing.digest(speaking.topic(blob(number))), Ok(blob(number)));
                let named = hearing.number(&blob(number));
                prop_assert_eq!(named.and_then(|number| speaking.digest(number)), Some(blob(number)));
            }
        }

        #[test]
        fn whatever_is_heard_memory_is_bounded(said in proptest::collection::vec(topics(), 0..200)) {
            let mut hearing = Hearing::default();
            let mut model: HashMap<u16, Digest> = HashMap::new();
            for topic in said {
                let taken = model.len() as u16;
                let expected = match topic {
                    Topic::Known(number) => model.get(&number).copied().ok_or(TopicError::Unknown(number)),
                    Topic::New(number, digest) if number <= taken && number < MAX_TOPICS => {
                        model.insert(number, digest);
                        Ok(digest)
                    }
                    Topic::New(number, _) => Err(TopicError::OutOfTurn { number, next: taken }),
                };
                prop_assert_eq!(hearing.digest(topic), expected);
                prop_assert_eq!(hearing.digests.len(), model.len());
            }
        }
    }
}
