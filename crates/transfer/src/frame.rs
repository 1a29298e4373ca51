//! Frames on their way over a control stream.

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream};
use shoal_proto::{
    codec::{self, CodecError, HEAD_BYTES, MAX_TRADE_BODY},
    trade::Envelope,
};

/// How much is taken off the stream at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

/// One control message as it goes over the wire: encoded once, sent to many, shared by all.
#[derive(Clone, Debug)]
pub struct Frame(pub(crate) Bytes);

impl Frame {
    /// Encodes a message.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] beyond [`MAX_TRADE_BODY`] bytes.
    pub fn new(envelope: &Envelope) -> Result<Self, CodecError> {
        codec::encode(envelope, MAX_TRADE_BODY).map(|frame| Self(frame.into()))
    }

    /// How many bytes it has.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no frame is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Why no further message comes.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The bytes are not frames.
    Codec(CodecError),
    /// The stream or its connection ended.
    Read(ReadError),
}

/// Takes messages off a control stream. What is half read stays here, so a reading may be given up at any time.
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

    /// The next message and its length on the wire; `None` once the peer has finished the stream between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<(Envelope, usize)>, FrameError> {
        loop {
            if let Some(message) = self.take().map_err(FrameError::Codec)? {
                return Ok(Some(message));
            }
            match self.stream.read_chunk(READ_BYTES, true).await.map_err(FrameError::Read)? {
                Some(chunk) => self.unread.extend_from_slice(&chunk.bytes),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(FrameError::Codec(CodecError::Malformed("it was cut short".to_owned()))),
            }
        }
    }

    fn take(&mut self) -> Result<Option<(Envelope, usize)>, CodecError> {
        let Some(head) = self.unread.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let whole = HEAD_BYTES + codec::body_length(*head, MAX_TRADE_BODY)?;
        if self.unread.len() < whole {
            self.unread.reserve(whole - self.unread.len());
            return Ok(None);
        }
        let message = codec::decode(&self.unread[HEAD_BYTES..whole])?;
        self.unread.advance(whole);
        if self.unread.is_empty() && self.unread.capacity() > READ_BYTES {
            self.unread = BytesMut::new();
        }
        Ok(Some((message, whole)))
    }
}
