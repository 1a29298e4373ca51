//! One request over a bare connection: how its answer ends is seen as it is on the wire.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::soon;

/// A connection on which one request was sent.
pub(crate) struct Conversation {
    socket: TcpStream,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
}

impl Head {
    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }
}

impl Conversation {
    /// Connects, and says this.
    pub(crate) async fn begin(server: SocketAddr, text: &str) -> io::Result<Self> {
        let mut socket = TcpStream::connect(server).await?;
        socket.write_all(text.as_bytes()).await?;
        Ok(Self { socket })
    }

    /// Asks for what is at `url`, a part of it where `range` says so.
    pub(crate) async fn get(url: &str, range: Option<&str>) -> io::Result<Self> {
        let (server, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
        let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
        Self::begin(server.parse().unwrap(), &format!("GET /{path} HTTP/1.1\r\nHost: {server}\r\n{range}\r\n")).await
    }

    /// Reads the head, and nothing of the body.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the head of an answer", self.socket.read_u8()).await?);
        }
        let text = String::from_utf8(head).unwrap();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Ok(Head { status, text })
    }

    /// Reads that many bytes of the body.
    pub(crate) async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        soon("a part of a body", self.socket.read_exact(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Reads to the end of the stream; a reset is an error.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        soon("the end of a body", self.socket.read_to_end(&mut bytes)).await?;
        Ok(bytes)
    }
}
