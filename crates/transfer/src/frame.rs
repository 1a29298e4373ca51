//! Letters on their way over a control stream.

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use quinn::{ReadError, RecvStream};
use shoal_blob::Digest;
use shoal_proto::{
    codec::{self, CodecError, MAX_BRIEF_HEAD, MAX_TRADE_BODY},
    topics::{Hearing, MAX_TOPIC_BYTES, Speaking},
    trade::{Envelope, Letter, MAX_MESSAGES},
};

/// How much is taken off the stream at a time, in bytes.
const READ_BYTES: usize = 64 << 10;
/// The longest messages of one frame, in bytes.
const MAX_MESSAGES_BYTES: usize = MAX_TRADE_BODY - MAX_TOPIC_BYTES;

/// What goes into one frame, encoded but for its topic: the number of the blob is chosen as the frame is written, in the
/// order of the stream.
#[derive(Debug)]
pub(crate) struct Frame {
    digest: Digest,
    messages: Vec<u8>,
    count: usize,
}

impl Frame {
    /// A letter in as few frames as hold it in its order, nearly always one.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when one message alone is too long for a frame.
    pub(crate) fn of(letter: &Letter) -> Result<Vec<Self>, CodecError> {
        let mut frames: Vec<Self> = Vec::with_capacity(1);
        for message in &letter.messages {
            let message = codec::body(message, MAX_MESSAGES_BYTES)?;
            match frames.last_mut() {
                Some(frame) if frame.has_room_for(&message) => {
                    frame.messages.extend_from_slice(&message);
                    frame.count += 1;
                }
                _ => frames.push(Self { digest: letter.digest, messages: message, count: 1 }),
            }
        }
        Ok(frames)
    }

    fn has_room_for(&self, message: &[u8]) -> bool {
        self.count < MAX_MESSAGES && self.messages.len() + message.len() <= MAX_MESSAGES_BYTES
    }

    /// How many bytes it takes while it waits.
    pub(crate) fn len(&self) -> usize {
        MAX_BRIEF_HEAD + self.messages.len()
    }

    /// The bytes to write next.
    pub(crate) fn bytes(&self, speaking: &mut Speaking) -> Vec<u8> {
        Envelope::seal(speaking.topic(self.digest), &self.messages).expect("there is room for the topic")
    }
}

/// Why no further letter comes.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The bytes are not frames, or about nothing.
    Codec(CodecError),
    /// The stream or its connection ended.
    Read(ReadError),
}

/// Takes letters off a control stream. What is half read stays here, so a reading may be given up at any time.
///
/// Invariant: never holds more than one frame and what was read along with it.
pub(crate) struct FrameReader {
    stream: RecvStream,
    unread: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, unread: BytesMut::new() }
    }

    /// The next letter and its length on the wire; `None` once the peer has finished the stream between two frames.
    pub(crate) async fn next(&mut self, hearing: &Mutex<Hearing>) -> Result<Option<(Letter, usize)>, FrameError> {
        loop {
            if let Some(letter) = self.take(hearing).map_err(FrameError::Codec)? {
                return Ok(Some(letter));
            }
            match self.stream.read_chunk(READ_BYTES, true).await.map_err(FrameError::Read)? {
                Some(chunk) => self.unread.extend_from_slice(&chunk.bytes),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(FrameError::Codec(CodecError::Malformed("it was cut short".to_owned()))),
            }
        }
    }

    fn take(&mut self, hearing: &Mutex<Hearing>) -> Result<Option<(Letter, usize)>, CodecError> {
        let Some(body) = codec::brief_body(&self.unread, MAX_TRADE_BODY)? else { return Ok(None) };
        let whole = body.end;
        if self.unread.len() < whole {
            self.unread.reserve(whole - self.unread.len());
            return Ok(None);
        }
        let Envelope { topic, messages } = Envelope::open(&self.unread[body])?;
        let digest = hearing.lock().digest(topic)?;
        self.unread.advance(whole);
        if self.unread.is_empty() && self.unread.capacity() > READ_BYTES {
            self.unread = BytesMut::new();
        }
        Ok(Some((Letter { digest, messages }, whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::trade::Message;

    /// What a reader makes of frames, together again.
    fn heard(frames: &[Frame]) -> Vec<Message> {
        let (mut speaking, mut hearing) = (Speaking::default(), Hearing::default());
        let mut all = Vec::new();
        for frame in frames {
            let bytes = frame.bytes(&mut speaking);
            let body = codec::brief_body(&bytes, MAX_TRADE_BODY).unwrap().unwrap();
            assert_eq!(body.end, bytes.len());
            let envelope = Envelope::open(&bytes[body]).unwrap();
            assert_eq!(hearing.digest(envelope.topic), Ok(frame.digest));
            all.extend(envelope.messages);
        }
        all
    }

    #[test]
    fn a_letter_takes_as_few_frames_as_hold_it() {
        let digest = Digest::Sha256([9; 32]);
        let have = Message::Have { pieces: vec![1 << 28; 4096], queue: 0 };
        let messages = |count| vec![have.clone(); count];
        for (messages, frames) in [
            (messages(1), 1),
            (messages(20), 1),
            (messages(40), 2),
            (vec![Message::Bye; MAX_MESSAGES], 1),
            (vec![Message::Bye; MAX_MESSAGES + 1], 2),
        ] {
            let letter = Letter { digest, messages };
            let split = Frame::of(&letter).unwrap();
            assert_eq!(split.len(), frames);
            assert_eq!(heard(&split), letter.messages);
        }
        let endless = Message::Lost { pieces: vec![u32::MAX; MAX_TRADE_BODY] };
        let letter = Letter { digest, messages: vec![Message::Bye, endless] };
        assert!(matches!(Frame::of(&letter), Err(CodecError::TooLong { .. })), "all of it or nothing");
    }
}
