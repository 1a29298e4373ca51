//! From a wish to a lease: who else knows, how long the blob is, what the members have.

use std::collections::BTreeSet;

use shoal_blob::{Layout, PieceSet};
use shoal_proto::{
    NodeId,
    coordination::{Probe, Refusal, ToMember},
};

use super::{
    case::{Case, MOST_RANKED, pieces},
    graph,
    seats::Seat,
    stage::{Desk, Stage, Survey},
};
use crate::Time;

/// How many nodes may be asked before a first lease, those included that were pointed at.
const MOST_ASKED: usize = 80;
/// After so many complaints of a member that finds no holder, the origin is read again although members claim to have all.
const MOST_COMPLAINTS: u8 = 4;

impl Case {
    /// Begins whatever a member that wants the blob needs now. May be called at any time.
    pub(super) fn advance(&mut self, desk: &mut Desk<'_>) {
        let deserted = self.holders.is_empty() && !self.seats.any_has();
        match self.stage {
            Stage::Idle => {}
            Stage::Served if deserted || !self.seats.any_wants() => self.stage = Stage::Idle,
            _ => return,
        }
        if !self.seats.any_wants() || !self.is_mine(desk) {
            return;
        }
        if self.has_source() {
            self.serve(desk);
        } else if desk.is_new_here(desk.view.changed_near(&self.digest, &self.rank))
            && self.asked != Some(desk.view.version())
        {
            self.ask(desk);
        } else {
            self.go_on(desk);
        }
    }

    /// Whether some node has everything, and how long that is can be told.
    pub(super) fn has_source(&self) -> bool {
        let length_known = || self.found.is_some() || self.complete_length().is_some();
        !self.holders.is_empty() || (self.seats.any_complete() && length_known())
    }

    /// The blob's length as a member says that has all of it.
    pub(super) fn complete_length(&self) -> Option<u64> {
        self.seats.iter().filter(|(_, seat)| seat.complete).find_map(|(_, seat)| seat.length)
    }

    fn go_on(&mut self, desk: &mut Desk<'_>) {
        if self.has_source() {
            self.serve(desk);
        } else if self.foreign {
            self.take_over(desk);
        } else {
            self.appoint(desk, None);
        }
    }

    fn ask(&mut self, desk: &mut Desk<'_>) {
        let nothing = BTreeSet::new;
        let deadline = desk.within(desk.settings.ask_patience);
        self.stage = Stage::Asking { asked: nothing(), awaiting: nothing(), settled: desk.now, deadline };
        self.ask_on(desk);
    }

    /// Asks whom the view has that was not asked yet, and goes on when all have answered or nobody waits for longer.
    fn ask_on(&mut self, desk: &mut Desk<'_>) {
        if !self.is_mine(desk) {
            return;
        }
        let Stage::Asking { asked, awaiting, settled, deadline } = &mut self.stage else { return };
        for &node in &self.rank.others {
            if asked.len() < MOST_ASKED && asked.insert(node) {
                awaiting.insert(node);
                desk.tell(node, ToMember::Ask { digest: self.digest });
            }
        }
        let changed = desk.view.changed_near(&self.digest, &self.rank);
        *settled = changed.map_or(desk.now, |at| at + desk.settings.settle);
        if desk.now >= *deadline || (awaiting.is_empty() && desk.now >= *settled) {
            self.asked = Some(desk.view.version());
            self.stage = Stage::Idle;
            self.go_on(desk);
        }
    }

    /// Some node knows of one that is closer to this digest than this one: ask it too. If it is there, it answers.
    pub(super) fn pointed(&mut self, desk: &mut Desk<'_>, closer: NodeId) {
        if let Stage::Asking { asked, awaiting, .. } = &mut self.stage
            && closer.distance(&self.digest) < desk.me.distance(&self.digest)
            && asked.len() < MOST_ASKED
            && asked.insert(closer)
        {
            awaiting.insert(closer);
            desk.tell(closer, ToMember::Ask { digest: self.digest });
        }
    }

    /// A node has said what it knows; what that was has been noted already.
    pub(super) fn answered(&mut self, desk: &mut Desk<'_>, from: NodeId, holding: bool) {
        match &mut self.stage {
            Stage::Asking { awaiting, .. } => {
                awaiting.remove(&from);
                self.ask_on(desk);
            }
            Stage::Surveying(survey) => {
                if holding && self.holders.get(&from).is_some() {
                    survey.union = PieceSet::full(survey.union.size());
                }
                survey.asked.remove(&from);
                self.gathered(desk);
            }
            _ => {}
        }
    }

    /// Chooses who reads the origin next, and does what must come before.
    pub(super) fn appoint(&mut self, desk: &mut Desk<'_>, ended: Option<NodeId>) {
        self.stage = Stage::Idle;
        let Some(node) = self.candidate(desk, ended) else {
            if let Some(refusal) = self.last_refusal.filter(|_| !self.chain.is_empty()) {
                self.fail(desk, refusal, false);
            }
            return;
        };
        // What they said when they joined last is old as soon as there was a lease.
        let others_have = |(other, seat): (_, &Seat)| other != node && (seat.has_some || self.highest.is_some());
        let others_have = self.seats.iter().any(others_have) || self.gathers_until(desk) > desk.now;
        match self.found {
            None => self.probe(desk, node),
            Some(found) if others_have => self.survey(desk, found, ended, None),
            Some(found) => self.secure(desk, node, PieceSet::empty(pieces(&found))),
        }
    }

    /// The member to choose: not one that was refused or whose lease has just ended, if there is any other; one that
    /// knows the length already, if that is what is missing; the first that came.
    fn candidate(&self, desk: &Desk<'_>, ended: Option<NodeId>) -> Option<NodeId> {
        let recently =
            |node: &NodeId| self.refused.get(node).is_some_and(|at| desk.now.since(*at) < desk.settings.refused_for);
        let seats = self.seats.iter().filter(|(_, seat)| seat.wants && seat.can_seed && !seat.barred);
        let best = seats.min_by_key(|(node, seat)| {
            let guesses = self.found.is_none() && seat.length.is_none();
            (recently(node), Some(*node) == ended, Some(*node) != self.able, guesses, seat.order)
        });
        best.map(|(node, _)| node)
    }

    fn probe(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        self.stage = Stage::Probing { node, deadline: desk.within(desk.settings.probe_patience) };
        desk.tell(node, ToMember::Probe { digest: self.digest });
    }

    /// A member has asked its origin, or knew. An answer is taken from whoever it comes: one is enough for all.
    pub(super) fn probed(&mut self, desk: &mut Desk<'_>, from: NodeId, outcome: Result<Probe, Refusal>) {
        let was_asked = matches!(self.stage, Stage::Probing { node, .. } if node == from);
        match outcome {
            Ok(found) if Layout::new(found.length).is_ok() => {
                let same = self.found.is_none_or(|known| known.length == found.length);
                if same && !self.found_at_origin {
                    (self.found, self.found_at_origin, self.able) = (Some(found), true, Some(from));
                }
                if matches!(self.stage, Stage::Probing { .. }) && self.is_mine(desk) {
                    self.appoint(desk, None);
                }
            }
            Ok(_) if was_asked => self.refused(desk, from, Refusal::Unavailable),
            Err(refusal) if was_asked => self.refused(desk, from, refusal),
            _ => {}
        }
    }

    /// A member says what it has.
    pub(super) fn reported(&mut self, desk: &mut Desk<'_>, from: NodeId, held: &PieceSet) {
        let Stage::Surveying(survey) = &mut self.stage else { return };
        let asked = survey.awaiting.remove(&from);
        if (asked || self.seats.get(&from).is_some()) && held.size() == survey.union.size() {
            survey.union.union_with(held);
        }
        self.gathered(desk);
    }

    /// Until when members may still be coming that had another coordinator before, which had granted leases.
    fn gathers_until(&self, desk: &Desk<'_>) -> Time {
        if self.inherited { self.opened + desk.settings.gather } else { self.opened }
    }

    /// A member finds no holder of what it wants: a lease for what nobody has, unless one is out.
    pub(super) fn orphaned(&mut self, desk: &mut Desk<'_>, from: NodeId) {
        let free = matches!(self.stage, Stage::Idle | Stage::Served);
        if let Some(found) = self.found
            && free
            && self.seats.get(&from).is_some_and(|seat| seat.wants)
            && self.is_mine(desk)
        {
            self.survey(desk, found, None, Some(from));
        }
    }

    fn survey(&mut self, desk: &mut Desk<'_>, found: Probe, ended: Option<NodeId>, orphan: Option<NodeId>) {
        let members = self.seats.nodes();
        for &node in &members {
            desk.tell(node, ToMember::Survey { digest: self.digest });
        }
        let holders: Vec<_> = self.holders.iter().map(|holder| holder.node).collect();
        for &node in &holders {
            desk.tell(node, ToMember::Ask { digest: self.digest });
        }
        let (mut awaiting, mut asked): (BTreeSet<_>, BTreeSet<_>) =
            (members.into_iter().collect(), holders.into_iter().collect());
        let until = self.gathers_until(desk);
        let (mut settled, deadline) = (desk.now, until.max(desk.within(desk.settings.survey_patience)));
        if until > desk.now {
            // Those that have not come yet may have what the leases before were for, or have it all and have left.
            for &node in &self.rank.others {
                if awaiting.insert(node) {
                    desk.tell(node, ToMember::Survey { digest: self.digest });
                }
                if asked.insert(node) {
                    desk.tell(node, ToMember::Ask { digest: self.digest });
                }
            }
            if self.rank.others.len() >= MOST_RANKED {
                settled = until;
            }
        }
        let union = PieceSet::empty(pieces(&found));
        self.stage = Stage::Surveying(Survey { awaiting, asked, union, settled, deadline, ended, orphan });
    }

    /// Goes on when there is nothing to wait for.
    fn gathered(&mut self, desk: &mut Desk<'_>) {
        let Stage::Surveying(survey) = &self.stage else { return };
        let all_here = survey.awaiting.is_empty() && survey.asked.is_empty() && survey.settled <= desk.now;
        if all_here || survey.union.is_full() {
            self.conclude(desk);
        }
    }

    fn conclude(&mut self, desk: &mut Desk<'_>) {
        let Stage::Surveying(survey) = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
        if !self.is_mine(desk) {
            return;
        }
        let Survey { mut union, ended, orphan, .. } = survey;
        if union.is_full() {
            self.serve(desk);
            let Some(orphan) = orphan else { return };
            let memory = desk.settings.refused_for;
            if self.seats.complain(desk.now, &orphan, memory) < MOST_COMPLAINTS {
                // Somebody has it, but nobody that this member reaches: others may.
                self.relink(desk, orphan);
                return;
            }
            union = PieceSet::empty(union.size());
        }
        match self.candidate(desk, ended) {
            Some(node) => self.secure(desk, node, union),
            None => self.appoint(desk, ended),
        }
    }

    fn relink(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        let Some(links) = self.seats.links_mut(&node).map(std::mem::take) else { return };
        let mut changed = graph::unlink(&mut self.seats, node, &links, desk.settings, desk.rng);
        changed.extend(graph::link(&mut self.seats, node, desk.settings, desk.rng));
        self.seats.with_sources(&node, Vec::clear);
        changed.insert(node);
        self.mark(desk, changed);
    }

    /// A member has joined again: says again what it may not have heard.
    pub(super) fn seen(&mut self, desk: &mut Desk<'_>, from: NodeId) {
        let (digest, able) = (self.digest, self.seats.get(&from).is_some_and(|seat| seat.wants && seat.can_seed));
        match &mut self.stage {
            Stage::Probing { node, .. } if *node == from && able => desk.tell(from, ToMember::Probe { digest }),
            Stage::Probing { node, .. } if *node == from => self.appoint(desk, None),
            _ => {}
        }
    }

    /// A node that may have been waited for is gone. What one that was asked about leases knows may still come from
    /// elsewhere, so that wait goes on.
    pub(super) fn missed(&mut self, desk: &mut Desk<'_>, gone: NodeId) {
        match &mut self.stage {
            Stage::Probing { node, .. } if *node == gone => self.appoint(desk, None),
            Stage::Surveying(survey) => {
                let awaited = survey.awaiting.remove(&gone);
                if awaited {
                    self.gathered(desk);
                }
            }
            Stage::Securing { awaiting, .. } => {
                let last = awaiting.remove(&gone) && awaiting.is_empty();
                if last {
                    self.deliver(desk);
                }
            }
            _ => {}
        }
    }

    /// Does what the stage's deadline asks for.
    pub(super) fn due(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now;
        match &self.stage {
            Stage::Asking { .. } => self.ask_on(desk),
            Stage::Probing { node, deadline } if *deadline <= now => self.refused(desk, *node, Refusal::Unavailable),
            Stage::Surveying(survey) if survey.deadline <= now => self.conclude(desk),
            Stage::Securing { deadline, .. } if *deadline <= now => self.deliver(desk),
            Stage::Leased(lease) if lease.end(desk.settings) <= now => self.expired(desk),
            Stage::Leased(lease) if !lease.confirmed && lease.resend <= now => self.remind(desk),
            Stage::Resting { until, .. } if *until <= now => self.rested(),
            _ => {}
        }
    }
}
