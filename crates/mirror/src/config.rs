//! The mirror's settings, each with a default that suits a node.

use std::time::Duration;

/// The mirror's limits and delays. All of them are fixed while the mirror runs.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// The registry that is meant by a request that names none, as Docker's `registry-mirrors` send them; `None` refuses
    /// such requests. Default: `docker.io`.
    pub default_registry: Option<String>,
    /// How many connections are served at once; those beyond get `503`. Default: 1024.
    pub max_connections: usize,
    /// How many blob bodies are sent at once; requests beyond get `503`. Default: 512.
    pub max_readers: usize,
    /// The longest request head, in bytes, with all its headers. Default: 32 KiB.
    pub max_header_bytes: usize,
    /// How long a client may take to send a request head, and how long a connection may idle. Default: 30 s.
    pub header_timeout: Duration,
    /// How long the library may take until the answer's headers can go out; then it is `504`. Default: 25 s, because
    /// containerd waits for 30 s.
    pub answer_within: Duration,
    /// How long a blob's headers are held back for its first bytes, so that a failure before them can still be told with
    /// a status. Default: 5 s.
    pub hold_headers: Duration,
    /// How long a client may take no byte of a body that waits for it, before it is ended. Default: 5 min.
    pub stall_timeout: Duration,
    /// How long open bodies may go on after the shutdown began, before they are ended short. Default: 20 s.
    pub drain: Duration,
    /// The socket send buffer of a connection, in bytes; Linux doubles it for its own bookkeeping. Default: 256 KiB.
    pub send_buffer_bytes: usize,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            default_registry: Some("docker.io".to_owned()),
            max_connections: 1024,
            max_readers: 512,
            max_header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(30),
            answer_within: Duration::from_secs(25),
            hold_headers: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(300),
            drain: Duration::from_secs(20),
            send_buffer_bytes: 256 << 10,
        }
    }
}
