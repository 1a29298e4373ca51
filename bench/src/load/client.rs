//! A client that keeps its connection: it asks for one range after another.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

/// How long no byte may come.
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 256 << 10;
/// How many bytes at both ends of a range are kept, to be looked at.
pub(super) const KEPT: usize = 32;

/// One connection.
pub(super) struct Client {
    server: SocketAddr,
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// The first and the last bytes of a range.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
}

impl Client {
    pub(super) fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self { server, socket, buffer: vec![0; BUFFER] })
    }

    /// Reads `length` bytes from `from` on, [`KEPT`] at least, and throws away all but the ends.
    ///
    /// # Errors
    /// When the answer is anything but exactly these bytes.
    pub(super) fn read(&mut self, path: &str, from: u64, length: u64) -> anyhow::Result<Ends> {
        let last = from + length - 1;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nRange: bytes={from}-{last}\r\n\r\n", self.server);
        self.socket.write_all(request.as_bytes())?;
        let mut held = 0;
        let body = loop {
            let read = self.socket.read(&mut self.buffer[held..])?;
            ensure!(read > 0, "the connection ended before an answer");
            held += read;
            if let Some(end) = self.buffer[..held].windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..body]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 206 "), "{}", head.lines().next().unwrap_or_default());
        match header(&head, "content-length").and_then(|value| value.parse::<u64>().ok()) {
            Some(told) if told == length => {}
            told => bail!("Content-Length is {told:?} for {length} bytes"),
        }
        let range = header(&head, "content-range").unwrap_or_default();
        ensure!(range.starts_with(&format!("bytes {from}-{last}/")), "Content-Range is {range}");
        ensure!((held - body) as u64 <= length, "more came than the range has");
        let mut ends = Ends { first: Vec::new(), last: Vec::new() };
        ends.push(&self.buffer[body..held]);
        let mut left = length - (held - body) as u64;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let read = self.socket.read(&mut self.buffer[..room])?;
            ensure!(read > 0, "the body ended {left} bytes short");
            ends.push(&self.buffer[..read]);
            left -= read as u64;
        }
        Ok(ends)
    }
}

impl Ends {
    fn push(&mut self, bytes: &[u8]) {
        let lacking = KEPT - self.first.len();
        self.first.extend(bytes.iter().take(lacking));
        self.last.extend(&bytes[bytes.len().saturating_sub(KEPT)..]);
        self.last.drain(..self.last.len().saturating_sub(KEPT));
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_kept_however_the_bytes_come() {
        let data: Vec<u8> = (0..200).collect();
        for step in [1, 7, 31, 32, 33, 200] {
            let mut ends = Ends { first: Vec::new(), last: Vec::new() };
            data.chunks(step).for_each(|part| ends.push(part));
            assert_eq!((&ends.first[..], &ends.last[..]), (&data[..KEPT], &data[200 - KEPT..]), "{step}");
        }
    }
}
