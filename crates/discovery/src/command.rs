//! What the handle says to the task behind it.

use shoal_blob::Digest;
use shoal_proto::{NodeId, coordination::Coordination};
use tokio::sync::oneshot;

/// What a handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send a frame.
    Send { to: NodeId, frame: Vec<u8> },
    /// Deliver a message of mine to me.
    Keep { message: Box<Coordination>, bytes: usize },
    /// Find the nodes closest to a digest.
    Closest { digest: Digest, answer: oneshot::Sender<Vec<NodeId>> },
    /// End.
    Stop { stopped: oneshot::Sender<()> },
}
