//! The pretended network: serial links with rates, delays and bounded queues.
//!
//! A node has one uplink and one downlink, a zone one link out and one in, all serial. A piece leaves its uplink whole, one
//! after another; it starts only when the queue before its receiver's downlink, and before the zones' links on its way,
//! has room: until then the uplink serves another receiver, as streams with flow control of their own do. Control
//! messages go before pieces and take their time from them. Where a scenario says so, pieces share the links instead: see
//! `shared.rs`.

mod shared;

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_swarm::Time;

use self::shared::Shared;

/// A node, by its place in the fleet.
pub type NodeIndex = u32;

/// A link that carries one thing after another.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Bytes a second.
    rate: u64,
    /// When it has carried all that was given to it.
    free: Time,
}

impl Line {
    const fn new(rate: u64) -> Self {
        Self { rate, free: Time::ZERO }
    }

    fn takes(&self, bytes: u64) -> Duration {
        span(bytes, self.rate)
    }

    /// Carries so much, not before `from`; returns when the last byte is through.
    fn carry(&mut self, from: Time, bytes: u64) -> Time {
        self.free = self.free.max(from) + self.takes(bytes);
        self.free
    }

    /// From when on no more than `bytes` wait before it.
    fn has_room(&self, bytes: u64) -> Time {
        self.free - self.takes(bytes)
    }
}

/// How long `bytes` take at `rate` bytes a second.
#[must_use]
pub fn span(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What one node has on the network.
#[derive(Debug)]
struct Port {
    up: Line,
    down: Line,
    /// Control messages overtake pieces, so that they have lines of their own; the time they take is taken from the others.
    control_up: Line,
    control_down: Line,
    zone: u16,
    waiting: VecDeque<Parcel>,
    /// When it will be looked at again.
    pump_at: Option<Time>,
    sent: u64,
    received: u64,
}

/// A piece on its way, or waiting to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// To whom.
    pub to: NodeIndex,
    /// How large it is.
    pub bytes: u64,
    /// What its sender calls it.
    pub token: u32,
}

/// What the network will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An uplink may have something to do: call [`Network::pump`].
    Pump(NodeIndex),
    /// Shared links may have carried something to its end: call [`Network::pump`] for any node.
    Carried,
    /// The last byte of a parcel has arrived.
    Arrived {
        /// What its sender calls it.
        token: u32,
    },
}

/// How the network is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One way, between any two nodes.
    pub latency: Duration,
    /// Added to it for each control message, from nothing to so much.
    pub jitter: Duration,
    /// Bytes that may wait before a downlink when another piece is sent there.
    pub queue: u64,
    /// Whether all that is on its way shares the links, as streams do; else each uplink sends one after another.
    pub shared: bool,
    /// Bytes a second out of and into each zone; `None` where zones do not matter.
    pub zone_rate: Option<u64>,
    /// What part of the control messages is lost. A stream sends what is lost again.
    pub loss: f64,
    /// What part of the messages that are not on a stream comes late, after others.
    pub reordered: f64,
    /// Chance.
    pub seed: u64,
}

/// The links of all nodes. It knows no events: it says what will happen, and is told when that time has come.
#[derive(Debug)]
pub struct Network {
    settings: Settings,
    ports: Vec<Port>,
    /// Out of and into each zone.
    zones: Vec<[Line; 2]>,
    /// What is on its way, where links are shared.
    shared: Option<Shared>,
    /// When that will be looked at again.
    carried_at: Option<Time>,
    rng: Xoshiro256PlusPlus,
    control_bytes: u64,
    across_zones: u64,
}

/// Kinds of links: a node's up and down, a zone's out and in.
const LINKS: usize = 4;

/// How long a stream takes to send something again, in round trips; and at least.
const RESEND: (u32, Duration) = (2, Duration::from_millis(10));

impl Network {
    /// A network without nodes.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let shared = settings.shared.then(Shared::default);
        let (ports, zones) = (Vec::new(), Vec::new());
        Self { settings, ports, zones, shared, carried_at: None, rng, control_bytes: 0, across_zones: 0 }
    }

    /// Plugs in the next node: its rates in bytes a second, and its zone.
    pub fn plug(&mut self, up: u64, down: u64, zone: u16) -> NodeIndex {
        let rate = self.settings.zone_rate.unwrap_or(u64::MAX);
        while self.zones.len() <= usize::from(zone) {
            self.zones.push([Line::new(rate); 2]);
        }
        self.ports.push(Port {
            up: Line::new(up),
            down: Line::new(down),
            control_up: Line::new(up),
            control_down: Line::new(down),
            zone,
            waiting: VecDeque::new(),
            pump_at: None,
            sent: 0,
            received: 0,
        });
        (self.ports.len() - 1) as NodeIndex
    }

    /// Changes a node's rates; what is on its way keeps its time.
    pub fn set_rates(&mut self, node: NodeIndex, up: u64, down: u64) {
        let port = &mut self.ports[node as usize];
        for (line, rate) in
            [(&mut port.up, up), (&mut port.down, down), (&mut port.control_up, up), (&mut port.control_down, down)]
        {
            line.rate = rate;
        }
    }

    /// One way between two nodes, without jitter and queues.
    #[must_use]
    pub const fn latency(&self) -> Duration {
        self.settings.latency
    }

    /// A node's rates, up and down, in bytes a second.
    #[must_use]
    pub fn rates(&self, node: NodeIndex) -> (u64, u64) {
        let port = &self.ports[node as usize];
        (port.up.rate, port.down.rate)
    }

    /// Bytes of pieces that a node has sent and received.
    #[must_use]
    pub fn moved(&self, node: NodeIndex) -> (u64, u64) {
        let port = &self.ports[node as usize];
        (port.sent, port.received)
    }

    /// Bytes of control messages so far, and bytes of pieces that have left a zone.
    #[must_use]
    pub const fn totals(&self) -> (u64, u64) {
        (self.control_bytes, self.across_zones)
    }

    /// Counts control bytes that travel inside a parcel.
    pub const fn count_control(&mut self, bytes: u64) {
        self.control_bytes += bytes;
    }

    /// Sends a control message; returns when it arrives. `after` is when the one before it on the same stream does.
    pub fn control(&mut self, now: Time, from: NodeIndex, to: NodeIndex, bytes: u64, after: Time) -> Time {
        let arrives = self.carry_control(now, from, to, bytes).max(after);
        if self.settings.loss > 0.0 && self.rng.random_bool(self.settings.loss) {
            arrives + (self.settings.latency * 2 * RESEND.0).max(RESEND.1)
        } else {
            arrives
        }
    }

    /// Sends a message that is on no stream; returns when it arrives, if it does.
    pub fn datagram(&mut self, now: Time, from: NodeIndex, to: NodeIndex, bytes: u64) -> Option<Time> {
        let arrives = self.carry_control(now, from, to, bytes);
        if self.settings.loss > 0.0 && self.rng.random_bool(self.settings.loss) {
            return None;
        }
        let late = self.settings.reordered > 0.0 && self.rng.random_bool(self.settings.reordered);
        Some(if late { arrives + self.settings.latency * self.rng.random_range(1..20) } else { arrives })
    }

    fn carry_control(&mut self, now: Time, from: NodeIndex, to: NodeIndex, bytes: u64) -> Time {
        if from == to {
            return now;
        }
        self.control_bytes += bytes;
        let sender = &mut self.ports[from as usize];
        let left = sender.control_up.carry(now, bytes);
        sender.up.carry(now, bytes);
        let jitter = self.settings.jitter.as_nanos() as u64;
        let jitter = if jitter == 0 { 0 } else { self.rng.random_range(0..=jitter) };
        let reaches = left + self.settings.latency + Duration::from_nanos(jitter);
        let receiver = &mut self.ports[to as usize];
        receiver.down.carry(now, bytes);
        receiver.control_down.carry(reaches, bytes)
    }

    /// Gives a parcel to a node's uplink. Call [`Network::pump`] then.
    pub fn send(&mut self, from: NodeIndex, parcel: Parcel) {
        self.ports[from as usize].waiting.push_back(parcel);
    }

    /// Takes back a parcel that has not begun to leave; returns whether it had not. Where links are shared, also one on its way.
    pub fn withdraw(&mut self, from: NodeIndex, token: u32) -> bool {
        if self.shared.as_mut().is_some_and(|shared| shared.withdraw(from, token)) {
            return true;
        }
        let waiting = &mut self.ports[from as usize].waiting;
        let before = waiting.len();
        waiting.retain(|parcel| parcel.token != token);
        waiting.len() < before
    }

    /// Takes back all of a node's that can be.
    pub fn withdraw_all(&mut self, from: NodeIndex) -> Vec<u32> {
        let waiting = self.ports[from as usize].waiting.drain(..).map(|parcel| parcel.token);
        waiting.chain(self.shared.iter_mut().flat_map(|shared| shared.withdraw_all(from))).collect()
    }

    /// Lets an uplink begin what it can; `say` hears what will come of it, and when.
    pub fn pump(&mut self, now: Time, from: NodeIndex, mut say: impl FnMut(Time, Signal)) {
        if let Some(shared) = self.shared.take() {
            self.shared = Some(self.pump_shared(shared, now, from, say));
            return;
        }
        let port = &mut self.ports[from as usize];
        if port.pump_at.is_some_and(|at| at <= now) {
            port.pump_at = None;
        }
        loop {
            let port = &self.ports[from as usize];
            if port.waiting.is_empty() {
                return;
            }
            let mut at = port.up.free;
            if at <= now {
                let ready = |parcel: &Parcel| self.has_room(from, parcel.to);
                let rooms = port.waiting.iter().map(ready).enumerate();
                let Some((place, room)) = rooms.min_by_key(|(place, room)| ((*room).max(now), *place)) else { return };
                if room <= now {
                    self.begin(now, from, place, &mut say);
                    continue;
                }
                at = room;
            }
            let port = &mut self.ports[from as usize];
            if port.pump_at.is_none_or(|before| before > at) {
                port.pump_at = Some(at);
                say(at, Signal::Pump(from));
            }
            return;
        }
    }

    /// The same where links are shared: all that waits begins, and shares with what is on its way.
    fn pump_shared(
        &mut self,
        mut shared: Shared,
        now: Time,
        from: NodeIndex,
        mut say: impl FnMut(Time, Signal),
    ) -> Shared {
        let latency = self.settings.latency;
        shared.carry(now, |_, parcel| say(now + latency, Signal::Arrived { token: parcel.token }));
        while let Some(parcel) = self.ports[from as usize].waiting.pop_front() {
            let (home, zone) = (self.ports[from as usize].zone, self.ports[parcel.to as usize].zone);
            let mut over = vec![LINKS * from as usize, LINKS * parcel.to as usize + 1];
            if home != zone {
                over.extend([LINKS * usize::from(home) + 2, LINKS * usize::from(zone) + 3]);
                self.across_zones += parcel.bytes;
            }
            self.ports[from as usize].sent += parcel.bytes;
            self.ports[parcel.to as usize].received += parcel.bytes;
            shared.send(from, parcel, over);
        }
        let rate = |link: usize| match (link / LINKS, link % LINKS) {
            (node, 0) => self.ports[node].up.rate as f64,
            (node, 1) => self.ports[node].down.rate as f64,
            (zone, way) => self.zones[zone][way - 2].rate as f64,
        };
        let next = shared.share(rate);
        if next != self.carried_at {
            self.carried_at = next;
            next.into_iter().for_each(|at| say(at, Signal::Carried));
        }
        shared
    }

    /// From when on a parcel may start.
    fn has_room(&self, from: NodeIndex, to: NodeIndex) -> Time {
        let (sender, receiver) = (&self.ports[from as usize], &self.ports[to as usize]);
        let mut room = receiver.down.has_room(self.settings.queue);
        if sender.zone != receiver.zone {
            let (out, into) = (&self.zones[usize::from(sender.zone)][0], &self.zones[usize::from(receiver.zone)][1]);
            room = room.max(out.has_room(self.settings.queue)).max(into.has_room(self.settings.queue));
        }
        room
    }

    fn begin(&mut self, now: Time, from: NodeIndex, place: usize, say: &mut impl FnMut(Time, Signal)) {
        let sender = &mut self.ports[from as usize];
        let Some(Parcel { to, bytes, token }) = sender.waiting.remove(place) else { return };
        let left = sender.up.carry(now, bytes);
        sender.sent += bytes;
        let home = sender.zone;
        let first = now + self.settings.latency;
        let mut arrives = left + self.settings.latency;
        let receiver = &mut self.ports[to as usize];
        receiver.received += bytes;
        arrives = arrives.max(receiver.down.carry(first, bytes));
        let zone = receiver.zone;
        if zone != home {
            self.across_zones += bytes;
            for (zone, way) in [(home, 0), (zone, 1)] {
                arrives = arrives.max(self.zones[usize::from(zone)][way].carry(first, bytes));
            }
        }
        say(arrives, Signal::Arrived { token });
    }

    /// When a node's downlink has carried all that is on its way there.
    #[must_use]
    pub fn downlink_free(&self, node: NodeIndex) -> Time {
        self.ports[node as usize].down.free
    }

    /// Takes bytes from outside onto a node's downlink, not before `from`; returns when the last is there.
    pub fn receive(&mut self, from: Time, to: NodeIndex, bytes: u64) -> Time {
        self.ports[to as usize].down.carry(from, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;
    const S: Duration = Duration::from_secs(1);

    fn network(queue: u64) -> Network {
        let (latency, jitter) = (Duration::from_millis(1), Duration::ZERO);
        Network::new(Settings {
            latency,
            jitter,
            queue,
            shared: false,
            zone_rate: None,
            loss: 0.0,
            reordered: 0.0,
            seed: 1,
        })
    }

    fn arrivals(network: &mut Network, from: NodeIndex) -> Vec<(Duration, u32)> {
        let mut at = vec![Time::ZERO];
        let mut arrived = Vec::new();
        while let Some(now) = at.pop() {
            network.pump(now, from, |when, signal| match signal {
                Signal::Pump(_) => at.push(when),
                Signal::Arrived { token } => arrived.push((when.since(Time::ZERO), token)),
                Signal::Carried => {}
            });
        }
        arrived
    }

    #[test]
    fn an_uplink_sends_one_after_another() {
        let mut network = network(RATE);
        let (a, b, c) = (network.plug(RATE, RATE, 0), network.plug(RATE, RATE, 0), network.plug(RATE, RATE, 0));
        network.send(a, Parcel { to: b, bytes: RATE, token: 1 });
        network.send(a, Parcel { to: c, bytes: RATE, token: 2 });
        let ms = Duration::from_millis(1);
        assert_eq!(arrivals(&mut network, a), [(S + ms, 1), (2 * S + ms, 2)]);
        assert_eq!(network.moved(a), (2 * RATE, 0));
    }

    #[test]
    fn a_slow_receiver_holds_nobody_up() {
        let mut network = network(RATE / 10);
        let (a, slow, c) = (network.plug(RATE, RATE, 0), network.plug(RATE, RATE / 10, 0), network.plug(RATE, RATE, 0));
        for token in 1..3 {
            network.send(a, Parcel { to: slow, bytes: RATE, token });
        }
        network.send(a, Parcel { to: c, bytes: RATE, token: 3 });
        let order: Vec<u32> = arrivals(&mut network, a).into_iter().map(|(_, token)| token).collect();
        assert_eq!(order, [1, 3, 2], "the second for the slow one waits, the third does not wait for it");
    }

    #[test]
    fn zones_share_their_links() {
        let mut network = network(RATE);
        network.settings.zone_rate = Some(RATE / 2);
        let (a, b) = (network.plug(RATE, RATE, 0), network.plug(RATE, RATE, 1));
        network.send(a, Parcel { to: b, bytes: RATE, token: 1 });
        assert_eq!(arrivals(&mut network, a), [(2 * S + Duration::from_millis(1), 1)]);
        assert_eq!(network.totals().1, RATE);
    }

    #[test]
    fn control_takes_time_from_pieces() {
        let mut network = network(RATE);
        let (a, b) = (network.plug(RATE, RATE, 0), network.plug(RATE, RATE, 0));
        let arrives = network.control(Time::ZERO, a, b, RATE / 2, Time::ZERO);
        assert!(arrives >= Time::after(S / 2));
        network.send(a, Parcel { to: b, bytes: RATE, token: 1 });
        let (when, _) = arrivals(&mut network, a)[0];
        assert!(when >= S * 3 / 2, "{when:?}");
    }
}
