//! What a coordinator knows of one digest: its swarm, its holders, its lease.

use std::collections::{BTreeMap, BTreeSet};

use shoal_blob::{Digest, Layout};
use shoal_proto::{
    Epoch, NodeId, SignedGrant, Visibility,
    coordination::{Holding, Join, Neighbour, Probe, ToMember, mark},
};

use super::{
    Note, Settings, Why, graph,
    holders::Holders,
    importers::Imports,
    seats::{Contact, Seat, Seats},
    stage::{Desk, Stage},
    view::Rank,
};
use crate::Time;
use std::{sync::Arc, time::Duration};

/// How often what is old is forgotten: where there are members, and where there are only holders.
const SWEEP: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// For how many notice delays newcomers wait at most while more of them come.
const CROWDED: u32 = 4;
/// How many nodes are asked before a first lease.
pub(super) const MOST_RANKED: usize = 64;

/// One digest at its coordinator, or at a node that was it or may become it.
///
/// Invariant: while `rank.closer` names a node, this one begins nothing; it only sees a lease of its own to its end.
/// `highest` is the highest grant seen; with `foreign`, it is one that others may live by and that was not taken over.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) digest: Digest,
    pub(super) seats: Seats,
    pub(super) holders: Holders,
    /// The blob's length and visibility, once found.
    pub(super) found: Option<Probe>,
    /// Whether a node asked the origin for them: what holders say tells no visibility.
    pub(super) found_at_origin: bool,
    pub(super) highest: Option<SignedGrant>,
    pub(super) foreign: bool,
    /// Whose lease was taken over, until it says that it knows.
    pub(super) former: Option<NodeId>,
    /// Whether members may have pieces of leases that others granted, or this node in an earlier life.
    pub(super) inherited: bool,
    /// When the first of its members came, nobody having been here before.
    pub(super) opened: Time,
    /// The last lower epoch whose coordinator was told of the highest.
    pub(super) corrected: Option<Epoch>,
    pub(super) stage: Stage,
    /// The version of the view in which the others were asked.
    pub(super) asked: Option<u64>,
    /// The member that last found the blob at its origin.
    pub(super) able: Option<NodeId>,
    /// Nodes that could not read the origin, and when.
    pub(super) refused: BTreeMap<NodeId, Time>,
    /// Those of them since the last success or rest.
    pub(super) chain: BTreeSet<NodeId>,
    pub(super) last_refusal: Option<shoal_proto::coordination::Refusal>,
    /// Epochs that ended in wrong bytes.
    pub(super) wrong: u32,
    /// Rests in a row, and when the last one ended.
    pub(super) rests: (u32, Time),
    pub(super) rank: Rank,
    pub(super) imports: Imports,
    /// How many zones there were when the importers were linked with them.
    linked_zones: usize,
    dirty: BTreeSet<NodeId>,
    notice: Option<Time>,
    /// Newcomers wait to be answered together, until then.
    crowded: Option<Time>,
    sweep: Time,
}

impl Case {
    pub(super) fn new(digest: Digest, desk: &Desk<'_>) -> Self {
        let highest = desk.remembered.get(&digest).cloned();
        let found = highest.as_ref().map(found_by);
        Self {
            digest,
            seats: Seats::default(),
            holders: Holders::default(),
            found,
            found_at_origin: found.is_some(),
            foreign: highest.is_some(),
            former: None,
            inherited: highest.is_some(),
            opened: desk.now,
            highest,
            corrected: None,
            stage: Stage::Idle,
            asked: None,
            able: None,
            refused: BTreeMap::new(),
            chain: BTreeSet::new(),
            last_refusal: None,
            wrong: 0,
            rests: (0, desk.now),
            rank: Rank::default(),
            imports: Imports::default(),
            linked_zones: 0,
            dirty: BTreeSet::new(),
            notice: None,
            crowded: None,
            sweep: desk.within(SWEEP[1]),
        }
    }

    /// When something must be done without being told, and why.
    pub(super) fn wake(&self, settings: &Settings) -> (Time, Why) {
        let notice = self.notice.map(|at| (at, Why::Notice));
        let stage = self.stage.wake(settings);
        [notice, stage].into_iter().flatten().fold((self.sweep, Why::Sweep), |a, b| if b.0 <= a.0 { b } else { a })
    }

    /// Whether nothing here is worth keeping.
    pub(super) fn is_empty(&self, desk: &Desk<'_>) -> bool {
        let calm = self.rests.0 == 0 || desk.now.since(self.rests.1) > desk.settings.longest_rest;
        self.seats.is_empty() && self.holders.is_empty() && matches!(self.stage, Stage::Idle | Stage::Served) && calm
    }

    /// Whether it may be dropped for want of room.
    pub(super) fn is_idle(&self) -> bool {
        self.seats.is_empty() && matches!(self.stage, Stage::Idle | Stage::Served)
    }

    /// Whether this node coordinates the digest now. Members are sent on to whoever is closer; a lease of this node is
    /// renewed until the closer one has taken it over, which learns of it from the members.
    pub(super) fn is_mine(&mut self, desk: &mut Desk<'_>) -> bool {
        desk.view.rank(&self.digest, MOST_RANKED, &mut self.rank);
        let Some(closer) = self.rank.closer else { return true };
        if !self.seats.is_empty() {
            desk.note(Note::HandedOver { digest: self.digest, to: closer });
            for (node, _) in std::mem::take(&mut self.seats).iter() {
                desk.tell(node, ToMember::NotMine { digest: self.digest, closer });
            }
            self.imports.keep(&self.seats);
            self.dirty.clear();
        }
        if self.stage.grant().is_none() {
            self.stage = Stage::Idle;
        }
        false
    }

    pub(super) fn joined(&mut self, desk: &mut Desk<'_>, from: NodeId, mut join: Join) {
        let known = (join.neighbours, join.highest.as_ref().map(|grant| grant.grant().epoch));
        if let Some(grant) = join.highest.take() {
            self.learnt(desk, from, &grant);
        }
        if !self.is_mine(desk) {
            if let Some(closer) = self.rank.closer {
                desk.tell(from, ToMember::NotMine { digest: self.digest, closer });
            }
            return;
        }
        if let Stage::Resting { refusal, .. } = self.stage
            && join.wants
        {
            desk.tell(from, ToMember::Failed { digest: self.digest, refusal });
            return;
        }
        if self.seats.get(&from).is_none() && self.seats.len() >= desk.settings.most_members {
            desk.note(Note::Full { digest: self.digest, limit: "members of a swarm" });
            return;
        }
        self.sweep = self.sweep.min(desk.within(SWEEP[0]));
        let fits = self.found.is_none_or(|found| join.held.size() == pieces(&found));
        let complete = fits && join.held.size() > 0 && join.held.is_full();
        let held = matches!(self.stage, Stage::Surveying(_)).then(|| join.held.clone());
        if self.seats.is_empty() {
            self.opened = desk.now;
        }
        let new = self.seats.join(desk.now, from, join, complete);
        if new {
            self.choose_importer(desk, from);
            let changed = graph::link(&mut self.seats, from, desk.settings, desk.rng);
            self.mark(desk, changed);
        }
        if new && self.seats.len() > desk.settings.few {
            self.answer_with_others(desk, from);
        } else {
            self.dirty.remove(&from);
            self.answer(desk, from, known.0, known.1);
        }
        match held {
            Some(held) => self.reported(desk, from, &held),
            None => self.seen(desk, from),
        }
        self.advance(desk);
    }

    /// A newcomer may be an importer: it gets links into other zones, and its zone hears of it.
    fn choose_importer(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        let Some(seat) = self.seats.get(&node) else { return };
        let (zone, wants) = (seat.contact.zone.clone(), seat.wants);
        if self.imports.joined(node, &zone, wants) {
            self.seats.set_importer(&node);
            self.tell_zone(desk, &zone);
        }
    }

    /// Those that came before there were other zones get their links abroad now.
    fn link_importers(&mut self, desk: &mut Desk<'_>) {
        if self.seats.zones().len() > 1 && self.linked_zones != self.seats.zones().len() {
            self.linked_zones = self.seats.zones().len();
            for node in self.imports.all() {
                let changed = graph::link(&mut self.seats, node, desk.settings, desk.rng);
                self.dirty.extend(changed);
                self.dirty.insert(node);
            }
        }
    }

    fn tell_zone(&mut self, desk: &Desk<'_>, zone: &str) {
        if self.seats.zones().len() > 1 {
            let members = self.seats.zones().get(zone).cloned().unwrap_or_default();
            self.mark(desk, members);
        }
    }

    /// Takes a member's seat away, if it has one, and mends what it leaves.
    pub(super) fn unseat(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        if let Some(seat) = self.seats.take(&node) {
            let zone = seat.contact.zone.clone();
            if let Some(next) = self.imports.left(node, &zone, &self.seats) {
                if let Some(next) = next {
                    self.seats.set_importer(&next);
                    let changed = graph::link(&mut self.seats, next, desk.settings, desk.rng);
                    self.mark(desk, changed);
                }
                self.tell_zone(desk, &zone);
            }
            let changed = graph::unlink(&mut self.seats, node, &seat.links, desk.settings, desk.rng);
            self.dirty.remove(&node);
            self.mark(desk, changed);
        }
    }

    pub(super) fn left(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        self.unseat(desk, node);
        self.missed(desk, node);
        if !self.seats.any_wants() && matches!(self.stage, Stage::Served) {
            self.stage = Stage::Idle;
        }
    }

    pub(super) fn announced(&mut self, desk: &mut Desk<'_>, node: NodeId, contact: &Arc<Contact>, holding: Holding) {
        let other_length = self.found.is_some_and(|found| found.length != holding.found.length);
        if other_length || Layout::new(holding.found.length).is_err() {
            return;
        }
        self.holders.announced(desk.now, node, contact, holding.found, desk.settings.most_holders);
        // What a holder says that was asked because of an orphan is no news: that it has the blob is what the orphan doubts.
        let is_doubted = match &self.stage {
            Stage::Surveying(survey) => survey.orphan.is_some() && survey.asked.contains(&node),
            _ => false,
        };
        if !matches!(self.stage, Stage::Securing { .. } | Stage::Leased(_) | Stage::Served | Stage::Resting { .. })
            && !is_doubted
            && self.seats.any_wants()
            && self.is_mine(desk)
        {
            self.serve(desk);
        }
    }

    /// No lease is needed: some node has everything. Those who want it are told where.
    pub(super) fn serve(&mut self, desk: &mut Desk<'_>) {
        if self.found.is_none() {
            // Not every holder remembers whether the origin wanted a credential: where none says that it did not, the blob
            // counts as private, so that nothing leaks.
            let public = self.holders.iter().any(|holder| holder.found.visibility == Visibility::Public);
            let visibility = if public { Visibility::Public } else { Visibility::Private };
            let length = self.holders.iter().map(|holder| holder.found.length).next();
            let length = length.or_else(|| self.complete_length());
            self.found = length.map(|length| Probe { length, visibility });
        }
        if let Some(found) = self.found {
            self.holders.retain(|holder| holder.found.length == found.length);
        }
        self.stage = Stage::Served;
        let wanting = self.seats.iter().filter(|(_, seat)| seat.wants).map(|(node, _)| node).collect();
        self.mark(desk, wanting);
    }

    /// These members will be told of their neighbours soon.
    pub(super) fn mark(&mut self, desk: &Desk<'_>, nodes: BTreeSet<NodeId>) {
        self.dirty.extend(nodes);
        if !self.dirty.is_empty() && self.notice.is_none() {
            self.notice = Some(desk.within(desk.settings.notice_delay));
        }
    }

    /// A newcomer of many is answered when no others have come for half a notice delay, or after a few delays.
    fn answer_with_others(&mut self, desk: &Desk<'_>, node: NodeId) {
        self.dirty.insert(node);
        let latest = *self.crowded.get_or_insert_with(|| desk.within(CROWDED * desk.settings.notice_delay));
        self.notice = Some(desk.within(desk.settings.notice_delay / 2).min(latest));
    }

    /// Tells every member of a new lease. What a crowd is told fills this node's link for so long that the answer to the
    /// seed's first Renew, without which it does not begin, would wait behind it: so the crowd waits for that.
    pub(super) fn tell_of_lease(&mut self, desk: &mut Desk<'_>) {
        self.dirty.extend(self.seats.nodes());
        self.notice = Some(desk.within(desk.settings.notice_delay / 2));
        if self.seats.len() <= desk.settings.few {
            self.tell_the_waiting(desk);
        }
    }

    /// Tells those that are to be told something what they should know, at once.
    pub(super) fn tell_the_waiting(&mut self, desk: &mut Desk<'_>) {
        (self.notice, self.crowded) = (None, None);
        self.link_importers(desk);
        for node in std::mem::take(&mut self.dirty) {
            self.welcome(desk, node);
        }
    }

    /// Tells a member what it should know.
    fn welcome(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        self.answer(desk, node, 0, None);
    }

    /// Tells a member what it should know and does not: it has neighbours of this mark, and knows of this lease.
    fn answer(&mut self, desk: &mut Desk<'_>, node: NodeId, known: u64, lease: Option<Epoch>) {
        let Some(seat) = self.seats.get(&node) else { return };
        let (wants, links) = (seat.wants, seat.links.clone());
        if wants {
            let want = desk.settings.most_neighbours.saturating_sub(links.len());
            let Self { seats, holders, .. } = self;
            seats.with_sources(&node, |sources| {
                holders.choose(sources, want, desk.rng, |holder| *holder == node || links.contains(holder));
            });
        }
        let Some(seat) = self.seats.get(&node) else { return };
        // Of a crowd each is told of those before it, and found by those behind it, which are told of it: half as much to say.
        let first = seat.told_members == 0 && self.seats.len() > desk.settings.few;
        let linked = links.iter().filter_map(|other| Some((*other, self.seats.get(other)?)));
        let linked = linked.filter(|(_, other)| !first || other.order < seat.order);
        let linked = linked.filter(|(_, other)| wants || other.wants).map(|(other, seat)| (other, &seat.contact));
        let holders = seat.sources.iter().filter(|_| wants);
        let holders = holders.filter_map(|other| Some((*other, &self.holders.get(other)?.contact)));
        let neighbours = linked
            .chain(holders)
            .map(|(node, contact)| Neighbour { node, addresses: contact.addresses.clone() })
            .collect();
        let neighbours = Some(neighbours).filter(|list: &Vec<Neighbour>| mark(list) != known);
        let grant = match &self.stage {
            Stage::Leased(held) if lease != Some(held.grant.grant().epoch) => Some(held.grant.clone()),
            _ => None,
        };
        let importers = self.imports.of(&seat.contact.zone, &self.seats).filter(|_| wants);
        let (digest, found, members) = (self.digest, self.found, self.seats.len() as u32);
        self.seats.told_members(&node, members);
        desk.tell(node, ToMember::Joined { digest, found, neighbours, grant, importers, members });
    }

    /// A node is gone: it is neither a member nor a holder until it speaks again.
    pub(super) fn lost(&mut self, desk: &mut Desk<'_>, node: NodeId) {
        self.holders.remove(&node);
        if let Stage::Surveying(survey) = &mut self.stage {
            survey.asked.remove(&node);
        }
        self.left(desk, node);
    }

    /// Does what has become due.
    pub(super) fn tick(&mut self, desk: &mut Desk<'_>) {
        if self.sweep <= desk.now {
            self.forget(desk);
            self.sweep = desk.within(SWEEP[usize::from(self.seats.is_empty())]);
        }
        if self.notice.is_some_and(|at| at <= desk.now) {
            self.tell_the_waiting(desk);
        }
        self.due(desk);
        self.advance(desk);
    }

    fn forget(&mut self, desk: &mut Desk<'_>) {
        let settings = desk.settings;
        self.holders.expire(desk.now - settings.holder_lifetime);
        self.refused.retain(|_, at| desk.now.since(*at) < settings.refused_for);
        let silent =
            |seat: &Seat| desk.now.since(seat.heard) > settings.seat_lifetime * settings.stretch(seat.told_members);
        let gone: Vec<_> = self.seats.iter().filter(|(_, seat)| silent(seat)).map(|(node, _)| node).collect();
        for node in gone {
            self.left(desk, node);
        }
    }
}

/// What a grant says of its blob.
pub(super) fn found_by(grant: &SignedGrant) -> Probe {
    Probe { length: grant.grant().length, visibility: grant.grant().visibility }
}

/// How many pieces a blob of that length has.
pub(super) fn pieces(found: &Probe) -> u32 {
    Layout::new(found.length).map_or(1, |layout| layout.count())
}
