//! Members and coordinators, and what they say to each other.

use shoal_proto::coordination::{Coordination, Refusal, Returned, ToCoordinator};
use shoal_swarm::{
    coordination::{
        Input as CoordinatorInput, Member, MemberInput, MemberOutput, Output as CoordinatorOutput, Own,
        for_coordinator, for_member, unclaimed,
    },
    trade::{Input, Swarm},
};

use super::{COORDINATOR, MEMBER};
use crate::{
    fleet::{Event, Fleet, MOST_NAMED},
    network::NodeIndex,
    weight,
};

impl Fleet<'_> {
    pub(super) fn addresses(&self, node: NodeIndex) -> Vec<std::net::SocketAddr> {
        vec![std::net::SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 5051))]
    }

    pub(super) fn zone(&self, node: NodeIndex) -> String {
        format!("zone-{}", self.nodes[node as usize].zone)
    }

    pub(super) fn return_lease(&mut self, node: NodeIndex, reason: Returned) {
        let this = &mut self.nodes[node as usize];
        if this.lease.is_none() {
            return;
        }
        let reason = if reason == Returned::Done && !this.held().is_full() { Returned::Unwanted } else { reason };
        self.end_lease(node);
        self.tell_member(node, MemberInput::LeaseReturned(reason));
    }

    pub(super) fn end_lease(&mut self, node: NodeIndex) {
        self.nodes[node as usize].lease = None;
        self.stop_reading(node);
        self.tell_swarm(node, Input::Dismissed);
    }

    /// A message of the control plane.
    pub(crate) fn heard(&mut self, from: NodeIndex, to: NodeIndex, message: Coordination) {
        let sender = self.id(from);
        match message {
            Coordination::ToCoordinator(message) => {
                self.tell_coordinator(to, CoordinatorInput::Told { from: sender, message });
            }
            Coordination::ToMember(message) => {
                if let Some(input) = for_coordinator(sender, &message) {
                    self.tell_coordinator(to, input);
                }
                if for_member(&message).is_none() {
                    return;
                }
                if self.nodes[to as usize].member.is_some() {
                    self.tell_member(to, MemberInput::Told { from: sender, message });
                } else if let Some(answer) = unclaimed(&message) {
                    self.write(to, from, Coordination::ToCoordinator(answer));
                }
            }
        }
    }

    pub(super) fn write(&mut self, from: NodeIndex, to: NodeIndex, message: Coordination) {
        if from != to && !self.reaches(from, to) {
            let (life, at) = (self.life(to), self.now + 2 * self.network.latency());
            // A kernel answers for a process that is gone; nobody does for one that was cut off.
            if !self.nodes[to as usize].alive {
                self.agenda.enter(at, Event::Gone { node: from, gone: to, life });
            }
            return;
        }
        let bytes = if from == to { 0 } else { weight::coordination(&message) };
        if let Some(at) = self.network.datagram(self.now, from, to, bytes) {
            let (lives, message) = (self.lives(from, to), Box::new(message));
            self.agenda.enter(at, Event::Coordination { from, to, lives, message });
        }
    }

    pub(crate) fn tell_coordinator(&mut self, node: NodeIndex, input: CoordinatorInput) {
        if !self.nodes[node as usize].alive {
            return;
        }
        let now = self.now;
        self.nodes[node as usize].coordinator.handle(now, input);
        while let Some(output) = self.nodes[node as usize].coordinator.poll() {
            match output {
                CoordinatorOutput::Tell { to, message } => {
                    self.write(node, self.of(to), Coordination::ToMember(message));
                }
                CoordinatorOutput::Answer { to, message } => {
                    self.write(node, self.of(to), Coordination::ToCoordinator(message));
                }
                CoordinatorOutput::Know { to, digest, grant } => {
                    let holding =
                        self.nodes[node as usize].held().size() > 0 && self.nodes[node as usize].held().is_full();
                    let holding = holding.then(|| self.probe());
                    let (addresses, zone) = (self.addresses(node), self.zone(node));
                    let message = ToCoordinator::Know { digest, grant, holding, addresses, zone };
                    self.write(node, self.of(to), Coordination::ToCoordinator(message));
                }
                CoordinatorOutput::Note(_) => {}
            }
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[COORDINATOR] = this.coordinator.poll_timeout().map(|(at, _)| at);
        self.set_wake(node);
    }

    pub(crate) fn tell_member(&mut self, node: NodeIndex, input: MemberInput) {
        let now = self.now;
        let (addresses, zone) = (self.addresses(node), self.zone(node));
        let Some(member) = self.nodes[node as usize].member.as_mut() else { return };
        member.handle(now, input);
        loop {
            let this = &mut self.nodes[node as usize];
            let Some(member) = this.member.as_mut() else { break };
            let held = this.swarm.as_ref().map_or(&this.disk, Swarm::have);
            let Some(output) = member.poll(now, Own { held, addresses: &addresses, zone: &zone }) else { break };
            self.obey(node, output);
        }
        let this = &mut self.nodes[node as usize];
        this.wakes[MEMBER] = this.member.as_ref().and_then(Member::poll_timeout).map(|(at, _)| at);
        self.set_wake(node);
    }

    pub(super) fn obey(&mut self, node: NodeIndex, output: MemberOutput) {
        let life = self.life(node);
        let round_trip = 2 * self.network.latency();
        match output {
            // What a node is connected to answers at once; a walk takes a few round trips.
            MemberOutput::FindCoordinator => self.agenda.enter(self.now + 2 * round_trip, Event::Found { node, life }),
            MemberOutput::Send { to, message } => self.write(node, self.of(to), Coordination::ToCoordinator(message)),
            MemberOutput::Found(found) => {
                self.nodes[node as usize].found = Some(found);
                self.open_swarm(node);
            }
            MemberOutput::Neighbours(list) => {
                let named =
                    list.into_iter().take(MOST_NAMED).map(|one| self.of(one.node)).filter(|&other| other != node);
                let named: std::collections::BTreeSet<NodeIndex> = named.collect();
                let before = std::mem::replace(&mut self.nodes[node as usize].named, named.clone());
                for &other in before.difference(&named) {
                    self.part_from(node, other);
                }
                for other in named {
                    self.meet(node, other);
                }
                self.dial(node);
            }
            MemberOutput::Importers(nodes) => {
                self.nodes[node as usize].importers.clone_from(&nodes);
                self.tell_swarm(node, Input::Importers(nodes));
            }
            MemberOutput::ProbeOrigin => self.agenda.enter(self.now + 2 * round_trip, Event::Probed { node, life }),
            MemberOutput::BecomeSeed { grant, elsewhere, .. } => {
                self.note("seed", node, node, u32::MAX);
                self.nodes[node as usize].lease = Some((grant.grant().epoch, elsewhere.clone()));
                self.check_leases(node);
                self.tell_swarm(node, Input::Appointed { elsewhere });
            }
            MemberOutput::ExtendLease { grant, .. } => {
                if let Some((epoch, _)) = &mut self.nodes[node as usize].lease {
                    *epoch = grant.grant().epoch;
                }
                self.check_leases(node);
            }
            MemberOutput::StopSeeding(_) => {
                self.note("stops", node, node, u32::MAX);
                self.lapses += 1;
                self.end_lease(node);
            }
            MemberOutput::NewGrant(grant) => self.tell_coordinator(node, CoordinatorInput::Learnt(grant)),
            MemberOutput::Fail(_) => {
                self.note("fails", node, node, u32::MAX);
                let this = &mut self.nodes[node as usize];
                this.failed = true;
                // With some refused, others are only told so after so many that the coordinator believes it of all.
                let known = this.refused || self.origin.probes <= self.scenario.refused;
                self.awaits_no_more(node);
                if !known {
                    self.broke(format!("node {node} was told that the blob cannot be read, and it can"));
                }
            }
            MemberOutput::Doubted { .. } => {}
        }
    }

    pub(crate) fn found_closest(&mut self, node: NodeIndex, life: u32) {
        if self.life(node) != life {
            return;
        }
        // A walk finds those who live, through whomever it knows.
        let known = |other: &NodeIndex| match self.scenario.begin {
            crate::scenario::Begin::Cold if self.now.since(self.begun).as_millis() < 1000 => {
                self.nodes[node as usize].view.contains(other)
            }
            _ => true,
        };
        let near = (0..self.scenario.nodes).filter(|&other| self.reaches(node, other)).filter(known).take(20);
        let closest = near.map(|other| self.id(other)).collect();
        self.tell_member(node, MemberInput::CoordinatorsFound { closest });
    }

    pub(crate) fn probed(&mut self, node: NodeIndex, life: u32) {
        if self.life(node) == life {
            let answers = self.origin.asked();
            self.nodes[node as usize].refused |= !answers;
            let outcome = if answers { Ok(self.probe()) } else { Err(Refusal::Unauthorized) };
            self.tell_member(node, MemberInput::Probed(outcome));
        }
    }

    pub(crate) fn gone(&mut self, node: NodeIndex, gone: NodeIndex, life: u32) {
        // It may be back, or the network whole, before anybody has missed it.
        if self.life(gone) != life || self.reaches(node, gone) {
            return;
        }
        let id = self.id(gone);
        self.tell_coordinator(node, CoordinatorInput::Unreachable { node: id });
        if self.nodes[node as usize].view.remove(&gone) {
            // Discovery has noticed too. Those that it has not missed yet stay in what it says.
            let live = self.nodes[node as usize].view.iter().map(|&other| self.id(other)).collect();
            self.tell_coordinator(node, CoordinatorInput::View { live });
        }
        self.tell_member(node, MemberInput::Unreachable { node: id });
    }
}
