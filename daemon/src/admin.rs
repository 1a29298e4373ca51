//! The admin server: what an operator, a scraper and a probe ask of a node.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize};
use shoal_blob::Digest;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The most connections at once; further ones wait.
const MOST_CONNECTIONS: usize = 64;
/// How long a request's head may take, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one connection may last, so that nobody holds a place for ever.
const LONGEST_CONNECTION: Duration = Duration::from_secs(600);
/// The most blobs in one answer.
pub const MOST_BLOBS: usize = 1000;

/// What a node knows about itself, asked at each request. Both calls are short and do not block.
pub trait Figures: Send + Sync + 'static {
    /// Brings the metrics that are not counted as things happen up to date. One call at a time.
    fn refresh(&self, metrics: &Metrics);

    /// The blobs that are at hand, the most recently used first, at most `most`; only that one where a digest is given.
    fn blobs(&self, only: Option<&Digest>, most: usize) -> Vec<BlobFigures>;
}

/// What a node has of one blob, and where from, since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobFigures {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// How many pieces it has.
    pub pieces: u32,
    /// How many of them are held, verified.
    pub held_pieces: u32,
    /// Body bytes of it that the origin sent to this node, those asked for twice included.
    pub bytes_from_origin: u64,
    /// Bytes of its pieces that peers sent to this node.
    pub bytes_from_peers: u64,
    /// Whether it is here whole and its chain is proven.
    pub complete: bool,
}

/// What the admin server shows.
#[derive(Clone)]
pub struct Admin {
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The node's own knowledge.
    pub figures: Arc<dyn Figures>,
    /// Whether the node is ready.
    pub ready: watch::Receiver<bool>,
}

#[derive(Clone)]
struct Shown {
    admin: Admin,
    /// One scrape at a time: `refresh` adds what was counted elsewhere since the last.
    scraping: Arc<parking_lot::Mutex<()>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("ready", &self.ready).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct Which {
    digest: Option<Digest>,
}

impl Admin {
    /// Serves on `listener` until `stop` is cancelled, then closes all connections.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let routes = self.routes();
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let service = TowerToHyperService::new(routes.clone());
                        let mut server = hyper::server::conn::http1::Builder::new();
                        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 << 10);
                        connections.spawn(async move {
                            let served = server.serve_connection(TokioIo::new(stream), service);
                            if let Ok(Err(error)) = tokio::time::timeout(LONGEST_CONNECTION, served).await {
                                tracing::debug!(%error, "a connection to the admin server ended early");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Mostly a lack of file descriptors, which passes as connections end.
                        tracing::warn!(%error, "the admin server did not get a connection and tries again");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop(listener);
        connections.shutdown().await;
    }

    fn routes(self) -> Router {
        let shown = Shown { admin: self, scraping: Arc::default() };
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readiness))
            .route("/blobs", get(blobs))
            .with_state(shown)
    }
}

/// Listens, for [`Admin::serve`].
///
/// # Errors
/// When the address cannot be listened on; the message names the setting.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let refused = |error: io::Error| anyhow::anyhow!("`admin_listen` = {address}: cannot listen there: {error}");
    TcpListener::bind(address).await.map_err(refused)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = {
        let _one = shown.scraping.lock();
        shown.admin.figures.refresh(&shown.admin.metrics);
        shown.admin.metrics.render()
    };
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

async fn readiness(State(shown): State<Shown>) -> Response {
    if *shown.admin.ready.borrow() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn blobs(State(shown): State<Shown>, Query(which): Query<Which>) -> Response {
    let mut blobs = shown.admin.figures.blobs(which.digest.as_ref(), MOST_BLOBS);
    blobs.truncate(MOST_BLOBS);
    match serde_json::to_vec(&blobs) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch;

    struct Two;

    impl Figures for Two {
        fn refresh(&self, metrics: &Metrics) {
            metrics.peers_connected.set(3);
        }

        fn blobs(&self, only: Option<&Digest>, most: usize) -> Vec<BlobFigures> {
            let of = |byte| BlobFigures {
                digest: Digest::Sha256([byte; 32]),
                length: 10,
                pieces: 1,
                held_pieces: 1,
                bytes_from_origin: 0,
                bytes_from_peers: 10,
                complete: true,
            };
            (0..=255).map(of).filter(|blob| only.is_none_or(|only| *only == blob.digest)).take(most).collect()
        }
    }

    #[tokio::test]
    async fn shows_what_the_node_knows() {
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (ready, seen) = watch::channel(false);
        let stop = CancellationToken::new();
        let admin = Admin { metrics: Arc::new(Metrics::new()), figures: Arc::new(Two), ready: seen };
        let serving = tokio::spawn(admin.serve(listener, stop.clone()));

        let status = async |path: &str| fetch::get(&format!("{url}{path}"), None).await.unwrap().status;
        assert_eq!(status("/healthz").await, StatusCode::OK);
        assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        ready.send(true).unwrap();
        assert_eq!(status("/readyz").await, StatusCode::OK);
        assert_eq!(status("/nothing").await, StatusCode::NOT_FOUND);
        assert_eq!(status("/blobs?digest=sha256:xyz").await, StatusCode::BAD_REQUEST);

        let text = fetch::text(&format!("{url}/metrics")).await.unwrap();
        assert!(text.contains("shoal_peers_connected 3\n"), "{text}");
        let all: Vec<BlobFigures> = serde_json::from_str(&fetch::text(&format!("{url}/blobs")).await.unwrap()).unwrap();
        assert_eq!(all.len(), 256);
        let digest = Digest::Sha256([7; 32]);
        let one = fetch::text(&format!("{url}/blobs?digest={digest}")).await.unwrap();
        let one: Vec<BlobFigures> = serde_json::from_str(&one).unwrap();
        assert_eq!(one, Two.blobs(Some(&digest), 1));

        stop.cancel();
        serving.await.unwrap();
        assert!(fetch::get(&format!("{url}/healthz"), None).await.is_err());
    }
}
