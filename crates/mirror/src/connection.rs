//! One connection, from its acceptance to its end.

use std::{
    convert::Infallible,
    io::{self, Read},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Failure, MirrorConfig, answer,
    loans::Loans,
    service::{Service, Shared},
    wire::{Flush, Wire},
};

/// How much hyper may hold of a body that the socket does not take, besides the last chunk.
const BUFFER_BYTES: usize = 256 << 10;
const MOST_HEADERS: usize = 100;
/// How long a connection that is refused may take to say what it wanted.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long, and for how many bytes, the mirror listens to a client after its own last word.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// The two words that end a connection from outside.
#[derive(Clone, Debug)]
pub(crate) struct Endings {
    /// Finish what is being answered, and take no more.
    pub(crate) drain: CancellationToken,
    /// End bodies short.
    pub(crate) cut: CancellationToken,
}

/// Serves a connection until it ends. One that is not admitted gets one answer: that there is no room.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    address: SocketAddr,
    admitted: bool,
    endings: Endings,
) {
    if let Err(error) = prepare(&socket, &shared.config) {
        tracing::debug!(caller = %address, %error, "a socket could not be set up");
        return;
    }
    let socket = Arc::new(socket);
    let flush = Arc::new(Flush::default());
    let loans = Arc::new(Loans::default());
    let wire = Wire::new(Arc::clone(&socket), Arc::clone(&flush), Arc::clone(&loans), shared.config.stall_timeout);
    let header_timeout = if admitted { shared.config.header_timeout } else { REFUSAL_TIMEOUT };
    let header_bytes = shared.config.max_header_bytes;
    let service = Arc::new(Service { shared, address, admitted, flush, loans, cut: endings.cut });
    let answering = service_fn(move |request: Request<Incoming>| {
        // The body of a request is of no use here. Dropping it lets hyper answer without reading it.
        let (head, _) = request.into_parts();
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(head).await) }
    });
    let mut connection = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_headers(MOST_HEADERS)
            .max_header_size(header_bytes)
            .max_buf_size(BUFFER_BYTES)
            .keep_alive(admitted)
            .serve_connection(TokioIo::new(wire), answering),
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = endings.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(caller = %address, %error, "a connection ended");
    }
    // Bodies and their readers go now; the socket stays until the client has had its say.
    drop(connection);
    close(&socket).await;
}

/// Tells a connection that there is no room, whatever it wants, and asks no more of it: it costs no task and no memory.
pub(crate) fn turn_away(socket: &TcpStream, config: &MirrorConfig) {
    let body = answer::error_text(&Failure::too_many_connections(config.max_connections), &serde_json::Value::Null);
    let length = body.len();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    // A socket that was just accepted has room for this. What its client has sent already is taken from it, or closing it
    // would be a reset; one that takes nothing is no loss.
    let socket = SockRef::from(socket);
    let mut scrap = [0; 4 << 10];
    let _ = (&*socket).read(&mut scrap);
    let _ = socket.send(text.as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

fn prepare(socket: &TcpStream, config: &MirrorConfig) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    // A client that vanished while a body waits for its next piece would otherwise never be missed.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))
}

/// Ends a connection so that the client reads all that was sent and then a clean end: closing a socket that still has
/// unread bytes, or gets more, makes the kernel reset it, and a reset throws away what the client has not read yet.
async fn close(socket: &TcpStream) {
    if SockRef::from(socket).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut left = LINGER_BYTES;
    let mut scrap = vec![0; 16 << 10];
    while left > 0 && matches!(timeout_at(deadline, socket.readable()).await, Ok(Ok(()))) {
        match socket.try_read(&mut scrap) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
