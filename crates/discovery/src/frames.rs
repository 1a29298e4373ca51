//! Frames on a libp2p stream, and the two things that are asked there.

use std::{io, net::SocketAddr};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};
use serde::{Deserialize, Serialize};
use shoal_proto::{
    NodeId,
    codec::{self, CodecError, HEAD_BYTES, MAX_COORDINATION_BODY},
    coordination::Coordination,
};

use crate::address::MOST_ADDRESSES;

/// How many peers one answer may name.
pub(crate) const MOST_TOLD: usize = 256;
const MAX_PEERS_BODY: usize = 64 << 10;
const MAX_ASKER_BODY: usize = 1 << 10;
const ACKNOWLEDGED: u8 = codec::VERSION;

/// A coordination message on its way.
#[derive(Debug)]
pub(crate) enum Letter {
    /// A frame, ready to be sent.
    Sealed(Vec<u8>),
    /// What was received, and how many bytes it had.
    Opened(Box<Coordination>, usize),
}

/// That a letter was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged;

/// "Whom do you know? I am reached here." The answer is given by one who can tell others of the asker from then on: so of
/// two that ask the same peer, the later one hears of the earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhoIsThere {
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A member, as another member knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acquaintance {
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// One-way messages with an empty acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Letters;

/// Who is connected to whom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Introductions;

impl Letters {
    pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/shoal/coordination/1");

    /// The frame of a message.
    pub(crate) fn seal(message: &Coordination) -> Result<Vec<u8>, CodecError> {
        codec::encode(message, MAX_COORDINATION_BODY)
    }
}

impl Introductions {
    pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/shoal/introductions/1");
}

fn invalid(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads the body of one frame. Memory is taken as bytes arrive, not as the head promises.
async fn read_body<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut head = [0; HEAD_BYTES];
    io.read_exact(&mut head).await?;
    let length = codec::body_length(head, limit).map_err(invalid)?;
    let mut body = Vec::new();
    io.take(length as u64).read_to_end(&mut body).await?;
    if body.len() == length { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn expect_byte<T: AsyncRead + Unpin + Send>(io: &mut T, expected: u8) -> io::Result<()> {
    let mut byte = [0];
    io.read_exact(&mut byte).await?;
    if byte[0] == expected { Ok(()) } else { Err(invalid(CodecError::Version { theirs: byte[0] })) }
}

impl Codec for Letters {
    type Protocol = StreamProtocol;
    type Request = Letter;
    type Response = Acknowledged;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Letter>
    where
        T: AsyncRead + Unpin + Send,
    {
        let body = read_body(io, MAX_COORDINATION_BODY).await?;
        let message = codec::decode(&body).map_err(invalid)?;
        Ok(Letter::Opened(Box::new(message), body.len() + HEAD_BYTES))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Acknowledged>
    where
        T: AsyncRead + Unpin + Send,
    {
        expect_byte(io, ACKNOWLEDGED).await.map(|()| Acknowledged)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, letter: Letter) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match letter {
            Letter::Sealed(frame) => io.write_all(&frame).await,
            Letter::Opened(message, _) => io.write_all(&Self::seal(&message).map_err(invalid)?).await,
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, _: Acknowledged) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[ACKNOWLEDGED]).await
    }
}

impl Codec for Introductions {
    type Protocol = StreamProtocol;
    type Request = WhoIsThere;
    type Response = Vec<Acquaintance>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<WhoIsThere>
    where
        T: AsyncRead + Unpin + Send,
    {
        let body = read_body(io, MAX_ASKER_BODY).await?;
        let mut asked: WhoIsThere = codec::decode(&body).map_err(invalid)?;
        asked.addresses.truncate(MOST_ADDRESSES);
        Ok(asked)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<Acquaintance>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let body = read_body(io, MAX_PEERS_BODY).await?;
        let mut peers: Vec<Acquaintance> = codec::decode(&body).map_err(invalid)?;
        peers.truncate(MOST_TOLD);
        peers.iter_mut().for_each(|peer| peer.addresses.truncate(MOST_ADDRESSES));
        Ok(peers)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, asked: WhoIsThere) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&codec::encode(&asked, MAX_ASKER_BODY).map_err(invalid)?).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, peers: Vec<Acquaintance>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&codec::encode(&peers, MAX_PEERS_BODY).map_err(invalid)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use shoal_blob::Digest;
    use shoal_proto::coordination::ToMember;

    #[tokio::test]
    async fn a_letter_arrives_as_it_was_sent() {
        let message = Coordination::ToMember(ToMember::Ask { digest: Digest::Sha256([4; 32]) });
        let frame = Letters::seal(&message).unwrap();
        let mut wire = Vec::new();
        let protocol = Letters::PROTOCOL;
        Letters.write_request(&protocol, &mut wire, Letter::Sealed(frame.clone())).await.unwrap();
        let Letter::Opened(read, bytes) = Letters.read_request(&protocol, &mut Cursor::new(&wire)).await.unwrap()
        else {
            panic!("what is read is open");
        };
        assert_eq!((*read, bytes), (message, frame.len()));
        wire.pop();
        assert!(Letters.read_request(&protocol, &mut Cursor::new(&wire)).await.is_err());
        assert!(Letters.read_request(&protocol, &mut Cursor::new(&[1, 255, 255, 255, 255])).await.is_err());
    }

    #[tokio::test]
    async fn the_longest_introduction_fits_its_frame() {
        let addresses: Vec<SocketAddr> =
            vec!["[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); MOST_ADDRESSES];
        let (protocol, mut asked) = (Introductions::PROTOCOL, Vec::new());
        let asker = WhoIsThere { addresses: addresses.clone() };
        Introductions.write_request(&protocol, &mut asked, asker.clone()).await.unwrap();
        assert_eq!(Introductions.read_request(&protocol, &mut Cursor::new(&asked)).await.unwrap(), asker);

        let peers = vec![Acquaintance { node: NodeId::from_bytes([255; 32]), addresses }; MOST_TOLD];
        let mut wire = Vec::new();
        Introductions.write_response(&Introductions::PROTOCOL, &mut wire, peers.clone()).await.unwrap();
        let read = Introductions.read_response(&Introductions::PROTOCOL, &mut Cursor::new(&wire)).await.unwrap();
        assert_eq!(read, peers);
    }
}
