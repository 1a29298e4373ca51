//! The control plane: this node as a member of swarms, as a coordinator of digests, and as a holder who says so.

use std::{collections::BTreeMap, time::Duration};

use shoal_blob::Digest;
use shoal_discovery::Event;
use shoal_origin::Origins;
use shoal_proto::{
    NodeId, SignedGrant, Visibility,
    coordination::{Coordination, Holding, MAX_HOLDINGS, Probe, Refusal, Returned, ToCoordinator},
};
use shoal_swarm::{
    coordination::{
        Input as CoordinatorInput, MemberInput, MemberOutput, Note, Output as CoordinatorOutput, Own, Stopped,
        for_coordinator, for_member, unclaimed,
    },
    trade::Input,
};

use super::{
    Engine, Planes,
    pursuit::{Lease, Pursuit, Stage},
};
use crate::node::{access, failure, mailbox::Told, reading};

/// How often holders say again what they hold.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(300);
/// They say so too when the nodes around them have changed, after so long.
const ANNOUNCE_AFTER_CHANGE: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn apply_discovery(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Message { from, message }) => self.heard(from, message),
            Some(Event::View { live }) => {
                if let Some(planes) = &self.planes {
                    self.addresses = planes.discovery.my_addresses();
                }
                self.live.clone_from(&live);
                self.announce_at = self.announce_at.min(self.clock.now() + ANNOUNCE_AFTER_CHANGE);
                self.tell_coordinator(CoordinatorInput::View { live });
            }
            Some(Event::Readiness(readiness)) if readiness.is_ready() => {
                tracing::info!(?readiness, "the search for peers has come to an end");
                self.become_ready();
            }
            Some(Event::Readiness(_)) | None => {}
            Some(Event::Unreachable { node }) => {
                self.tell_coordinator(CoordinatorInput::Unreachable { node });
                let digests: Vec<Digest> = self.pursuits.keys().copied().collect();
                for digest in digests {
                    self.tell_member(digest, MemberInput::Unreachable { node });
                }
            }
        }
    }

    /// Ready means that the others know what this node holds.
    pub(super) fn become_ready(&mut self) {
        if let Some(planes) = &self.planes {
            self.addresses = planes.discovery.my_addresses();
        }
        self.announce_all();
        self.metrics.ready.set(1);
        self.ready.send_replace(true);
    }

    /// A message of the control plane, perhaps of this node to itself.
    pub(super) fn heard(&mut self, from: NodeId, message: Coordination) {
        match message {
            Coordination::ToCoordinator(message) => {
                self.tell_coordinator(CoordinatorInput::Told { from, message });
            }
            Coordination::ToMember(message) => {
                if let Some(input) = for_coordinator(from, &message) {
                    self.tell_coordinator(input);
                }
                let Some(digest) = for_member(&message) else { return };
                if self.pursuits.contains_key(&digest) {
                    self.tell_member(digest, MemberInput::Told { from, message });
                } else if let Some(answer) = unclaimed(&message) {
                    self.write(from, Coordination::ToCoordinator(answer));
                }
            }
        }
    }

    /// Sends a message of the control plane. What is lost is said again by whoever waits for an answer.
    fn write(&self, to: NodeId, message: Coordination) {
        if to == self.key.id() {
            self.mailbox.tell(Told::Loopback(Box::new(message)));
        } else if let Some(planes) = &self.planes
            && let Err(error) = planes.discovery.send(to, message)
        {
            tracing::warn!(peer = %to, %error, "a coordination message was not sent");
        }
    }

    pub(super) fn tell_coordinator(&mut self, input: CoordinatorInput) {
        self.coordinator.handle(self.clock.now(), input);
        while let Some(output) = self.coordinator.poll() {
            match output {
                CoordinatorOutput::Tell { to, message } => self.write(to, Coordination::ToMember(message)),
                CoordinatorOutput::Answer { to, message } => self.write(to, Coordination::ToCoordinator(message)),
                CoordinatorOutput::Know { to, digest, grant } => self.say_what_is_known(to, digest, grant),
                CoordinatorOutput::Note(note) => {
                    if matches!(note, Note::Granted { .. }) {
                        self.metrics.leases_granted.inc();
                    }
                    tracing::info!(?note, "as coordinator");
                }
            }
        }
    }

    fn say_what_is_known(&self, to: NodeId, digest: Digest, grant: Option<SignedGrant>) {
        let holding = self.store.blob(&digest).filter(|blob| blob.is_complete());
        let message = ToCoordinator::Know {
            digest,
            grant,
            holding: holding.map(|blob| self.holding(digest, blob.layout().length()).found),
            addresses: self.addresses.clone(),
            zone: self.zone.clone(),
        };
        self.write(to, Coordination::ToCoordinator(message));
    }

    pub(super) fn tell_member(&mut self, digest: Digest, input: MemberInput) {
        let now = self.clock.now();
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        pursuit.member.handle(now, input);
        let held = pursuit.held();
        loop {
            let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
            let own = Own { held: &held, addresses: &self.addresses, zone: &self.zone };
            let Some(output) = pursuit.member.poll(now, own) else { return };
            self.obey(digest, output);
        }
    }

    fn obey(&mut self, digest: Digest, output: MemberOutput) {
        match output {
            MemberOutput::FindCoordinator => self.find_coordinator(digest),
            MemberOutput::Send { to, message } => self.write(to, Coordination::ToCoordinator(message)),
            MemberOutput::Found(found) => self.found(digest, found),
            MemberOutput::Neighbours(neighbours) => self.neighbours_named(digest, neighbours),
            MemberOutput::Importers(nodes) => {
                if let Some(pursuit) = self.pursuits.get_mut(&digest) {
                    pursuit.importers.clone_from(&nodes);
                }
                self.tell_swarm(digest, Input::Importers(nodes));
            }
            MemberOutput::ProbeOrigin => self.probe(digest),
            MemberOutput::BecomeSeed { grant, elsewhere, .. } => {
                let epoch = grant.grant().epoch;
                tracing::info!(%digest, epoch = epoch.number, elsewhere = elsewhere.held(), "this node is the seed");
                self.metrics.leases_held.inc();
                self.learn_grant(digest, &grant);
                let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
                if pursuit.lease.replace(Lease { epoch, elsewhere: elsewhere.clone() }).is_some() {
                    self.metrics.leases_held.dec();
                }
                self.tell_swarm(digest, Input::Appointed { elsewhere });
            }
            MemberOutput::ExtendLease { grant, .. } => {
                self.learn_grant(digest, &grant);
                if let Some(lease) = self.pursuits.get_mut(&digest).and_then(|pursuit| pursuit.lease.as_mut()) {
                    lease.epoch = grant.grant().epoch;
                }
            }
            MemberOutput::StopSeeding(why) => {
                if why != Stopped::Unwanted {
                    tracing::warn!(%digest, ?why, "this node is the seed no longer");
                }
                self.end_lease(digest);
            }
            MemberOutput::NewGrant(grant) => {
                self.learn_grant(digest, &grant);
                self.tell_coordinator(CoordinatorInput::Learnt(grant));
            }
            MemberOutput::Fail(refusal) => {
                let repositories = self.pursuits.get(&digest).map_or(&[][..], |pursuit| &pursuit.repositories);
                let failure = failure::of_refusal(refusal, &digest, repositories);
                self.give_up(digest, &failure, refusal);
            }
            MemberOutput::Doubted { from, doubt } => {
                tracing::warn!(%digest, peer = %from, %doubt, "a message of coordination was not believed");
            }
        }
    }

    fn find_coordinator(&self, digest: Digest) {
        let (me, mailbox) = (self.key.id(), self.mailbox.clone());
        let Some(Planes { discovery, .. }) = self.planes.clone() else {
            mailbox.tell(Told::Closest { digest, nodes: vec![me] });
            return;
        };
        tokio::spawn(async move {
            let nodes = discovery.closest(&digest).await;
            mailbox.tell(Told::Closest { digest, nodes });
        });
    }

    /// The blob's length is known: those who asked for it hear it, those who want to read get their place.
    fn found(&mut self, digest: Digest, found: Probe) {
        self.door.learn(digest, found.visibility);
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        pursuit.found = Some(found);
        for finder in pursuit.finders.drain(..) {
            let _ = finder.send(Ok(found));
        }
        self.serve_openers(digest);
    }

    /// Asks the origin how long the blob is: one HEAD for the whole cluster, while nobody else knows.
    fn probe(&mut self, digest: Digest) {
        let Some(pursuit) = self.pursuits.get(&digest) else { return };
        let (origins, mailbox) = (self.origins.clone(), self.mailbox.clone());
        let repositories = pursuit.repositories.clone();
        tokio::spawn(async move {
            let answer = ask_origin(&origins, &repositories, digest).await;
            let repository = answer.as_ref().ok().map(|(_, repository)| repository.clone());
            let outcome = answer.map(|(probe, _)| probe);
            mailbox.tell(Told::Probed { digest, repository, outcome });
        });
    }

    pub(super) fn learn_grant(&mut self, digest: Digest, grant: &SignedGrant) {
        self.door.learn(digest, grant.grant().visibility);
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        pursuit.granted(grant);
        let Some(body) = pursuit.body_mut() else { return };
        match body.book.learn_grant(grant) {
            Ok(Some(record)) => self.write_claim(digest, &record),
            Ok(None) => {}
            Err(rejected) => tracing::warn!(%digest, %rejected, "a grant was not taken"),
        }
    }

    /// Gives the lease back, if there is one.
    pub(super) fn return_lease(&mut self, digest: Digest, reason: Returned) {
        if self.pursuits.get(&digest).is_none_or(|pursuit| pursuit.lease.is_none()) {
            return;
        }
        let whole = self.pursuits.get(&digest).and_then(Pursuit::body).is_some_and(|body| body.swarm.have().is_full());
        let reason = if reason == Returned::Done && !whole { Returned::Unwanted } else { reason };
        let label = match reason {
            Returned::Done => "done",
            Returned::Unwanted => "unwanted",
            Returned::Refused(_) => "refused",
        };
        self.metrics.leases_returned.with_label_values(&[label]).inc();
        self.end_lease(digest);
        self.tell_member(digest, MemberInput::LeaseReturned(reason));
    }

    fn end_lease(&mut self, digest: Digest) {
        let Some(pursuit) = self.pursuits.get_mut(&digest) else { return };
        if pursuit.lease.take().is_some() {
            self.metrics.leases_held.dec();
        }
        if let Stage::Open(body) = &mut pursuit.stage {
            body.stop_reading();
        }
        self.tell_swarm(digest, Input::Dismissed);
    }

    fn holding(&self, digest: Digest, length: u64) -> Holding {
        let visibility = access::of_stored(&self.door, &self.store, &digest).unwrap_or(Visibility::Private);
        Holding { digest, found: Probe { length, visibility } }
    }

    pub(super) fn announce_if_due(&mut self) {
        if self.announce_at <= self.clock.now() && *self.ready.borrow() {
            self.announce_all();
        }
    }

    fn announce_all(&mut self) {
        self.announce_at = self.clock.now() + ANNOUNCE_EVERY;
        let complete = self.store.list().into_iter().filter(|holding| holding.complete);
        let digests: Vec<Digest> = complete.map(|holding| holding.digest).collect();
        self.announce(&digests);
    }

    /// Tells the coordinators of these digests that they rest here, complete.
    pub(super) fn announce(&self, digests: &[Digest]) {
        let holdings: Vec<Holding> = digests
            .iter()
            .filter_map(|digest| {
                let blob = self.store.blob(digest).filter(|blob| blob.is_complete())?;
                Some(self.holding(*digest, blob.layout().length()))
            })
            .collect();
        if holdings.is_empty() {
            return;
        }
        let (addresses, zone, mailbox) = (self.addresses.clone(), self.zone.clone(), self.mailbox.clone());
        let (planes, me) = (self.planes.clone(), self.key.id());
        tokio::spawn(async move {
            let mut by_coordinator: BTreeMap<NodeId, Vec<Holding>> = BTreeMap::new();
            for holding in holdings {
                let coordinator = match &planes {
                    Some(planes) => planes.discovery.closest(&holding.digest).await.first().copied().unwrap_or(me),
                    None => me,
                };
                by_coordinator.entry(coordinator).or_default().push(holding);
            }
            for (coordinator, holdings) in by_coordinator {
                for batch in holdings.chunks(MAX_HOLDINGS) {
                    let message = ToCoordinator::Announce {
                        holdings: batch.to_vec(),
                        addresses: addresses.clone(),
                        zone: zone.clone(),
                    };
                    let message = Coordination::ToCoordinator(message);
                    match &planes {
                        Some(planes) if coordinator != me => {
                            if let Err(error) = planes.discovery.send(coordinator, message) {
                                tracing::warn!(peer = %coordinator, %error, "an announcement was not sent");
                            }
                        }
                        _ => mailbox.tell(Told::Loopback(Box::new(message))),
                    }
                }
            }
        });
    }

    /// Tells the coordinator of a digest that it rests here no longer.
    pub(super) fn withdraw(&self, digest: Digest) {
        let message = Coordination::ToCoordinator(ToCoordinator::Dropped { digest });
        let me = self.key.id();
        let closest = self.live.iter().copied().chain([me]).min_by_key(|node| node.distance(&digest));
        self.write(closest.unwrap_or(me), message);
    }
}

/// One HEAD, at the first of the named repositories that has the blob.
async fn ask_origin(
    origins: &Origins,
    repositories: &[shoal_blob::Repository],
    digest: Digest,
) -> Result<(Probe, shoal_blob::Repository), Refusal> {
    let mut refused = Refusal::NotFound;
    for repository in repositories {
        match origins.head_blob(repository, &digest).await {
            Ok(head) => {
                let found = Probe { length: head.length, visibility: access::seen(head.visibility) };
                return Ok((found, repository.clone()));
            }
            Err(error) => {
                tracing::warn!(%digest, %repository, %error, "this node cannot read a blob at its origin");
                refused = reading::refusal(&error);
            }
        }
    }
    Err(refused)
}
