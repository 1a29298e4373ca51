//! What the store has of blobs: room for new ones, those that are complete, those that leave; and looking over it all.

use std::{sync::Arc, time::Duration};

use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::coordination::{Refusal, Returned};
use shoal_store::{Store, StoreError};
use shoal_swarm::{
    coordination::MemberInput,
    trade::{Input, Swarm},
};
use tokio::sync::oneshot;

use super::{
    Engine,
    pursuit::{Body, Pursuit, Stage},
};
use crate::node::{
    book::Book,
    failure,
    mailbox::{Admitted, Told},
    shelf::{Shelf, Sources},
};

/// A blob that no client reads any more is pulled on for so long: clients come back at the same offset.
const UNREAD_FOR: Duration = Duration::from_secs(60);
/// A blob whose length alone was asked for is not kept the origin's place for longer than this.
const UNOPENED_FOR: Duration = Duration::from_secs(2);
/// A blob of which nobody needs anything is let go of after so long; it stays in the store.
const IDLE_FOR: Duration = Duration::from_secs(15);

impl Engine {
    /// Opens the blob in the store: what is there, checked, or room for what will come.
    pub(super) fn admit(&mut self, digest: Digest) {
        let (store, mailbox) = (self.store.clone(), self.mailbox.clone());
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        if !matches!(pursuit.stage, Stage::Seeking) {
            return;
        }
        let layout = match (self.store.blob(&digest), pursuit.found) {
            (Some(blob), _) => Ok(*blob.layout()),
            (None, Some(found)) => Layout::new(found.length),
            (None, None) => return,
        };
        let layout = match layout {
            Ok(layout) => layout,
            Err(error) => {
                let failure = shoal_mirror::Failure::OriginFailed { reason: error.to_string() };
                self.give_up(digest, &failure, Refusal::NoRoom);
                return;
            }
        };
        pursuit.stage = Stage::Admitting;
        let sources = self.sources(digest, layout.length());
        tokio::task::spawn_blocking(move || {
            let outcome = take_stock(&store, &digest, layout, sources).map(Box::new);
            mailbox.tell(Told::Admitted { digest, outcome });
        });
    }

    pub(super) fn admitted(&mut self, digest: Digest, outcome: Result<Box<Admitted>, StoreError>) {
        let now = self.clock.now();
        let again = matches!(outcome, Err(StoreError::Full(_))) && self.let_go(digest);
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        if again {
            pursuit.stage = Stage::Seeking;
            self.admit(digest);
            return;
        }
        let Admitted { shelf, book, verified_on_disk } = match outcome {
            Ok(admitted) => *admitted,
            Err(error) => {
                tracing::error!(%digest, %error, "the store cannot take a blob");
                self.metrics.store_errors.with_label_values(&["admit"]).inc();
                pursuit.stage = Stage::Seeking;
                self.give_up(digest, &failure::of_store(&error), Refusal::NoRoom);
                return;
            }
        };
        self.metrics.pieces_verified_from_disk.inc_by(u64::from(verified_on_disk));
        let layout = *shelf.layout();
        let (have, chain) = (shelf.blob().pieces(), book.known());
        let swarm =
            Swarm::new(now, self.key.id(), digest, layout, self.trade.clone(), self.zone.clone(), rand::random())
                .holding(have, &chain);
        pursuit.stage = Stage::Open(Box::new(Body {
            shelf,
            swarm,
            book,
            reading: None,
            read_under: None,
            expected: Default::default(),
            receiving: Default::default(),
            uploads: Default::default(),
        }));
        for grant in pursuit.grants.clone() {
            self.learn_grant(digest, &grant);
        }
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        let (early, neighbours) = (std::mem::take(&mut pursuit.early), pursuit.neighbours.clone());
        let importers = pursuit.importers.clone();
        let lease = pursuit.lease.as_ref().map(|lease| lease.elsewhere.clone());
        let whole = pursuit.body().is_some_and(|body| body.swarm.have().is_full());
        self.tell_swarm(digest, Input::Importers(importers));
        for node in neighbours.into_keys() {
            self.meet(digest, node);
        }
        for (from, message) in early {
            self.hear(from, digest, message);
        }
        self.serve_openers(digest);
        if let Some(elsewhere) = lease {
            self.tell_swarm(digest, Input::Appointed { elsewhere });
        }
        if whole && self.body_mut(&digest).is_some_and(|body| !body.shelf.blob().is_complete()) {
            // It was whole when the daemon stopped, and not proven yet.
            self.complete(digest);
        }
    }

    /// Ends the pursuits of blobs that are whole and that nobody reads or takes just now, so that the store may evict
    /// them for another one. Returns whether there were any.
    fn let_go(&mut self, wanted: Digest) -> bool {
        let idle = |pursuit: &Pursuit| {
            let body = pursuit.body().filter(|body| body.shelf.blob().is_complete() && !body.swarm.is_useful());
            body.is_some() && !pursuit.is_read() && pursuit.lease.is_none() && pursuit.digest != wanted
        };
        let mut idle: Vec<_> =
            self.pursuits.values().filter(|p| idle(p)).map(|pursuit| (pursuit.unread_since, pursuit.digest)).collect();
        // The store takes the end of a pursuit for a use: the order of the uses must stay.
        idle.sort_unstable();
        for (_, digest) in &idle {
            self.dismiss(*digest);
        }
        !idle.is_empty()
    }

    pub(super) fn completed(&mut self, digest: Digest, outcome: Result<(), StoreError>) {
        let Some(body) = self.body_mut(&digest) else { return };
        match outcome {
            Ok(()) => {
                body.shelf.arrived();
                tracing::info!(
                    %digest,
                    bytes = body.shelf.layout().length(),
                    from_origin = body.shelf.sources.of_origin(),
                    from_peers = body.shelf.sources.of_peers(),
                    "a blob is complete and proven"
                );
                self.tell_member(digest, MemberInput::Completed);
                self.announce(&[digest]);
            }
            Err(error) => {
                tracing::error!(%digest, %error, "a blob is whole and could not be made complete");
                self.metrics.store_errors.with_label_values(&["complete"]).inc();
                self.give_up(digest, &failure::of_store(&error), Refusal::NoRoom);
            }
        }
    }

    /// The store is about to let a blob go: neighbours and coordinator hear of it first.
    pub(super) fn departing(&mut self, digest: Digest, evicted: bool) {
        if let Some(body) = self.body_mut(&digest) {
            let held: Vec<u32> = body.swarm.have().iter().collect();
            self.tell_swarm(digest, Input::Lost { pieces: held });
        }
        if evicted {
            self.metrics.store_evictions.inc();
        }
        self.withdraw(digest);
        self.dismiss(digest);
    }

    /// Ends a pursuit: the swarm takes leave, tasks stop, the store may evict. What is stored stays.
    pub(super) fn dismiss(&mut self, digest: Digest) {
        self.tell_member(digest, MemberInput::Unwanted);
        let Some(mut pursuit) = self.pursuits.remove(&digest) else { return };
        pursuit.fail(&shoal_mirror::Failure::Draining);
        if let Some(body) = pursuit.body_mut() {
            body.swarm.dissolve(self.clock.now(), &mut self.capacity);
            let words: Vec<_> = std::iter::from_fn(|| body.swarm.poll()).collect();
            for word in words {
                if let shoal_swarm::trade::Output::Send { to, message } = word {
                    self.say(to, digest, message);
                }
            }
        }
    }

    /// Looks over all pursuits once a second: those that nobody needs end, neighbours that are not connected are dialled.
    pub(super) fn look_over(&mut self) {
        let now = self.clock.now();
        if self.limits_changed.has_changed().unwrap_or(false) {
            self.limits = *self.limits_changed.borrow_and_update();
            self.capacity.set_inflow_limit(self.limits.in_flight);
            self.capacity.set_links(self.limits.links);
        }
        if let Some(planes) = &self.planes {
            let bodies = self.pursuits.values().filter_map(Pursuit::body);
            planes.endpoint.set_besieged(bodies.map(|body| &body.reading).any(Option::is_some));
        }
        let mut unread = Vec::new();
        let mut idle = Vec::new();
        for (digest, pursuit) in &mut self.pursuits {
            let read = pursuit.is_read();
            if read {
                pursuit.unread_since = now;
            }
            // Who only asked for the length is not waited for.
            let patience = if matches!(pursuit.stage, Stage::Seeking) { UNOPENED_FOR } else { UNREAD_FOR };
            let wanted = now.since(pursuit.unread_since) < patience;
            let (whole, useful) =
                pursuit.body().map_or((false, false), |body| (body.shelf.blob().is_complete(), body.swarm.is_useful()));
            let busy = matches!(pursuit.stage, Stage::Admitting) || pursuit.lease.is_some();
            if read || useful || busy || (wanted && !whole && pursuit.body().is_some()) {
                pursuit.idle_since = now;
            }
            if pursuit.wanted && !wanted && !whole {
                pursuit.wanted = false;
                unread.push(*digest);
            }
            if now.since(pursuit.idle_since) >= IDLE_FOR {
                idle.push((pursuit.unread_since, *digest));
            }
        }
        for digest in unread {
            self.return_lease(digest, Returned::Unwanted);
            self.tell_swarm(digest, Input::Wants(false));
            self.tell_member(digest, MemberInput::Unwanted);
        }
        idle.sort_unstable();
        for (_, digest) in idle {
            self.dismiss(digest);
        }
        self.redial();
        self.announce_if_due();
        self.count_swarms();
    }

    /// Sets the gauges that say what the swarms are doing.
    fn count_swarms(&mut self) {
        let (mut seeking, mut pulling, mut holding, mut neighbours) = (0, 0, 0, 0);
        for pursuit in self.pursuits.values_mut() {
            let impatience = pursuit.body().map_or(0, |body| body.swarm.state().impatience);
            self.metrics.seed_waits_given_up.inc_by(u64::from(impatience.saturating_sub(pursuit.impatience)));
            pursuit.impatience = impatience;
            match pursuit.body().map(|body| (body.swarm.state(), body.shelf.blob().is_complete())) {
                None => seeking += 1,
                Some((state, complete)) => {
                    neighbours += i64::from(state.neighbours);
                    *(if complete { &mut holding } else { &mut pulling }) += 1;
                }
            }
        }
        for (state, count) in [("seeking", seeking), ("pulling", pulling), ("holding", holding)] {
            self.metrics.swarms.with_label_values(&[state]).set(count);
        }
        self.metrics.swarm_peers.set(neighbours);
        let readers: usize = self.pursuits.values().map(|pursuit| pursuit.readers.len()).sum();
        self.metrics.swarm_readers.set(readers as i64);
        self.metrics.in_flight.set(i64::try_from(self.capacity.inflow()).unwrap_or(i64::MAX));
        self.metrics.slots_open.set(self.capacity.open().into());
        let (swarms, leases) = self.coordinator.load();
        self.metrics.swarms_coordinated.set(swarms as i64);
        self.metrics.leases_out.set(leases as i64);
    }

    /// Gives leases back and takes leave, so that others go on at once.
    pub(super) fn drain(&mut self, reply: oneshot::Sender<()>) {
        self.draining = true;
        let digests: Vec<Digest> = self.pursuits.keys().copied().collect();
        for digest in digests {
            self.return_lease(digest, Returned::Unwanted);
            self.dismiss(digest);
        }
        let _ = reply.send(());
    }
}

/// What the store has of a blob: its chain, and its pieces checked where they are not trusted. Blocks.
fn take_stock(store: &Store, digest: &Digest, layout: Layout, sources: Arc<Sources>) -> Result<Admitted, StoreError> {
    let held = store.admit(digest, layout)?;
    let blob = held.blob().clone();
    let layout = *blob.layout();
    let mut verified_on_disk = 0;
    let book = match blob.proven()? {
        Some(chain) if blob.is_complete() => Book::proven(chain),
        _ => {
            let mut book = Book::restore(*digest, layout, &blob.claims()?);
            // What lies in the file was verified in an earlier life; its links are closed again by hashing it again.
            let lying: PieceSet = blob.pieces();
            if !lying.is_empty() {
                blob.doubt(&lying)?;
            }
            if let Some(chain) = book.claimed_mut() {
                let threads = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
                let rechecked = blob.recheck(chain, threads)?;
                verified_on_disk = rechecked.verified.held();
            }
            book
        }
    };
    Ok(Admitted { shelf: Arc::new(Shelf::new(held, sources)), book, verified_on_disk })
}
