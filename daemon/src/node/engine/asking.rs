//! What this node's clients ask: how long a blob is, and to read it.

use std::{sync::Arc, time::Duration};

use shoal_blob::{Digest, Repository};
use shoal_mirror::Failure;
use shoal_proto::{
    Visibility,
    coordination::{Probe, Refusal, Returned},
};
use shoal_swarm::{
    coordination::MemberInput,
    trade::{Input, ReaderId},
};
use tokio::sync::oneshot;

use crate::node::{access, shelf::Shelf};

use super::{
    Engine,
    pursuit::{Opening, Pursuit, Stage},
};

/// How long a blob that could not be had is not asked for again. A client whose body ended short comes back at once, at the
/// same offset, and has to be told so with a status: of a few bodies without a byte its pull would fail, where another host
/// has the rest.
const REST: Duration = Duration::from_secs(5);

impl Engine {
    /// The pursuit of a blob, begun if there is none.
    pub(super) fn pursue(&mut self, digest: Digest) -> &mut Pursuit {
        let now = self.clock.now();
        let me = self.key.id();
        self.pursuits.entry(digest).or_insert_with(|| {
            let member = shoal_swarm::coordination::Member::new(me, digest, Default::default());
            Pursuit::new(now, digest, member)
        })
    }

    /// Wants the blob of the cluster. What the store knows of it need not be asked of the origin again.
    fn want(&mut self, digest: Digest) {
        if let Some(blob) = self.store.blob(&digest) {
            let visibility = access::of_stored(&self.door, &self.store, &digest).unwrap_or(Visibility::Private);
            let found = Probe { length: blob.layout().length(), visibility };
            self.tell_member(digest, MemberInput::Known(found));
        }
        if let Some(pursuit) = self.pursuits.get_mut(&digest) {
            pursuit.wanted = true;
        }
        self.tell_member(digest, MemberInput::Wanted { can_seed: true });
    }

    /// A client wants to know how long a blob is. The cluster is asked, so that the origin is asked once.
    pub(super) fn find(
        &mut self,
        digest: Digest,
        repository: Repository,
        reply: oneshot::Sender<Result<Probe, Failure>>,
    ) {
        if self.draining {
            let _ = reply.send(Err(Failure::Draining));
            return;
        }
        let now = self.clock.now();
        let pursuit = self.pursue(digest);
        pursuit.named(repository);
        pursuit.unread_since = now;
        pursuit.idle_since = now;
        if let Some(found) = pursuit.found {
            let _ = reply.send(Ok(found));
            return;
        }
        if let Some(failure) = pursuit.resting(now) {
            let _ = reply.send(Err(failure));
            return;
        }
        pursuit.finders.push(reply);
        self.want(digest);
    }

    /// A client wants to read a blob.
    pub(super) fn open(&mut self, digest: Digest, repository: Repository, opening: Opening) {
        if self.draining {
            let _ = opening.reply.send(Err(Failure::Draining));
            return;
        }
        let now = self.clock.now();
        let pursuit = self.pursue(digest);
        pursuit.named(repository);
        pursuit.unread_since = now;
        pursuit.idle_since = now;
        if let Some(failure) = pursuit.resting(now) {
            let _ = opening.reply.send(match held_at(pursuit, opening.offset) {
                Some(shelf) => {
                    pursuit.readers.insert(opening.reader);
                    Ok(shelf)
                }
                None => Err(failure),
            });
            return;
        }
        pursuit.readers.insert(opening.reader);
        pursuit.openers.push(opening);
        self.want(digest);
        self.serve_openers(digest);
    }

    /// Gives the blob to those who wait for it, as soon as the store has it open.
    pub(super) fn serve_openers(&mut self, digest: Digest) {
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        if pursuit.openers.is_empty() {
            return;
        }
        match &pursuit.stage {
            Stage::Open(body) => {
                let shelf = body.shelf.clone();
                shelf.reopen();
                let mut placed = Vec::new();
                for opening in pursuit.openers.drain(..) {
                    placed.push((opening.reader, opening.offset));
                    let _ = opening.reply.send(Ok(shelf.clone()));
                }
                self.tell_swarm(digest, Input::Wants(true));
                for (reader, offset) in placed {
                    if let Some(piece) = shelf.layout().piece_at(offset) {
                        self.tell_swarm(digest, Input::ReaderAt { reader, piece });
                    }
                }
            }
            Stage::Seeking => self.admit(digest),
            Stage::Admitting => {}
        }
    }

    pub(super) fn reader_gone(&mut self, digest: Digest, reader: ReaderId) {
        let now = self.clock.now();
        if let Some(pursuit) = self.pursuits.get_mut(&digest) {
            pursuit.readers.remove(&reader);
            pursuit.openers.retain(|opening| opening.reader != reader);
            pursuit.unread_since = now;
            pursuit.idle_since = now;
        }
        self.tell_swarm(digest, Input::ReaderGone { reader });
    }

    /// Nothing of a blob comes: for a while those who ask for more of it are told so at once.
    pub(super) fn rest(&mut self, digest: Digest, failure: Failure) {
        let until = self.clock.now() + REST;
        if let Some(pursuit) = self.pursuits.get_mut(&digest) {
            pursuit.rest = Some((until, failure));
        }
    }

    /// Nobody can bring this blob here: its readers are told, and it is not wanted until somebody asks again.
    pub(super) fn give_up(&mut self, digest: Digest, failure: &Failure, refusal: Refusal) {
        tracing::warn!(%digest, %failure, "gave up on a blob");
        self.return_lease(digest, Returned::Refused(refusal));
        if matches!(refusal, Refusal::Stalled | Refusal::Unavailable) {
            self.rest(digest, failure.clone());
        }
        if let Some(pursuit) = self.pursuits.get_mut(&digest) {
            pursuit.fail(failure);
            pursuit.wanted = false;
        }
        self.tell_swarm(digest, Input::Wants(false));
        self.tell_member(digest, MemberInput::Unwanted);
        if refusal == Refusal::WrongBytes {
            // Nothing of a blob whose origin is wrong is kept.
            self.dismiss(digest);
            if let Err(error) = self.store.discard(&digest) {
                tracing::error!(%digest, %error, "a wrong blob could not be discarded");
            }
        }
    }
}

/// The blob, where the piece at that byte is here and may be read.
fn held_at(pursuit: &Pursuit, offset: u64) -> Option<Arc<Shelf>> {
    let shelf = &pursuit.body()?.shelf;
    let piece = shelf.layout().piece_at(offset)?;
    shelf.may_read(piece).then(|| Arc::clone(shelf))
}
