//! A library in memory, a mirror before it, and two clients: reqwest, and bare sockets.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part; a test may panic")]

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::Digest as _;
use shoal_blob::{Digest, Reference};
use shoal_mirror::{
    Ask, Audit, BlobInfo, ByteStream, Chunk, Failure, Library, Manifest, Mirror, MirrorConfig, MirrorCounts, ReadEnded,
    Relay, Relayed, Source,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// What no test may take longer than.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Open = Box<dyn Fn(Range<u64>) -> Result<ByteStream, Failure> + Send + Sync>;
/// What most tests give: bytes.
pub(crate) type Plain = BoxStream<'static, Result<Bytes, ReadEnded>>;

/// One blob, one manifest, and failures on demand.
pub(crate) struct Fake {
    pub(crate) length: u64,
    pub(crate) digest: Digest,
    pub(crate) open: Open,
    pub(crate) manifest: Bytes,
    pub(crate) warning: Option<String>,
    /// What every question is answered with, where set.
    pub(crate) failure: Mutex<Option<Failure>>,
    pub(crate) relayed: Mutex<Option<Relayed>>,
    /// `repository what caller` of every question.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Kept while a question for a blob waits for ever.
    pub(crate) hang: Option<Mutex<Option<Gone>>>,
}

/// Says when it is dropped.
pub(crate) struct Gone(pub(crate) Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.take().map(|sender| sender.send(()));
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::Sha256(sha2::Sha256::digest(bytes).into())
}

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json; Odd=\"yes\"";

impl Fake {
    /// Serves `data` in chunks of 1000 bytes, with empty ones between.
    pub(crate) fn of(data: Vec<u8>) -> Self {
        let (digest, data) = (digest_of(&data), Bytes::from(data));
        let length = data.len() as u64;
        Self::reading(digest, length, move |range| {
            let part = data.slice(range.start as usize..range.end as usize);
            let chunks = (0..part.len().div_ceil(1000))
                .flat_map(move |at| [Ok(Bytes::new()), Ok(part.slice(at * 1000..part.len().min((at + 1) * 1000)))]);
            Ok(stream::iter(chunks).boxed())
        })
    }

    pub(crate) fn reading(
        digest: Digest,
        length: u64,
        open: impl Fn(Range<u64>) -> Result<Plain, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::giving(digest, length, move |range| Ok(open(range)?.map(|bytes| bytes.map(Chunk::from)).boxed()))
    }

    pub(crate) fn giving(
        digest: Digest,
        length: u64,
        open: impl Fn(Range<u64>) -> Result<ByteStream, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            length,
            digest,
            open: Box::new(open),
            manifest: Bytes::from_static(b"{\"schemaVersion\": 2}\n"),
            warning: None,
            failure: Mutex::new(None),
            relayed: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
            hang: None,
        }
    }

    fn ask(&self, ask: &Ask, what: &str) -> Result<(), Failure> {
        let authorization = ask.caller.authorization.as_ref().map_or("", |value| value.to_str().unwrap());
        self.asked.lock().unwrap().push(format!("{} {what} {authorization}", ask.repository).trim_end().to_owned());
        assert!(ask.caller.address.ip().is_loopback());
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Library for Fake {
    async fn manifest(&self, ask: &Ask, reference: &Reference, head: bool) -> Result<Manifest, Failure> {
        self.ask(ask, &format!("manifest {reference} {head}"))?;
        Ok(Manifest {
            content_type: HeaderValue::from_static(MANIFEST_TYPE),
            digest: digest_of(&self.manifest),
            length: self.manifest.len() as u64,
            bytes: (!head).then(|| self.manifest.clone()),
            source: Source::Origin,
            warning: self.warning.clone(),
        })
    }

    async fn blob(&self, ask: &Ask, digest: &Digest) -> Result<BlobInfo, Failure> {
        self.ask(ask, &format!("blob {digest}"))?;
        if let Some(hang) = &self.hang {
            let _kept = hang.lock().unwrap().take();
            std::future::pending::<()>().await;
        }
        if *digest == self.digest { Ok(BlobInfo { length: self.length }) } else { Err(Failure::BlobUnknown) }
    }

    async fn read(&self, _: &Ask, digest: &Digest, range: Range<u64>) -> Result<ByteStream, Failure> {
        assert_eq!(*digest, self.digest);
        assert!(range.start < range.end && range.end <= self.length, "{range:?}");
        (self.open)(range)
    }

    async fn relay(&self, ask: &Ask, what: &Relay, query: &str) -> Result<Relayed, Failure> {
        self.ask(ask, &format!("{what:?} {query:?}"))?;
        Ok(self.relayed.lock().unwrap().clone().unwrap_or_else(|| Relayed {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        }))
    }
}

/// A stream of these chunks, which then fails.
pub(crate) fn failing(chunks: Vec<Bytes>) -> Plain {
    let end = ReadEnded(Failure::OriginUnreachable { reason: "the test said so".to_owned() });
    stream::iter(chunks.into_iter().map(Ok).chain([Err(end)])).boxed()
}

/// A mirror that runs.
pub(crate) struct House {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<MirrorCounts>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl House {
    pub(crate) async fn new(fake: Fake) -> Self {
        Self::with(fake, MirrorConfig::default()).await
    }

    pub(crate) async fn with(fake: Fake, config: MirrorConfig) -> Self {
        Self::telling(fake, config, None).await
    }

    pub(crate) async fn telling(fake: Fake, config: MirrorConfig, audit: Option<Arc<dyn Audit>>) -> Self {
        let fake = Arc::new(fake);
        let mirror = Mirror::new(Arc::clone(&fake) as Arc<dyn Library>, config).unwrap();
        let mirror = match audit {
            Some(audit) => mirror.told_to(audit),
            None => mirror,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, counts, shutdown) = (listener.local_addr().unwrap(), mirror.counts(), CancellationToken::new());
        let token = shutdown.clone();
        let serving = tokio::spawn(async move { mirror.serve(listener, token).await });
        Self { fake, address, counts, shutdown, serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn blob_path(&self) -> String {
        format!("/v2/a/blobs/{}?ns=r.io", self.fake.digest)
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(reqwest::Method::GET, path, headers).await
    }

    pub(crate) async fn ask(&self, method: reqwest::Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers
            .iter()
            .fold(client().request(method, self.url(path)), |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap(),
        }
    }

    /// Opens a bare connection and sends `text`.
    pub(crate) async fn send(&self, text: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        socket
    }

    /// Opens a bare connection with a small receive buffer and asks for the blob.
    pub(crate) async fn send_get(&self, receive_buffer: u32) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(receive_buffer).unwrap();
        let mut socket = socket.connect(self.address).await.unwrap();
        socket.write_all(self.get_text().as_bytes()).await.unwrap();
        socket
    }

    pub(crate) fn get_text(&self) -> String {
        format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", self.blob_path())
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Fails when something takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it took too long")
}

/// Waits until a condition holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Reads the head of an answer and returns it, leaving the body in the socket.
pub(crate) async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(socket.read_u8()).await.expect("the head is not whole"));
    }
    String::from_utf8(head).unwrap()
}

/// Reads to the end of the stream; a reset is an error.
pub(crate) async fn read_rest(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon(socket.read_to_end(&mut bytes)).await.map(|_| bytes)
}
