//! The lease itself: signed, secured by standbys, renewed, given back, lost, taken over.

use shoal_blob::PieceSet;
use shoal_proto::{
    Epoch, Grant, NodeId, SignedGrant,
    coordination::{Refusal, Returned, ToMember},
};

use super::event::Output;
use super::{
    Note,
    case::{Case, found_by},
    remembered::{is_sound, outranks},
    stage::{Desk, Lease, Stage},
};

/// Standbys that keep each grant: the next closest nodes.
const STANDBYS: usize = 2;
/// How many nodes are remembered as refused.
const MOST_REFUSED: usize = 64;
/// After so many epochs that ended in wrong bytes, readers get an error.
const MOST_WRONG: u32 = 2;

impl Case {
    /// Signs the next epoch's grant and has it stored by the standbys before it is used.
    pub(super) fn secure(&mut self, desk: &mut Desk<'_>, seed: NodeId, elsewhere: PieceSet) {
        let Some(found) = self.found else { return };
        let number = self.highest.as_ref().map_or(0, |grant| grant.grant().epoch.number) + 1;
        let grant = Grant {
            digest: self.digest,
            length: found.length,
            epoch: Epoch { number, coordinator: desk.me },
            seed,
            duration: desk.settings.lease,
            visibility: found.visibility,
        };
        let grant = grant.sign(desk.key);
        desk.remembered.keep(desk.now, &grant);
        self.highest = Some(grant.clone());
        self.foreign = false;
        let awaiting: std::collections::BTreeSet<_> = self.rank.others.iter().take(STANDBYS).copied().collect();
        for &standby in &awaiting {
            desk.tell(standby, ToMember::Keep { grant: grant.clone() });
        }
        let alone = awaiting.is_empty();
        let deadline = desk.within(desk.settings.keep_patience);
        self.stage = Stage::Securing { grant, elsewhere, awaiting, deadline };
        if alone {
            self.deliver(desk);
        }
    }

    /// A standby has stored a grant.
    pub(super) fn kept(&mut self, desk: &mut Desk<'_>, from: NodeId, kept: Epoch) {
        if self.stage.grant().is_some_and(|grant| grant.grant().epoch == kept) {
            self.former = self.former.filter(|former| *former != from);
        }
        if let Stage::Securing { grant, awaiting, .. } = &mut self.stage
            && grant.grant().epoch == kept
            && awaiting.remove(&from)
            && awaiting.is_empty()
        {
            self.deliver(desk);
        }
    }

    pub(super) fn deliver(&mut self, desk: &mut Desk<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Securing { grant, elsewhere, .. } = stage else { return };
        let Grant { epoch, seed, .. } = *grant.grant();
        desk.note(Note::Granted { digest: self.digest, epoch, seed });
        self.stage = Stage::Leased(Lease {
            grant,
            elsewhere,
            granted: desk.now,
            confirmed: false,
            resend: desk.now,
            held: None,
        });
        self.remind(desk);
        self.tell_of_lease(desk);
    }

    /// Says to the seed, once more, that it is the seed. It begins only with the answer to its first Renew, so that it
    /// counts from a moment of its own; nothing is lost by saying this twice.
    pub(super) fn remind(&mut self, desk: &mut Desk<'_>) {
        let Stage::Leased(lease) = &mut self.stage else { return };
        lease.resend = desk.within(desk.settings.resend);
        let (grant, elsewhere) = (lease.grant.clone(), lease.elsewhere.clone());
        desk.tell(grant.grant().seed, ToMember::Granted { grant, elsewhere });
    }

    /// A seed goes on.
    pub(super) fn renewed(&mut self, desk: &mut Desk<'_>, from: NodeId, epoch: Epoch, held: u32, round: u32) {
        let mine = self.is_mine(desk);
        let digest = self.digest;
        match &mut self.stage {
            Stage::Leased(lease) if lease.grant.grant().seed == from => {
                if lease.grant.grant().epoch != epoch {
                    if !lease.confirmed {
                        self.remind(desk);
                    }
                    return;
                }
                let begins = !lease.confirmed;
                (lease.granted, lease.confirmed) = (desk.now, true);
                let progress = *lease.held.get_or_insert(held) < held;
                let grant = lease.grant.clone();
                for &standby in self.rank.others.iter().take(STANDBYS) {
                    desk.tell(standby, ToMember::Keep { grant: grant.clone() });
                }
                desk.tell(from, ToMember::Renewed { grant, round });
                self.tell_former(desk);
                if progress {
                    self.succeeded();
                }
                if begins {
                    self.tell_the_waiting(desk);
                }
            }
            Stage::Securing { grant, .. } if grant.grant().seed == from => {}
            _ if !mine => {}
            _ => match &self.highest {
                Some(highest) if self.foreign && highest.grant().epoch == epoch && highest.grant().seed == from => {
                    self.take_over(desk);
                }
                // It precedes the Join that will tell of its grant.
                Some(highest) if outranks(&digest, epoch, highest.grant().epoch) => {}
                None => {}
                Some(highest) => {
                    let highest = highest.clone();
                    desk.tell(from, ToMember::Revoked { digest, epoch });
                    self.correct(desk, epoch, highest);
                }
            },
        }
        if let (false, Some(closer)) = (mine, self.rank.closer) {
            desk.tell(from, ToMember::NotMine { digest, closer });
        }
    }

    /// A seed gives its lease back.
    pub(super) fn returned(&mut self, desk: &mut Desk<'_>, from: NodeId, epoch: Epoch, reason: Returned) {
        let is_it = |grant: &SignedGrant| grant.grant().epoch == epoch && grant.grant().seed == from;
        if !matches!(&self.stage, Stage::Leased(lease) if is_it(&lease.grant)) {
            if self.highest.as_ref().is_some_and(is_it) {
                self.foreign = false;
            } else {
                desk.tell(from, ToMember::Revoked { digest: self.digest, epoch });
            }
            return;
        }
        desk.note(Note::Returned { digest: self.digest, epoch, seed: from, reason });
        match reason {
            Returned::Done => {
                self.succeeded();
                self.wrong = 0;
                self.stage = Stage::Served;
            }
            Returned::Unwanted => self.ended(desk, from),
            Returned::Refused(refusal) => {
                self.wrong += u32::from(refusal == Refusal::WrongBytes);
                if self.wrong >= MOST_WRONG && self.is_mine(desk) {
                    // The length that the origin told may be as wrong as its bytes: whoever asks next finds it anew.
                    (self.found, self.found_at_origin) = (None, false);
                    self.fail(desk, refusal, true);
                } else {
                    self.refused(desk, from, refusal);
                }
            }
        }
    }

    /// A member leaves; if it is the seed, its lease leaves with it.
    pub(super) fn departed(&mut self, desk: &mut Desk<'_>, from: NodeId) {
        self.left(desk, from);
        if let Stage::Leased(lease) = &self.stage
            && lease.grant.grant().seed == from
        {
            let epoch = lease.grant.grant().epoch;
            self.returned(desk, from, epoch, Returned::Unwanted);
        }
    }

    pub(super) fn expired(&mut self, desk: &mut Desk<'_>) {
        let Some(&Grant { epoch, seed, .. }) = self.stage.grant().map(SignedGrant::grant) else { return };
        desk.note(Note::Expired { digest: self.digest, epoch, seed });
        self.ended(desk, seed);
    }

    /// A lease is over before its work was done: the next, if anybody still wants the blob.
    fn ended(&mut self, desk: &mut Desk<'_>, seed: NodeId) {
        self.stage = Stage::Idle;
        if self.seats.any_wants() && self.is_mine(desk) {
            if self.has_source() { self.serve(desk) } else { self.appoint(desk, Some(seed)) }
        }
    }

    /// Takes the highest lease over: the next epoch, of this coordinator, for the same seed, which goes on without
    /// reading anything twice. A seed that is gone, or no longer wants it, costs one lease or one word.
    pub(super) fn take_over(&mut self, desk: &mut Desk<'_>) {
        let Some(grant) = self.highest.clone() else { return };
        let found = found_by(&grant);
        let Grant { epoch, seed, .. } = *grant.grant();
        (self.found, self.found_at_origin) = (Some(found), true);
        desk.note(Note::TookOver { digest: self.digest, from: epoch, seed });
        // A set of no size: what the seed leaves out, it knows from its own lease. One that has none gives this back.
        self.secure(desk, seed, PieceSet::empty(0));
        self.former = Some(epoch.coordinator).filter(|former| *former != desk.me);
        self.tell_former(desk);
    }

    /// The former coordinator may only have been slow: it must not go on as if the lease were its own. It is told until it says
    /// that it knows, for what is said once may be lost.
    fn tell_former(&self, desk: &mut Desk<'_>) {
        if let (Some(former), Some(grant)) = (self.former, self.stage.grant()) {
            desk.tell(former, ToMember::Keep { grant: grant.clone() });
        }
    }

    /// Somebody has seen a grant. A higher one than mine ends mine; a lower one is answered to who granted it.
    pub(super) fn learnt(&mut self, desk: &mut Desk<'_>, from: NodeId, grant: &SignedGrant) {
        if self.highest.as_ref() == Some(grant) {
            self.meet_seed(desk, from);
            return;
        }
        let epoch = grant.grant().epoch;
        if grant.grant().digest != self.digest {
            return;
        }
        if let Some(highest) = self.highest.clone()
            && !outranks(&self.digest, epoch, highest.grant().epoch)
        {
            self.correct(desk, epoch, highest);
            return;
        }
        if !is_sound(grant) {
            return;
        }
        desk.remembered.keep(desk.now, grant);
        if self.found.is_none_or(|_| !self.found_at_origin) {
            (self.found, self.found_at_origin) = (Some(found_by(grant)), true);
        }
        let mine_was = self.stage.grant().map(|mine| (mine.grant().epoch, mine.grant().seed));
        (self.highest, self.foreign, self.inherited) = (Some(grant.clone()), true, true);
        if let Some((mine, seed)) = mine_was {
            desk.note(Note::Yielded { digest: self.digest, epoch: mine, to: epoch });
            if seed != grant.grant().seed {
                desk.tell(seed, ToMember::Revoked { digest: self.digest, epoch: mine });
            }
            self.stage = Stage::Idle;
        }
        let under_way = !matches!(self.stage, Stage::Idle | Stage::Asking { .. });
        if (mine_was.is_some() || under_way) && self.is_mine(desk) {
            self.take_over(desk);
        } else {
            self.meet_seed(desk, from);
        }
    }

    /// The seed of a lease that was not taken over speaks: it lives, so that nobody else need be asked.
    fn meet_seed(&mut self, desk: &mut Desk<'_>, from: NodeId) {
        let is_seed = self.highest.as_ref().is_some_and(|grant| grant.grant().seed == from);
        if self.foreign
            && is_seed
            && matches!(self.stage, Stage::Idle | Stage::Asking { .. })
            && self.is_mine(desk)
            && !self.has_source()
        {
            self.take_over(desk);
        }
    }

    /// Tells the coordinator of a lower epoch, once, that a higher one is out.
    fn correct(&mut self, desk: &mut Desk<'_>, lower: Epoch, highest: SignedGrant) {
        let to = lower.coordinator;
        if self.stage.grant().is_some() && to != desk.me && self.corrected != Some(lower) {
            self.corrected = Some(lower);
            desk.out.push_back(Output::Know { to, digest: self.digest, grant: Some(highest) });
        }
    }

    /// A node cannot read the origin. One that may not have the blob is told so; one that has other trouble waits for
    /// what the next one reads.
    pub(super) fn refused(&mut self, desk: &mut Desk<'_>, node: NodeId, refusal: Refusal) {
        use Refusal::{Forbidden, NotConfigured, NotFound, Unauthorized};
        desk.note(Note::Refused { digest: self.digest, node, refusal });
        self.stage = Stage::Idle;
        if self.refused.len() >= MOST_REFUSED {
            self.refused.pop_first();
        }
        self.refused.insert(node, desk.now);
        let Self { refused, chain, .. } = self;
        chain.retain(|node| refused.contains_key(node));
        chain.insert(node);
        self.last_refusal = Some(refusal);
        self.able = self.able.filter(|able| *able != node);
        if matches!(refusal, Unauthorized | Forbidden | NotFound | NotConfigured) {
            desk.tell(node, ToMember::Failed { digest: self.digest, refusal });
            self.unseat(desk, node);
        } else {
            self.seats.bar(&node);
        }
        if !self.is_mine(desk) {
            return;
        }
        if self.chain.len() >= desk.settings.most_refusals {
            self.fail(desk, refusal, true);
        } else if self.seats.any_wants() {
            if self.has_source() { self.serve(desk) } else { self.appoint(desk, Some(node)) }
        }
    }

    /// Every reader gets an error; with `rest`, so do those who come in the next while.
    pub(super) fn fail(&mut self, desk: &mut Desk<'_>, refusal: Refusal, rest: bool) {
        desk.note(Note::Failed { digest: self.digest, refusal });
        let wanting: Vec<_> = self.seats.iter().filter(|(_, seat)| seat.wants).map(|(node, _)| node).collect();
        for node in wanting {
            desk.tell(node, ToMember::Failed { digest: self.digest, refusal });
            let links = self.seats.take(&node).map(|seat| seat.links).unwrap_or_default();
            for other in links {
                if let Some(theirs) = self.seats.links_mut(&other) {
                    theirs.remove(&node);
                }
            }
        }
        self.imports.keep(&self.seats);
        self.stage = Stage::Idle;
        if rest {
            let (in_a_row, ended) = self.rests;
            let in_a_row = if desk.now.since(ended) > desk.settings.longest_rest { 0 } else { in_a_row };
            let span = desk.settings.first_rest * (1 << in_a_row.min(16));
            let until = desk.within(span.min(desk.settings.longest_rest));
            self.rests = (in_a_row + 1, until);
            self.chain.clear();
            self.stage = Stage::Resting { refusal, until };
        }
    }

    /// A rest is over: the next Join starts afresh.
    pub(super) fn rested(&mut self) {
        self.stage = Stage::Idle;
        self.wrong = 0;
    }

    /// The origin can be read: what was refused before no longer counts.
    fn succeeded(&mut self) {
        self.chain.clear();
        self.rests.0 = 0;
    }
}
