//! The coordinator that every node is, for the digests it is closest to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_blob::Digest;
use shoal_proto::{
    NodeId, NodeKey, SignedGrant,
    coordination::{MAX_HOLDINGS, ToCoordinator, ToMember},
};

use super::{
    Input, Note, Output, Remembered, Settings, Why,
    case::Case,
    seats::Contact,
    stage::{Desk, Stage},
    view::View,
};
use crate::Time;

/// A node's coordinator: who is in which swarm, who may read which origin.
///
/// To drive it: give it every message for it and every change as an [`Input`], then take what [`Coordinator::poll`]
/// has until it is `None`, then wake it with [`Input::TimeOut`] at [`Coordinator::poll_timeout`]. The time given must
/// never go back. It holds soft state only: one that starts anew learns all that matters from the members.
///
/// Invariant: `agenda` has exactly one entry for each case, its wake; so has `idle` for each case that may be dropped
/// for want of room; `holdings` is the number of holders in all cases.
#[derive(Debug)]
pub struct Coordinator {
    key: NodeKey,
    me: NodeId,
    started: Time,
    settings: Settings,
    view: View,
    rng: Xoshiro256PlusPlus,
    remembered: Remembered,
    cases: BTreeMap<Digest, Filed>,
    agenda: BTreeSet<(Time, Digest)>,
    idle: BTreeSet<(Time, Digest)>,
    holdings: usize,
    /// Nodes that should coordinate what members come here for all the same: are they there?
    questions: BTreeMap<NodeId, Question>,
    out: VecDeque<Output>,
}

/// A closer node is asked about a digest, and has said nothing yet.
#[derive(Debug)]
struct Question {
    digest: Digest,
    since: Time,
    again: Time,
}

#[derive(Debug)]
struct Filed {
    case: Case,
    wake: Time,
    idle: Option<Time>,
    touched: Time,
}

/// How many nodes are questioned at a time.
const MOST_QUESTIONS: usize = 64;

impl Question {
    fn wake(&self, settings: &Settings) -> Time {
        self.again.min(self.since + settings.closer_patience)
    }
}

impl Coordinator {
    /// The coordinator of a node that starts now; `seed` makes its chances.
    #[must_use]
    pub fn new(key: NodeKey, now: Time, seed: u64, settings: Settings) -> Self {
        let me = key.id();
        Self {
            key,
            me,
            started: now,
            view: View::new(me, now),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            remembered: Remembered::new(settings.most_grants),
            settings,
            cases: BTreeMap::new(),
            agenda: BTreeSet::new(),
            idle: BTreeSet::new(),
            holdings: 0,
            questions: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes notice of something.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Told { from, message } => self.told(now, from, message),
            Input::Asked { from, digest } => self.asked(now, from, digest),
            Input::Entrusted { from, grant } => {
                self.heard(now, from);
                let claimed = grant.grant();
                let (digest, epoch) = (claimed.digest, claimed.epoch);
                if epoch.coordinator == from && self.remembered.keep(now, &grant) {
                    self.with(now, digest, |case, desk| case.learnt(desk, from, &grant));
                    self.out.push_back(Output::Answer { to: from, message: ToCoordinator::Kept { digest, epoch } });
                }
            }
            Input::Pointed { digest, closer } => self.with(now, digest, |case, desk| case.pointed(desk, closer)),
            Input::Learnt(grant) => {
                self.remembered.keep(now, &grant);
            }
            Input::View { live } => {
                let gone = self.view.replace(now, live);
                gone.into_iter().for_each(|node| self.lost(now, node));
                self.look_round(now);
            }
            Input::Unreachable { node } => {
                self.view.lost(now, node);
                self.lost(now, node);
                self.look_round(now);
            }
            Input::TimeOut => self.time_out(now),
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to give it [`Input::TimeOut`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Why)> {
        let agenda = self
            .agenda
            .first()
            .and_then(|(at, digest)| Some((*at, self.cases.get(digest)?.case.wake(&self.settings).1)));
        let view = self.view.wake().map(|at| (at, Why::Sweep));
        let questions = self.questions.values().map(|question| question.wake(&self.settings)).min();
        let questions = questions.map(|at| (at, Why::Answers));
        [agenda, view, questions].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The highest lease that this node knows of.
    #[must_use]
    pub fn highest(&self, digest: &Digest) -> Option<&SignedGrant> {
        self.remembered.get(digest)
    }

    /// How many swarms it coordinates, and how many leases it has out: for the metrics.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let live = self.cases.values().filter(|filed| !filed.case.seats.is_empty()).count();
        let leases = self.cases.values().filter(|filed| matches!(filed.case.stage, Stage::Leased(_))).count();
        (live, leases)
    }

    fn told(&mut self, now: Time, from: NodeId, message: ToCoordinator) {
        self.heard(now, from);
        match message {
            ToCoordinator::Join(join) => {
                let digest = join.digest;
                let mut closer = None;
                self.with_new(now, digest, |case, desk| {
                    case.joined(desk, from, join);
                    closer = case.rank.closer;
                });
                if let Some(closer) = closer {
                    self.question(now, closer, digest);
                }
            }
            ToCoordinator::Probed { digest, outcome } => {
                self.with(now, digest, |case, desk| case.probed(desk, from, outcome));
            }
            ToCoordinator::Renew { digest, epoch, held, round } => {
                self.with_new(now, digest, |case, desk| case.renewed(desk, from, epoch, held, round));
            }
            ToCoordinator::Return { digest, epoch, reason } => {
                self.with(now, digest, |case, desk| case.returned(desk, from, epoch, reason));
            }
            ToCoordinator::Report { digest, held } => {
                self.with(now, digest, |case, desk| case.reported(desk, from, &held));
            }
            ToCoordinator::Orphaned { digest } => self.with(now, digest, |case, desk| case.orphaned(desk, from)),
            ToCoordinator::Leave { digest } => self.with(now, digest, |case, desk| case.departed(desk, from)),
            ToCoordinator::Announce { holdings, addresses, zone } => {
                let contact = Contact::new(addresses, zone);
                for holding in holdings.into_iter().take(MAX_HOLDINGS) {
                    self.with_new(now, holding.digest, |case, desk| case.announced(desk, from, &contact, holding));
                }
            }
            ToCoordinator::Dropped { digest } => self.with(now, digest, |case, _| {
                case.holders.remove(&from);
            }),
            ToCoordinator::Know { digest, grant, holding, addresses, zone } => {
                if let Some(grant) = &grant {
                    self.remembered.keep(now, grant);
                }
                self.with(now, digest, |case, desk| {
                    if let Some(grant) = &grant {
                        case.learnt(desk, from, grant);
                    }
                    match holding {
                        Some(found) => {
                            let contact = Contact::new(addresses, zone);
                            case.announced(desk, from, &contact, shoal_proto::coordination::Holding { digest, found });
                        }
                        None => {
                            case.holders.remove(&from);
                        }
                    }
                    case.answered(desk, from, holding.is_some());
                });
            }
            ToCoordinator::Kept { digest, epoch } => self.with(now, digest, |case, desk| case.kept(desk, from, epoch)),
        }
    }

    /// This node speaks.
    fn heard(&mut self, now: Time, from: NodeId) {
        self.questions.remove(&from);
        self.view.heard_from(now, from);
    }

    /// A member has come here although this other node is closer. It may have been wrong; but one that hangs is connected
    /// still, and discovery takes long to miss it.
    fn question(&mut self, now: Time, closer: NodeId, digest: Digest) {
        if self.questions.len() < MOST_QUESTIONS && !self.questions.contains_key(&closer) {
            self.questions.insert(closer, Question { digest, since: now, again: now });
            self.ask_closer(now);
        }
    }

    /// Asks again those that have not answered, and believes no longer in those that have not for long.
    fn ask_closer(&mut self, now: Time) {
        let (settings, out) = (&self.settings, &mut self.out);
        let mut silent = Vec::new();
        self.questions.retain(|&node, question| {
            if question.since + settings.closer_patience <= now {
                silent.push(node);
                return false;
            }
            if question.again <= now {
                question.again = now + settings.resend;
                out.push_back(Output::Tell { to: node, message: ToMember::Ask { digest: question.digest } });
            }
            true
        });
        for &node in &silent {
            self.view.fell_silent(now, node);
        }
        if !silent.is_empty() {
            self.look_round(now);
        }
    }

    /// Another node is about to grant a first lease. It hears what this one knows, and of a node that is closer.
    fn asked(&mut self, now: Time, from: NodeId, digest: Digest) {
        self.heard(now, from);
        self.with(now, digest, |case, desk| {
            case.is_mine(desk);
        });
        let grant = self.remembered.get(&digest).cloned();
        self.out.push_back(Output::Know { to: from, digest, grant });
        if let Some(closer) = self.view.closer(&digest, from) {
            self.out.push_back(Output::Tell { to: from, message: ToMember::NotMine { digest, closer } });
        }
    }

    fn lost(&mut self, now: Time, node: NodeId) {
        for digest in self.cases.keys().copied().collect::<Vec<_>>() {
            self.with(now, digest, |case, desk| case.lost(desk, node));
        }
    }

    /// The set of live nodes has changed: swarms that another node should coordinate now are sent there.
    fn look_round(&mut self, now: Time) {
        let live: Vec<_> =
            self.cases.iter().filter(|(_, filed)| !filed.case.is_idle()).map(|(digest, _)| *digest).collect();
        for digest in live {
            self.with(now, digest, |case, desk| {
                if case.is_mine(desk) {
                    case.due(desk);
                }
            });
        }
    }

    fn time_out(&mut self, now: Time) {
        if self.view.wake().is_some_and(|at| at <= now) {
            self.view.sweep(now);
            self.look_round(now);
        }
        self.ask_closer(now);
        while let Some(&(at, digest)) = self.agenda.first()
            && at <= now
        {
            self.with(now, digest, Case::tick);
            // Whatever a case says, it is not asked twice at one moment.
            let Some(filed) = self.cases.get_mut(&digest) else { continue };
            if filed.wake <= now {
                self.agenda.remove(&(filed.wake, digest));
                filed.wake = now + Duration::from_millis(1);
                self.agenda.insert((filed.wake, digest));
            }
        }
    }

    /// Takes a step with a digest's case; opens it if there is none.
    fn with_new(&mut self, now: Time, digest: Digest, step: impl FnOnce(&mut Case, &mut Desk<'_>)) {
        if !self.cases.contains_key(&digest) {
            if self.cases.len() >= self.settings.most_digests && !self.make_room() {
                self.out.push_back(Output::Note(Note::Full { digest, limit: "digests" }));
                return;
            }
            let case = Case::new(digest, &self.desk(now));
            self.agenda.insert((now, digest));
            self.cases.insert(digest, Filed { case, wake: now, idle: None, touched: now });
        }
        if let Some(filed) = self.cases.get_mut(&digest) {
            filed.touched = now;
        }
        self.with(now, digest, step);
        while self.holdings > self.settings.most_holdings && self.make_room() {}
    }

    /// Takes a step with a digest's case, if there is one, and files it again.
    fn with(&mut self, now: Time, digest: Digest, step: impl FnOnce(&mut Case, &mut Desk<'_>)) {
        let Some(mut filed) = self.cases.remove(&digest) else { return };
        self.agenda.remove(&(filed.wake, digest));
        if let Some(at) = filed.idle.take() {
            self.idle.remove(&(at, digest));
        }
        let before = filed.case.holders.len();
        let mut desk = self.desk(now);
        step(&mut filed.case, &mut desk);
        let empty = filed.case.is_empty(&desk);
        self.holdings = self.holdings + if empty { 0 } else { filed.case.holders.len() } - before;
        if !empty {
            filed.wake = filed.case.wake(&self.settings).0;
            self.agenda.insert((filed.wake, digest));
            if filed.case.is_idle() {
                filed.idle = Some(filed.touched);
                self.idle.insert((filed.touched, digest));
            }
            self.cases.insert(digest, filed);
        }
    }

    fn desk(&mut self, now: Time) -> Desk<'_> {
        Desk {
            now,
            started: self.started,
            key: &self.key,
            me: self.me,
            settings: &self.settings,
            view: &self.view,
            rng: &mut self.rng,
            remembered: &mut self.remembered,
            out: &mut self.out,
        }
    }

    /// Drops the digest without members that has not been spoken of for longest; returns whether there was one.
    fn make_room(&mut self) -> bool {
        let Some((_, digest)) = self.idle.pop_first() else { return false };
        if let Some(filed) = self.cases.remove(&digest) {
            self.agenda.remove(&(filed.wake, digest));
            self.holdings -= filed.case.holders.len();
        }
        true
    }
}
