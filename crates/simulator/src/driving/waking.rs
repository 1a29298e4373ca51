//! Timers: each node is woken when the first of its state machines wants to be.

use shoal_swarm::{
    coordination::{Input as CoordinatorInput, MemberInput},
    trade::Input,
};

use super::{COORDINATOR, MEMBER, SWARM};
use crate::{
    fleet::{Event, Fleet},
    network::NodeIndex,
};

impl Fleet<'_> {
    pub(super) fn set_wake(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        let Some(at) = this.wakes.into_iter().flatten().min().filter(|_| this.alive) else { return };
        let at = at.max(self.now);
        if this.wake_at.is_none_or(|before| before > at) {
            this.wake_at = Some(at);
            self.agenda.enter(at, Event::Wake(node));
        }
    }

    pub(crate) fn wake(&mut self, node: NodeIndex) {
        let this = &mut self.nodes[node as usize];
        if !this.alive || this.wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        this.wake_at = None;
        self.check_woken(node);
        self.time_out(node);
        self.set_wake(node);
    }

    /// A node that did nothing for a while looks at the clock before it looks at what has come meanwhile.
    pub(crate) fn catch_up(&mut self, node: NodeIndex) {
        let this = &self.nodes[node as usize];
        if this.alive && this.hangs_until == self.now && this.wakes.iter().flatten().any(|at| *at < self.now) {
            self.time_out(node);
        }
    }

    pub(super) fn time_out(&mut self, node: NodeIndex) {
        let now = self.now;
        let this = &mut self.nodes[node as usize];
        let due = this.wakes.map(|at| at.is_some_and(|at| at <= now));
        // The member first: a lease that has run out must end before the swarm orders anything under it.
        if due[MEMBER] {
            self.tell_member(node, MemberInput::TimeOut);
        }
        if due[SWARM] {
            self.tell_swarm(node, Input::TimeOut);
        }
        if due[COORDINATOR] {
            self.tell_coordinator(node, CoordinatorInput::TimeOut);
        }
    }
}
