//! A client's place among those who read a blob or wait until they can.

use shoal_blob::Digest;
use shoal_swarm::trade::ReaderId;

use super::mailbox::{Mailbox, Told};

/// Taken before the engine is asked for the blob, for the client may go before it has an answer; dropped, the client is gone.
pub(super) struct Seat {
    digest: Digest,
    id: ReaderId,
    mailbox: Mailbox,
}

impl Seat {
    pub(super) const fn new(digest: Digest, id: ReaderId, mailbox: Mailbox) -> Self {
        Self { digest, id, mailbox }
    }

    pub(super) const fn id(&self) -> ReaderId {
        self.id
    }

    pub(super) fn tell(&self, told: Told) {
        self.mailbox.tell(told);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.mailbox.tell(Told::ReaderGone { digest: self.digest, reader: self.id });
    }
}
