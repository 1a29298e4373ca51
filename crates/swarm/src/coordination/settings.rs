//! The times and limits of coordination. The nodes of one cluster should agree on the lease's numbers.

use std::time::Duration;

/// How coordinators and members behave. The defaults are the cluster's contract; tests and models may shorten them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a grant lasts: the seed counts from sending its request.
    pub lease: Duration,
    /// The seed stops so long before its lease ends, and the coordinator waits so long beyond it.
    pub margin: Duration,
    /// How often the seed renews.
    pub renew_every: Duration,
    /// How often a member joins again and looks its coordinator up again.
    pub join_every: Duration,
    /// In a swarm of more members than this it does so more rarely by as much, so that the coordinator hears no more of them:
    /// 512 a second.
    pub crowd: u32,
    /// A newcomer is answered at once while there are fewer members than this, else with all that come at the same time: its
    /// neighbours would change with each of them.
    pub few: usize,
    /// A member that has not joined again for so long is forgotten; in a crowd it has more time, as it has to join again.
    pub seat_lifetime: Duration,
    /// A holder that has not announced again for so long is forgotten.
    pub holder_lifetime: Duration,
    /// In so long after its start a coordinator asks the others before a first lease.
    pub young: Duration,
    /// The same in so long after one of the nodes closest to the digest came or went.
    pub restless: Duration,
    /// It goes on asking until that set has not changed for so long, so that nodes that start together meet.
    pub settle: Duration,
    /// How long it waits for nodes that do not answer.
    pub ask_patience: Duration,
    /// How long a member may take to ask its origin.
    pub probe_patience: Duration,
    /// How long members may take to say what they have.
    pub survey_patience: Duration,
    /// A coordinator that members have just come to waits so long for the others, who had another before and may have
    /// pieces of its leases, before it says what nobody has: longer than they take to join again.
    pub gather: Duration,
    /// How long a node that is closer to a digest may leave the question unanswered whether it is there.
    pub closer_patience: Duration,
    /// How long the standbys may take to store a grant.
    pub keep_patience: Duration,
    /// A Granted that no Renew confirmed is said again after so long.
    pub resend: Duration,
    /// Changes of neighbours are gathered for so long.
    pub notice_delay: Duration,
    /// A node that could not read the origin is the last choice for so long.
    pub refused_for: Duration,
    /// After so many different nodes were refused, every reader gets an error.
    pub most_refusals: usize,
    /// How long a digest rests then; doubled each time.
    pub first_rest: Duration,
    /// How long it rests at most.
    pub longest_rest: Duration,
    /// A member gives its coordinator up after so long without an answer.
    pub silence: Duration,
    /// A seed does so after so long, for its lease is running.
    pub seed_silence: Duration,
    /// How long a coordinator that was given up is passed over.
    pub shun: Duration,
    /// Neighbours a member is linked with when it joins.
    pub links: usize,
    /// Links that a member may come to have.
    pub most_links: usize,
    /// Neighbours told to a member, complete holders among them.
    pub most_neighbours: usize,
    /// Neighbours outside its own zone, where there are others.
    pub links_abroad: usize,
    /// Members of one swarm.
    pub most_members: usize,
    /// Complete holders remembered for one digest.
    pub most_holders: usize,
    /// Holders remembered for all digests together.
    pub most_holdings: usize,
    /// Digests; those without members are forgotten first.
    pub most_digests: usize,
    /// Grants remembered for digests that others coordinate.
    pub most_grants: usize,
}

impl Settings {
    /// By how much more rarely a member joins again in a swarm of so many.
    pub(super) fn stretch(&self, members: u32) -> u32 {
        (members / self.crowd.max(1)).clamp(1, MOST_STRETCH)
    }
}

/// Whatever a coordinator says of the number of members, they come again after so many times the usual.
const MOST_STRETCH: u32 = 16;

impl Default for Settings {
    fn default() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        Self {
            lease: s(3),
            margin: ms(500),
            renew_every: s(1),
            join_every: s(2),
            crowd: 1024,
            few: 256,
            seat_lifetime: s(7),
            holder_lifetime: s(15 * 60),
            young: s(60),
            restless: s(5),
            settle: ms(500),
            ask_patience: s(4),
            probe_patience: s(10),
            survey_patience: ms(500),
            gather: ms(2200),
            closer_patience: s(2),
            keep_patience: ms(200),
            resend: ms(500),
            notice_delay: ms(100),
            refused_for: s(30),
            most_refusals: 3,
            first_rest: s(2),
            longest_rest: s(60),
            silence: s(3),
            seed_silence: ms(600),
            shun: s(5),
            links: 16,
            most_links: 20,
            most_neighbours: 24,
            links_abroad: 2,
            most_members: 16_384,
            most_holders: 64,
            most_holdings: 1 << 18,
            most_digests: 1 << 16,
            most_grants: 1 << 14,
        }
    }
}
