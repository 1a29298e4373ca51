//! A node's side of one swarm's coordination.

use std::collections::VecDeque;

use shoal_blob::{Digest, Layout};
use shoal_proto::{
    NodeId, SignedGrant,
    coordination::{Importers, Join, Neighbour, Probe, Refusal, Returned, ToCoordinator, mark},
};

use super::{MemberInput, MemberOutput, MemberWhy, Own, Settings, Stopped, guide::Guide, tenure::Tenure};
use crate::Time;

/// A node in the swarm of one digest: it finds the coordinator, says what it has, asks the origin when it is told to.
///
/// To drive it: give it everything that happens as a [`MemberInput`], then take what [`Member::poll`] has until it is
/// `None`, then wake it with [`MemberInput::TimeOut`] at [`Member::poll_timeout`]. When [`Member::is_over`], drop it.
///
/// Invariant: the origin may be read only between [`MemberOutput::BecomeSeed`] and the earlier of its `until`, as
/// extended, and [`MemberOutput::StopSeeding`].
#[derive(Debug)]
pub struct Member {
    pub(super) me: NodeId,
    pub(super) digest: Digest,
    pub(super) settings: Settings,
    pub(super) guide: Guide,
    pub(super) wanted: bool,
    pub(super) can_seed: bool,
    pub(super) complete: bool,
    pub(super) over: bool,
    pub(super) found: Option<Probe>,
    pub(super) highest: Option<SignedGrant>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) importers: Option<Importers>,
    /// Who waits for what the origin says.
    pub(super) probing: Option<NodeId>,
    pub(super) tenure: Option<Tenure>,
    /// When it joined last, unless it has left.
    joined_at: Option<Time>,
    /// How many members there are, as the coordinator says.
    pub(super) members: u32,
    pub(super) out: VecDeque<Queued>,
}

/// What waits to be polled: said whole, or with what the node has at that moment.
#[derive(Debug)]
pub(super) enum Queued {
    Whole(Box<MemberOutput>),
    Join,
    Renew { round: u32 },
    Report { to: NodeId },
}

impl Member {
    /// A member of the swarm of `digest` on the node `me`; it does nothing until it is [`MemberInput::Wanted`].
    #[must_use]
    pub fn new(me: NodeId, digest: Digest, settings: Settings) -> Self {
        Self {
            me,
            digest,
            settings,
            guide: Guide::new(me, digest),
            wanted: false,
            can_seed: false,
            complete: false,
            over: true,
            found: None,
            highest: None,
            neighbours: Vec::new(),
            importers: None,
            probing: None,
            tenure: None,
            joined_at: None,
            members: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes notice of something.
    pub fn handle(&mut self, now: Time, input: MemberInput) {
        match input {
            MemberInput::Wanted { can_seed } => {
                let new = self.over || !self.wants() || self.can_seed != can_seed;
                (self.wanted, self.can_seed) = (true, can_seed);
                if new {
                    self.over = false;
                    self.join_now(now);
                }
            }
            MemberInput::Known(found) => self.find(found),
            MemberInput::Unwanted => {
                self.wanted = false;
                if self.tenure.is_some() {
                    self.stop(Stopped::Unwanted);
                    self.give_back(Returned::Unwanted);
                }
                self.join_now(now);
            }
            MemberInput::Completed => self.complete = true,
            MemberInput::Told { from, message } => self.told(now, from, message),
            MemberInput::CoordinatorsFound { closest } => {
                if self.guide.looked_up(now, closest) {
                    self.join();
                }
            }
            MemberInput::Probed(outcome) => self.probed(outcome),
            MemberInput::LeaseReturned(reason) => self.give_back(reason),
            MemberInput::Orphaned => {
                let digest = self.digest;
                self.send_current(ToCoordinator::Orphaned { digest });
            }
            MemberInput::GrantSeen(grant) => self.learn(self.me, &grant),
            MemberInput::Unreachable { node } => self.shun(now, node),
            MemberInput::TimeOut => self.time_out(now),
        }
        self.renew(now);
    }

    /// What is to be done next; `own` is what the node has and is at this moment.
    pub fn poll(&mut self, now: Time, own: Own<'_>) -> Option<MemberOutput> {
        loop {
            let output = match self.out.pop_front()? {
                Queued::Whole(output) => *output,
                Queued::Join => match self.say_join(now, own) {
                    Some(output) => output,
                    None => continue,
                },
                Queued::Renew { round } => {
                    let Some(tenure) = &self.tenure else { continue };
                    let (digest, epoch, held) = (self.digest, tenure.epoch(), own.held.held());
                    let to = tenure.coordinator();
                    MemberOutput::Send { to, message: ToCoordinator::Renew { digest, epoch, held, round } }
                }
                Queued::Report { to } => {
                    let message = ToCoordinator::Report { digest: self.digest, held: own.held.clone() };
                    MemberOutput::Send { to, message }
                }
            };
            return Some(output);
        }
    }

    /// When to give it [`MemberInput::TimeOut`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, MemberWhy)> {
        let [renew, silent, expiry] = self.tenure.as_ref().map_or([None; 3], |tenure| tenure.wake(&self.settings));
        let silence = self.guide.patience_ends(&self.settings).filter(|_| !self.over);
        [
            (self.join_at(), MemberWhy::Join),
            (silence, MemberWhy::Silence),
            (renew, MemberWhy::Renew),
            (silent, MemberWhy::Silence),
            (expiry, MemberWhy::Expiry),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min_by_key(|(at, _)| *at)
    }

    /// Whether it has left the swarm and has nothing more to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over && self.out.is_empty()
    }

    /// The blob's length and visibility, once known.
    #[must_use]
    pub const fn found(&self) -> Option<Probe> {
        self.found
    }

    /// The highest lease that it knows.
    #[must_use]
    pub const fn highest(&self) -> Option<&SignedGrant> {
        self.highest.as_ref()
    }

    /// Until when this node may read the origin, if it is the seed.
    #[must_use]
    pub fn seeds_until(&self) -> Option<Time> {
        self.tenure.as_ref().and_then(Tenure::until)
    }

    /// Whom it takes for the coordinator.
    #[must_use]
    pub const fn coordinator(&self) -> Option<NodeId> {
        self.guide.current()
    }

    pub(super) const fn wants(&self) -> bool {
        self.wanted && !self.complete
    }

    pub(super) fn put(&mut self, output: MemberOutput) {
        self.out.push_back(Queued::Whole(Box::new(output)));
    }

    pub(super) fn send(&mut self, to: NodeId, message: ToCoordinator) {
        self.put(MemberOutput::Send { to, message });
    }

    fn send_current(&mut self, message: ToCoordinator) {
        if let Some(to) = self.guide.current() {
            self.send(to, message);
        }
    }

    pub(super) fn join(&mut self) {
        if !self.over && !self.out.iter().any(|queued| matches!(queued, Queued::Join)) {
            self.out.push_back(Queued::Join);
        }
    }

    /// When it joins again: the more members there are, the later.
    fn join_at(&self) -> Option<Time> {
        self.joined_at.map(|at| at + self.settings.join_every * self.settings.stretch(self.members))
    }

    pub(super) fn join_now(&mut self, now: Time) {
        if !self.over {
            self.joined_at = Some(now);
            self.put(MemberOutput::FindCoordinator);
            self.join();
        }
    }

    fn say_join(&mut self, now: Time, own: Own<'_>) -> Option<MemberOutput> {
        let needless = !self.wants() && self.tenure.is_none();
        let Some(to) = self.guide.current() else {
            // It was never in the swarm.
            self.over = needless;
            self.joined_at = self.joined_at.filter(|_| !needless);
            return None;
        };
        if needless && own.held.is_empty() {
            return Some(self.leave(to));
        }
        self.guide.asked(now);
        let join = Join {
            digest: self.digest,
            length: self.found.map(|found| found.length),
            wants: self.wants(),
            can_seed: self.can_seed && self.wants(),
            held: own.held.clone(),
            addresses: own.addresses.to_vec(),
            zone: own.zone.to_owned(),
            highest: self.highest.clone(),
            neighbours: if self.neighbours.is_empty() { 0 } else { mark(&self.neighbours) },
        };
        Some(MemberOutput::Send { to, message: ToCoordinator::Join(join) })
    }

    pub(super) fn leave(&mut self, to: NodeId) -> MemberOutput {
        (self.over, self.joined_at) = (true, None);
        MemberOutput::Send { to, message: ToCoordinator::Leave { digest: self.digest } }
    }

    fn time_out(&mut self, now: Time) {
        if self.join_at().is_some_and(|at| at <= now) {
            self.join_now(now);
        }
        if let (Some(at), Some(current)) = (self.guide.patience_ends(&self.settings), self.guide.current())
            && at <= now
        {
            self.shun(now, current);
        }
        let Some(tenure) = &mut self.tenure else { return };
        let (ran_out, given_up) = (tenure.runs_out(now), tenure.is_given_up(now));
        let silent = tenure.is_silent(now, &self.settings).then(|| tenure.coordinator());
        if ran_out {
            self.put(MemberOutput::StopSeeding(Stopped::Expired));
        }
        if given_up {
            self.tenure = None;
        }
        // A lease is running: the next closest must take it over before it ends.
        if let Some(silent) = silent.filter(|silent| *silent != self.me) {
            self.shun(now, silent);
        }
    }

    fn shun(&mut self, now: Time, node: NodeId) {
        let was_current = self.guide.current() == Some(node);
        if self.guide.shun(now, node, &self.settings) {
            self.join_now(now);
        } else if was_current {
            self.join();
        }
    }

    fn renew(&mut self, now: Time) {
        if let Some(round) = self.tenure.as_mut().and_then(|tenure| tenure.renew(now, &self.settings)) {
            self.out.push_back(Queued::Renew { round });
        }
    }

    pub(super) fn stop(&mut self, why: Stopped) {
        if self.tenure.as_ref().is_some_and(Tenure::is_seeding) {
            self.put(MemberOutput::StopSeeding(why));
        }
    }

    fn give_back(&mut self, reason: Returned) {
        if let Some(tenure) = self.tenure.take() {
            let (to, epoch) = (tenure.coordinator(), tenure.epoch());
            self.send(to, ToCoordinator::Return { digest: self.digest, epoch, reason });
        }
    }

    fn probed(&mut self, outcome: Result<Probe, Refusal>) {
        let asker = self.probing.take();
        let digest = self.digest;
        if let Ok(found) = outcome {
            self.find(found);
        }
        // One who was sent on meanwhile spares the next coordinator the question.
        let current = self.guide.current().filter(|current| outcome.is_ok() && Some(*current) != asker);
        for to in asker.into_iter().chain(current) {
            self.send(to, ToCoordinator::Probed { digest, outcome });
        }
    }

    pub(super) fn find(&mut self, found: Probe) {
        let other_length = self.found.is_some_and(|known| known.length != found.length);
        if self.found != Some(found) && !other_length && Layout::new(found.length).is_ok() {
            self.found = Some(found);
            self.put(MemberOutput::Found(found));
        }
    }
}
