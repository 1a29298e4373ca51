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
        let mut came = (held - head) as u64;
        loop {
            match socket.read(&mut buffer)? {
                0 => break,
                read => came += read as u64,
            }
        }
        ensure!(came == bytes, "{came} of {bytes} bytes came");
        Ok(())
    };
    asked().with_context(|| format!("GET http://{server}{path}"))
}
