//! The system's calls that put bytes on a socket without copying them, and what stands in for them elsewhere.

#[cfg(target_os = "linux")]
pub(crate) use linux::{transmit, write_more};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{transmit, write_more};

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs::File,
        io::{self, IoSlice},
    };

    use rustix::{
        io::retry_on_intr,
        net::{SendAncillaryBuffer, SendFlags},
    };
    use tokio::net::TcpStream;

    /// Sends up to `most` bytes of a file; 0 where it ends.
    pub(crate) fn transmit(socket: &TcpStream, file: &File, from: u64, most: usize) -> io::Result<usize> {
        let send = || {
            let mut offset = from;
            rustix::fs::sendfile(socket, file, Some(&mut offset), most)
        };
        Ok(retry_on_intr(send)?)
    }

    /// Writes bytes that others follow at once: they share a packet.
    pub(crate) fn write_more(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        Ok(retry_on_intr(|| rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags))?)
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::{
        fs::File,
        io::{self, IoSlice, Write},
        os::unix::fs::FileExt,
    };

    use socket2::SockRef;
    use tokio::net::TcpStream;

    const STEP: usize = 64 << 10;

    pub(crate) fn transmit(socket: &TcpStream, file: &File, from: u64, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; STEP.min(most)];
        let read = file.read_at(&mut bytes, from)?;
        if read == 0 { Ok(0) } else { (&*SockRef::from(socket)).write(&bytes[..read]) }
    }

    pub(crate) fn write_more(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*SockRef::from(socket)).write_vectored(slices)
    }
}
