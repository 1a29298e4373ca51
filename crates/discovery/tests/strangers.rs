//! Whoever has not the cluster key stays outside, whatever else it can do.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cluster::{LIMIT, config, eventually, keys, start};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, Transport,
    core::{transport::MemoryTransport, upgrade::Version},
    identity::Keypair,
    kad, noise,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use shoal_discovery::DiscoveryConfig;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes there and back: it could speak with any node that answered.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read_response(&StreamProtocol::new("/raw"), io).await
    }
    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut all = Vec::new();
        io.take(1 << 20).read_to_end(&mut all).await?;
        Ok(all)
    }
    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> std::io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> std::io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Stack {
    kademlia: kad::Behaviour<kad::store::MemoryStore>,
    letters: request_response::Behaviour<Raw>,
}

/// A correct libp2p node that speaks our protocols under their right names, and knows no key.
fn stranger() -> Swarm<Stack> {
    let keypair = Keypair::generate_ed25519();
    let me = keypair.public().to_peer_id();
    let transport = tcp::tokio::Transport::new(tcp::Config::new())
        .or_transport(MemoryTransport::default())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let mut kademlia = kad::Behaviour::with_config(
        me,
        kad::store::MemoryStore::new(me),
        kad::Config::new(StreamProtocol::new("/shoal/kad/1")),
    );
    kademlia.set_mode(Some(kad::Mode::Server));
    let protocols = ["/shoal/coordination/1", "/shoal/introductions/1"]
        .map(|name| (StreamProtocol::new(name), ProtocolSupport::Full));
    let letters = request_response::Behaviour::new(protocols, request_response::Config::default());
    let how = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, Stack { kademlia, letters }, me, how)
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port()).parse().unwrap()
}

/// What a stranger achieves against a peer: whether it was answered anything.
async fn try_everything(peer: PeerId, address: Multiaddr) -> Vec<String> {
    let mut swarm = stranger();
    swarm.behaviour_mut().kademlia.add_address(&peer, address.clone());
    swarm.behaviour_mut().kademlia.get_closest_peers(PeerId::random());
    let letters = &mut swarm.behaviour_mut().letters;
    letters.send_request_with_addresses(&peer, vec![1], vec![address.clone()]);
    let mut answers = Vec::new();
    let (mut asked_again, mut closed, mut query_done) = (false, false, false);
    let watch = async {
        while !(closed && query_done) {
            match swarm.select_next_some().await {
                // Its own side thinks that it is connected: our admission looks to it like a slow start of yamux.
                SwarmEvent::ConnectionEstablished { .. } if !asked_again => {
                    asked_again = true;
                    swarm.behaviour_mut().letters.send_request(&peer, vec![1; 100]);
                }
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => closed = true,
                SwarmEvent::Behaviour(StackEvent::Letters(request_response::Event::Message { message, .. })) => {
                    answers.push(format!("{message:?}"));
                    closed = true;
                }
                SwarmEvent::Behaviour(StackEvent::Kademlia(event)) => match event {
                    kad::Event::OutboundQueryProgressed { result, stats, .. } => {
                        query_done = true;
                        if stats.num_successes() > 0 {
                            answers.push(format!("{result:?}"));
                        }
                    }
                    kad::Event::InboundRequest { .. } => answers.push(format!("{event:?}")),
                    _ => {}
                },
                _ => {}
            }
        }
    };
    // Silence is as good as a closed door.
    let _ = tokio::time::timeout(Duration::from_secs(15), watch).await;
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_a_whole_libp2p_stack_gets_no_answer() {
    let mut first = start(DiscoveryConfig { handshake_timeout: Duration::from_secs(1), ..config(1, &[]) }).await;
    let mut second = start(config(2, &first.bootstrap())).await;
    second.joined().await;
    first.sees(&[second.id()]).await;

    let mut peer = [0; 38];
    peer[..6].copy_from_slice(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    peer[6..].copy_from_slice(first.id().as_bytes());
    let peer = PeerId::from_bytes(&peer).unwrap();
    let answers = try_everything(peer, multiaddr(first.address())).await;
    assert_eq!(answers, Vec::<String>::new());
    assert_eq!(first.discovery.live(), [second.id()], "and is seen by nobody");
    let refused = || {
        let counts = first.discovery.counters().read();
        counts.refused_protocol + counts.refused_timeout + counts.refused_version
    };
    eventually("the refusal is counted", || refused() > 0).await;
    assert_eq!(first.discovery.counters().read().messages_in, 0);

    // The same stranger does get answers from its like: what failed above is not the stranger.
    let mut like = stranger();
    like.listen_on("/memory/0".parse().unwrap()).unwrap();
    let SwarmEvent::NewListenAddr { address, .. } = like.select_next_some().await else { panic!("listens") };
    let like_id = *like.local_peer_id();
    let serve = tokio::spawn(async move {
        loop {
            like.select_next_some().await;
        }
    });
    assert!(!try_everything(like_id, address).await.is_empty());
    serve.abort();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn another_cluster_key_stays_out_and_both_sides_say_why() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let inside = start(config(1, &[])).await;
    let outside = start(DiscoveryConfig { keys: keys('b'), ..config(2, &inside.bootstrap()) }).await;
    let refused = |member: &cluster::Member| member.discovery.counters().read().refused_key;
    eventually("both count it", || refused(&inside) > 0 && refused(&outside) > 0).await;
    let text = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let listener = format!("node {} has another cluster key than this daemon", outside.id());
    let dialer = format!("node {} refused this daemon: the peer has another cluster key", inside.id());
    eventually("both say why", || text().contains(&listener) && text().contains(&dialer)).await;
    assert!(inside.discovery.live().is_empty() && outside.discovery.live().is_empty());
    assert_eq!(inside.discovery.counters().read().admitted, 0);
}

/// Strangers that say nothing hold a bounded number of places, for a bounded time.
#[tokio::test]
async fn silent_strangers_cost_bounded_work() {
    let limited =
        DiscoveryConfig { max_pending_inbound: 4, handshake_timeout: Duration::from_millis(500), ..config(1, &[]) };
    let mut node = start(limited).await;
    let mut crowd = Vec::new();
    for _ in 0..12 {
        crowd.push(tokio::net::TcpStream::connect(node.address()).await.unwrap());
    }
    let counts = || node.discovery.counters().read();
    eventually("the rest are turned away", || counts().refused_busy >= 8).await;
    eventually("the silent are dropped", || counts().refused_protocol >= 4).await;
    let mut member = start(config(2, &node.bootstrap())).await;
    member.joined().await;
    node.sees(&[member.id()]).await;
    drop(crowd);
}

/// Beyond a node's identity, nothing is learnt by dialling: it listens, and shows a version, a nonce and one byte.
#[tokio::test]
async fn a_dial_without_identity_learns_nothing() {
    let node = start(DiscoveryConfig { handshake_timeout: Duration::from_millis(500), ..config(1, &[]) }).await;
    let mut other = stranger();
    other.dial(DialOpts::unknown_peer_id().address(multiaddr(node.address())).build()).unwrap();
    let ended = async {
        loop {
            match other.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("the door closes");
    assert!(node.discovery.live().is_empty());
}
