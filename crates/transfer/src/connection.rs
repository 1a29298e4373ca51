//! The life of one admitted connection.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use quinn::{ReadError, ReadExactError, RecvStream};
use shoal_proto::{
    PieceHeader,
    codec::{self, CodecError, MAX_BRIEF_HEAD, MAX_PIECE_HEADER},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    AdmissionError, Disconnect, Event, IncomingPiece, Peer, Refusal,
    admission::Admitted,
    bare, close,
    context::Context,
    counters::add,
    frame::{Frame, FrameError, FrameReader},
    table::Table,
};

/// An admitted connection that is not in the table yet.
pub(crate) struct Newcomer {
    pub(crate) peer: Peer,
    queue: mpsc::Receiver<Frame>,
    send: quinn::SendStream,
    recv: RecvStream,
    answer: Vec<u8>,
}

/// What came of a piece stream's head.
enum Head {
    Piece(IncomingPiece),
    Broken(CodecError),
    /// It came too late, is of no blob that was spoken of, or the sender gave it up.
    Nothing,
}

impl Newcomer {
    pub(crate) fn new(admitted: Admitted, context: Arc<Context>) -> Self {
        let Admitted { connection, node, life, send, recv, answer } = admitted;
        let (peer, queue) = Peer::new(connection, node, life, context);
        Self { peer, queue, send, recv, answer }
    }

    /// Lets the connection live: the listener's answer goes out, streams are taken, events come.
    pub(crate) fn live(self, predecessor: Option<CancellationToken>, table: Arc<Table>, events: mpsc::Sender<Event>) {
        let Self { peer, queue, send, recv, answer } = self;
        let context = Arc::clone(&peer.0.context);
        let config = &context.config;
        let window = context.links.window(config.connection_window, peer.rtt());
        bare::widen_to(&peer.0.connection, config, window);
        let link = Arc::clone(&peer.0);
        context.writers.spawn(async move { link.write(send, queue, answer).await });
        context.tasks.spawn(run(peer, FrameReader::new(recv), predecessor, table, events));
    }
}

/// Tells the owner, in order, all that a connection has to say.
async fn run(
    peer: Peer,
    frames: FrameReader,
    predecessor: Option<CancellationToken>,
    table: Arc<Table>,
    events: mpsc::Sender<Event>,
) {
    if let Some(retired) = predecessor {
        retired.cancelled().await;
    }
    let counters = &peer.0.context.counters;
    add(&counters.connections, 1);
    tracing::debug!(peer = %peer.node(), addr = %peer.addr(), "connected");
    let why = match events.send(Event::Connected(peer.clone())).await {
        Ok(()) => serve(&peer, frames, &events).await,
        Err(_) => Disconnect::Closed,
    };
    peer.close_for(why.clone());
    table.ended(&peer);
    counters.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    tracing::debug!(peer = %peer.node(), %why, "disconnected");
    let _ = events.send(Event::Disconnected { node: peer.node(), why }).await;
    table.retired(&peer);
}

/// Hears a peer until its connection ends, and says why it did.
async fn serve(peer: &Peer, mut frames: FrameReader, events: &mpsc::Sender<Event>) -> Disconnect {
    let context = &peer.0.context;
    let mut heads = FuturesUnordered::new();
    let mut streams_end = false;
    loop {
        let event = tokio::select! {
            letter = frames.next(&peer.0.hearing) => match letter {
                Ok(Some((letter, bytes))) => {
                    add(&context.counters.control_bytes_received, bytes);
                    Event::Message { from: peer.node(), letter }
                }
                Ok(None) => return Disconnect::PeerLeft,
                Err(error) => return ended(peer, error),
            },
            stream = peer.0.connection.accept_uni(), if !streams_end => {
                match stream {
                    Ok(stream) => heads.push(head(peer.clone(), stream)),
                    // What the peer said before the end is still to be heard: the control stream tells it, and then why.
                    Err(_) => streams_end = true,
                }
                continue;
            }
            Some(head) = heads.next() => match head {
                Head::Piece(piece) => Event::Piece(piece),
                Head::Broken(error) => return Disconnect::Broken(error),
                Head::Nothing => continue,
            },
        };
        if events.send(event).await.is_err() {
            return Disconnect::Closed;
        }
    }
}

fn ended(peer: &Peer, error: FrameError) -> Disconnect {
    match error {
        FrameError::Codec(error) => Disconnect::Broken(error),
        FrameError::Read(ReadError::ConnectionLost(error)) => peer.why(&error),
        FrameError::Read(_) => {
            Disconnect::Broken(CodecError::Malformed("the peer reset the control stream".to_owned()))
        }
    }
}

/// Reads the head of a piece's stream.
async fn head(peer: Peer, mut stream: RecvStream) -> Head {
    let limit = peer.0.context.config.header_timeout;
    let reading = async {
        let mut frame = [0; MAX_BRIEF_HEAD + MAX_PIECE_HEADER];
        let mut read = 0;
        // A byte at a time, one or two: what follows the frame is the piece.
        let body = loop {
            stream.read_exact(&mut frame[read..=read]).await?;
            read += 1;
            match codec::brief_body(&frame[..read], MAX_PIECE_HEADER) {
                Ok(Some(body)) => break body,
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        };
        stream.read_exact(&mut frame[body.clone()]).await?;
        Ok::<_, ReadExactError>(codec::decode::<(u16, PieceHeader)>(&frame[body]))
    };
    match timeout(limit, reading).await {
        Ok(Ok(Ok((number, header)))) => {
            let named = peer.0.speaking.lock().digest(number);
            if let Some(digest) = named {
                Head::Piece(IncomingPiece::new(peer, digest, header, stream))
            } else {
                let _ = stream.stop(Refusal::Unwanted.code());
                Head::Nothing
            }
        }
        Ok(Ok(Err(error))) => Head::Broken(error),
        Ok(Err(ReadExactError::FinishedEarly(_))) => {
            Head::Broken(CodecError::Malformed("a piece's stream ended in its head".to_owned()))
        }
        Ok(Err(ReadExactError::ReadError(_))) => Head::Nothing,
        Err(_) => {
            let _ = stream.stop(Refusal::Cancelled.code());
            Head::Nothing
        }
    }
}

/// Puts a connection that this node dialled into the table, and gives the one that is to be used.
pub(crate) fn settle_dialled(newcomer: Newcomer, table: &Arc<Table>, events: &mpsc::Sender<Event>) -> Peer {
    let peer = newcomer.peer.clone();
    match table.dialled(peer.clone()) {
        Ok(predecessor) => {
            newcomer.live(predecessor, Arc::clone(table), events.clone());
            peer
        }
        Err(live) => {
            close::refuse(&peer.0.connection, &AdmissionError::Duplicate);
            live
        }
    }
}
