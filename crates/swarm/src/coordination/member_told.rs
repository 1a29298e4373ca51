//! What a member makes of its coordinator's words, and of grants from wherever they come.

use shoal_blob::PieceSet;
use shoal_proto::{
    Grant, NodeId, SignedGrant,
    coordination::{Importers, MAX_IMPORTERS, MAX_NEIGHBOURS, Neighbour, Probe, Returned, ToCoordinator, ToMember},
};

use super::{
    Doubt, MemberOutput, Stopped,
    member::{Member, Queued},
    remembered::{is_sound, outranks},
    tenure::Tenure,
};
use crate::Time;

impl Member {
    pub(super) fn told(&mut self, now: Time, from: NodeId, message: ToMember) {
        self.guide.heard(from);
        if let ToMember::NotMine { closer, .. } = message {
            if self.guide.pointed(now, closer) {
                self.join();
            }
            return;
        }
        if !self.guide.trusts(from) {
            return self.doubt(from, Doubt::NotCoordinator);
        }
        let digest = self.digest;
        match message {
            ToMember::Joined { found, neighbours, grant, importers, members, .. } => {
                if let Some(grant) = grant {
                    self.learn(from, &grant);
                }
                if let Some(found) = found {
                    self.find(found);
                }
                if self.guide.current() == Some(from) {
                    self.members = members;
                    self.hear_importers(importers);
                    self.meet(from, neighbours);
                }
            }
            ToMember::Probe { .. } => match self.found {
                Some(found) => self.send(from, ToCoordinator::Probed { digest, outcome: Ok(found) }),
                None if self.can_seed && self.wants() => {
                    if self.probing.replace(from).is_none() {
                        self.put(MemberOutput::ProbeOrigin);
                    }
                }
                None => self.join(),
            },
            ToMember::Granted { grant, elsewhere } => self.granted(now, from, grant, elsewhere),
            ToMember::Renewed { grant, round } => self.renewed(now, from, &grant, round),
            ToMember::Revoked { epoch, .. } => {
                if self.tenure.as_ref().is_some_and(|tenure| tenure.epoch() == epoch) {
                    self.stop(Stopped::Revoked);
                    self.tenure = None;
                    self.join();
                }
            }
            ToMember::Survey { .. } => self.out.push_back(Queued::Report { to: from }),
            ToMember::Failed { refusal, .. } => {
                if self.wants() {
                    self.wanted = false;
                    self.put(MemberOutput::Fail(refusal));
                    self.join_now(now);
                }
            }
            ToMember::NotMine { .. } | ToMember::Ask { .. } | ToMember::Keep { .. } => {}
        }
    }

    fn hear_importers(&mut self, importers: Option<Importers>) {
        let nodes = importers.as_ref().map_or(&[][..], |importers| &importers.nodes);
        let known = self.importers.as_ref().map_or(&[][..], |importers| &importers.nodes);
        if nodes != known {
            let nodes = nodes.iter().take(MAX_IMPORTERS).copied().collect();
            self.put(MemberOutput::Importers(nodes));
        }
        self.importers = importers;
    }

    fn meet(&mut self, from: NodeId, named: Option<Vec<Neighbour>>) {
        if let Some(mut neighbours) = named {
            neighbours.truncate(MAX_NEIGHBOURS);
            neighbours.retain(|neighbour| neighbour.node != self.me);
            // Also when they are the same: one that has taken leave since, sent by another coordinator, is met again.
            if !(neighbours.is_empty() && self.neighbours.is_empty()) {
                self.neighbours.clone_from(&neighbours);
                self.put(MemberOutput::Neighbours(neighbours));
            }
        }
        let unneeded = self.neighbours.is_empty() && !self.wants() && self.tenure.is_none();
        if unneeded && !self.over {
            let output = self.leave(from);
            self.put(output);
        }
    }

    fn granted(&mut self, now: Time, from: NodeId, grant: SignedGrant, elsewhere: PieceSet) {
        let Grant { digest, epoch, seed, .. } = *grant.grant();
        if digest != self.digest || seed != self.me || epoch.coordinator != from {
            return self.doubt(from, Doubt::Misdirected);
        }
        self.learn(from, &grant);
        let known_already = self.tenure.as_ref().is_some_and(|tenure| tenure.epoch() == epoch);
        if known_already || self.highest.as_ref() != Some(&grant) {
            return;
        }
        if !self.wants() {
            let reason = if self.complete { Returned::Done } else { Returned::Unwanted };
            self.stop(Stopped::Unwanted);
            self.tenure = None;
            return self.send(from, ToCoordinator::Return { digest, epoch, reason });
        }
        let before = self.tenure.as_ref();
        // A set of no size: the coordinator takes a lease over, and trusts its seed to know what it may leave out.
        let elsewhere = match before {
            Some(before) if elsewhere.size() == 0 => before.elsewhere.clone(),
            None if elsewhere.size() == 0 => {
                let reason = Returned::Unwanted;
                return self.send(from, ToCoordinator::Return { digest, epoch, reason });
            }
            _ => elsewhere,
        };
        self.tenure = Some(Tenure::new(now, grant, elsewhere, before));
    }

    fn renewed(&mut self, now: Time, from: NodeId, grant: &SignedGrant, round: u32) {
        let Some(tenure) = &mut self.tenure else {
            let message =
                ToCoordinator::Return { digest: self.digest, epoch: grant.grant().epoch, reason: Returned::Unwanted };
            return self.send(from, message);
        };
        // The same words with the same signature as were checked when they were granted.
        if tenure.grant != *grant || tenure.coordinator() != from {
            return;
        }
        if let Some((until, begins)) = tenure.answered(now, round, &self.settings) {
            let (grant, elsewhere) = (tenure.grant.clone(), tenure.elsewhere.clone());
            self.put(if begins {
                MemberOutput::BecomeSeed { grant, until, elsewhere }
            } else {
                MemberOutput::ExtendLease { grant, until }
            });
        }
    }

    /// Notes a lease; a higher one with another seed ends this node's.
    pub(super) fn learn(&mut self, from: NodeId, grant: &SignedGrant) {
        if self.highest.as_ref() == Some(grant) {
            return;
        }
        let Grant { digest, epoch, seed, length, visibility, .. } = *grant.grant();
        if digest != self.digest {
            return self.doubt(from, Doubt::Misdirected);
        }
        if let Some(known) = self.highest.as_ref().map(|known| known.grant().epoch)
            && !outranks(&digest, epoch, known)
        {
            return self.doubt(from, Doubt::Old { old: epoch, known });
        }
        if !self.guide.trusts(epoch.coordinator) {
            return self.doubt(from, Doubt::Stranger { coordinator: epoch.coordinator });
        }
        if let Some(known) = self.found.map(|found| found.length).filter(|known| *known != length) {
            return self.doubt(from, Doubt::Length { told: length, known });
        }
        if !is_sound(grant) {
            return self.doubt(from, Doubt::Unsound);
        }
        self.highest = Some(grant.clone());
        self.put(MemberOutput::NewGrant(grant.clone()));
        self.find(Probe { length, visibility });
        if seed != self.me && self.tenure.is_some() {
            self.stop(Stopped::Outranked { by: epoch });
            self.tenure = None;
        }
    }

    fn doubt(&mut self, from: NodeId, doubt: Doubt) {
        self.put(MemberOutput::Doubted { from, doubt });
    }
}
