//! An HTTP client for daemons and registries on this machine: plain HTTP/1.1, one connection a request.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long the connection and the answer's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one more part of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The most of an answer that is kept in memory.
const MOST_TEXT: usize = 16 << 20;

/// An answer whose body comes as it is asked for.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
}

/// Asks for `url`, from the byte `from` on where one is given, with the media types of manifests accepted.
///
/// # Errors
/// When the URL is not plain HTTP, or nobody answers within a minute.
pub async fn get(url: &str, from: Option<u64>) -> anyhow::Result<Answer> {
    let range = from.map(|from| (header::RANGE, format!("bytes={from}-")));
    send(Method::GET, url, range.as_slice()).await
}

/// Sends a request without a body, with these headers beside those that [`get`] sends.
///
/// # Errors
/// As [`get`].
pub async fn send(method: Method, url: &str, headers: &[(HeaderName, String)]) -> anyhow::Result<Answer> {
    let asked = async {
        let uri: Uri = url.parse().context("it is not a URL")?;
        if uri.scheme_str() != Some("http") {
            bail!("only plain http is spoken here");
        }
        let authority = uri.authority().context("it names no host")?;
        let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends when the answer's body has been read or dropped.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::HOST, authority.as_str())
            .header(header::USER_AGENT, concat!("shoal-demo/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, ACCEPT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let (head, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let answer = timeout(HEAD_TIMEOUT, asked).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in a minute")));
    answer.with_context(|| format!("{method} {url}"))
}

/// The text at `url`, 16 MiB at most, where the answer is 200.
///
/// # Errors
/// As [`get`], and with any other status, which the message names.
pub async fn text(url: &str) -> anyhow::Result<String> {
    let answer = get(url, None).await?;
    let status = answer.status;
    let text = String::from_utf8_lossy(&answer.whole().await.with_context(|| format!("GET {url}"))?).into_owned();
    if status != StatusCode::OK {
        bail!("GET {url}: {status}: {}", text.trim());
    }
    Ok(text)
}

impl Answer {
    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    /// When the body ends before its length, or no part comes for a minute.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match timeout(BODY_TIMEOUT, self.body.frame()).await.context("no byte came for a minute")? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body, 16 MiB at most.
    ///
    /// # Errors
    /// When it is longer, ends early or takes more than a minute.
    pub async fn whole(self) -> anyhow::Result<Bytes> {
        let limited = Limited::new(self.body, MOST_TEXT).collect();
        let body = timeout(BODY_TIMEOUT, limited).await.context("the answer took more than a minute")?;
        Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
    }
}

const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";
