//! The cheapest client there is: it asks once, reads, and keeps nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};

/// How long no byte may come.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER: usize = 1 << 20;

/// Gets a path and throws the body away, all of whose `bytes` must come. Blocks.
pub(super) fn get(server: SocketAddr, path: &str, range: Option<&str>, bytes: u64) -> anyhow::Result<()> {
    let asked = || {
        let came = Body::ask(server, path, range)?.read(u64::MAX)?;
        ensure!(came == bytes, "{came} of {bytes} bytes came");
        Ok(())
    };
    asked().with_context(|| format!("GET http://{server}{path}"))
}

/// Asks for everything from `from` on, reads `bytes` of it and leaves. Blocks.
pub(super) fn get_and_leave(server: SocketAddr, path: &str, from: u64, bytes: u64) -> anyhow::Result<()> {
    let asked = || {
        let came = Body::ask(server, path, Some(&format!("bytes={from}-")))?.read(bytes)?;
        ensure!(came == bytes, "{came} of {bytes} bytes came");
        Ok(())
    };
    asked().with_context(|| format!("GET http://{server}{path} from {from}"))
}

/// The body of an answer whose head has been read.
struct Body {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What came of it with the head.
    early: u64,
}

impl Body {
    fn ask(server: SocketAddr, path: &str, range: Option<&str>) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n{range}Connection: close\r\n\r\n");
        socket.write_all(head.as_bytes())?;
        let mut buffer = vec![0; BUFFER];
        let mut held = 0;
        let head = loop {
            let read = socket.read(&mut buffer[held..])?;
            ensure!(read > 0, "the head of the answer is not whole");
            held += read;
            if let Some(end) = buffer[..held].windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let status = String::from_utf8_lossy(&buffer[..head.min(13)]).into_owned();
        ensure!(status.starts_with("HTTP/1.1 20"), "the answer is {status}");
        Ok(Self { socket, buffer, early: (held - head) as u64 })
    }

    /// Reads up to `most` bytes and throws them away; returns how many came.
    fn read(mut self, most: u64) -> anyhow::Result<u64> {
        let mut came = self.early.min(most);
        while came < most {
            let room = usize::try_from(most - came).unwrap_or(BUFFER).min(BUFFER);
            match self.socket.read(&mut self.buffer[..room])? {
                0 => break,
                read => came += read as u64,
            }
        }
        Ok(came)
    }
}
