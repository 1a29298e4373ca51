//! A node's coordinator and a member, among nodes of the cluster that say whatever they like.

use std::{net::SocketAddr, time::Duration};

use shoal_blob::{Digest, PieceSet};
use shoal_proto::{
    Epoch, Grant, NodeId, NodeKey, SignedGrant, Visibility,
    codec::{self, MAX_COORDINATION_BODY},
    coordination::{
        Coordination, Holding, Importers, Join, Neighbour, Probe, Refusal, Returned, ToCoordinator, ToMember,
    },
};
use shoal_swarm::{
    Time,
    coordination::{Coordinator, Input, Member, MemberInput, MemberOutput, Output, Own, Settings},
};

use crate::menu::Menu;

const PIECES: u32 = 40;
const LENGTH: u64 = (PIECES as u64) << 20;
const NODES: usize = 5;
/// More than a few nodes have to be told after anything.
const MOST_OUTPUTS: usize = 20_000;

/// Choices of what happens next.
pub fn eat(bytes: &[u8]) {
    let mut driver = Driver::new();
    let mut menu = Menu(bytes);
    while !menu.is_over() {
        driver.step(&mut menu);
    }
}

struct Driver {
    now: Time,
    keys: Vec<NodeKey>,
    coordinator: Coordinator,
    member: Member,
    held: PieceSet,
    /// Until when the member may read the origin.
    until: Option<Time>,
}

fn digest(menu: &mut Menu<'_>) -> Digest {
    match menu.of(8) {
        0..6 => Digest::Sha256([7; 32]),
        6 => Digest::Sha512([8; 64]),
        _ => Digest::Sha256([menu.byte(); 32]),
    }
}

fn set(menu: &mut Menu<'_>) -> PieceSet {
    let size = match menu.byte() {
        255 => menu.near(5000),
        254 => 0,
        _ => PIECES,
    };
    let mut set = if menu.yes() { PieceSet::full(size) } else { PieceSet::empty(size) };
    for _ in 0..menu.of(8) {
        set.insert(menu.near(PIECES));
    }
    set
}

fn length(menu: &mut Menu<'_>) -> u64 {
    if menu.byte() == 255 { menu.u64() } else { LENGTH }
}

fn probe(menu: &mut Menu<'_>) -> Probe {
    let visibility = if menu.yes() { Visibility::Public } else { Visibility::Private };
    Probe { length: length(menu), visibility }
}

fn refusal(menu: &mut Menu<'_>) -> Refusal {
    codec::decode(&[menu.byte() % 8]).unwrap_or(Refusal::Unauthorized)
}

fn addresses(menu: &mut Menu<'_>) -> Vec<SocketAddr> {
    (0..menu.of(12)).map(|_| SocketAddr::from(([10, 0, 0, menu.byte()], 5051))).collect()
}

fn zone(menu: &mut Menu<'_>) -> String {
    ["", "here", "there", "far away, where names of zones are longer than anybody needs them to be, and longer still"]
        [menu.of(4)]
    .to_owned()
}

impl Driver {
    fn new() -> Self {
        let keys: Vec<_> = (0..NODES).map(|number| NodeKey::from_seed(&[number as u8 + 1; 32])).collect();
        let me = keys[0].id();
        Self {
            now: Time::ZERO,
            coordinator: Coordinator::new(NodeKey::from_seed(&[1; 32]), Time::ZERO, 1, Settings::default()),
            member: Member::new(me, Digest::Sha256([7; 32]), Settings::default()),
            held: PieceSet::empty(PIECES),
            until: None,
            keys,
        }
    }

    fn node(&self, menu: &mut Menu<'_>) -> NodeId {
        match menu.of(NODES + 1) {
            NODES => NodeId::from_bytes([menu.byte(); 32]),
            known => self.keys[known].id(),
        }
    }

    fn epoch(&self, menu: &mut Menu<'_>) -> Epoch {
        let number = if menu.byte() == 255 { menu.u64() } else { u64::from(menu.byte()) };
        Epoch { number, coordinator: self.node(menu) }
    }

    /// A grant that one of the nodes signed. One with another's signature comes with bytes that are read as a message.
    fn grant(&self, menu: &mut Menu<'_>) -> SignedGrant {
        let key = &self.keys[menu.of(NODES)];
        let epoch = Epoch { coordinator: key.id(), ..self.epoch(menu) };
        let Probe { length, visibility } = probe(menu);
        let seed = self.node(menu);
        let duration = Duration::from_millis(if menu.byte() == 255 { menu.u64() } else { 3000 });
        Grant { digest: digest(menu), length, epoch, seed, duration, visibility }.sign(key)
    }

    fn some<T>(menu: &mut Menu<'_>, make: impl FnOnce(&mut Menu<'_>) -> T) -> Option<T> {
        menu.yes().then(|| make(menu))
    }

    fn to_coordinator(&self, menu: &mut Menu<'_>) -> ToCoordinator {
        let digest = digest(menu);
        match menu.of(13) {
            0 | 1 => ToCoordinator::Join(Join {
                digest,
                length: Self::some(menu, length),
                wants: menu.yes(),
                can_seed: menu.yes(),
                held: set(menu),
                addresses: addresses(menu),
                zone: zone(menu),
                highest: Self::some(menu, |menu| self.grant(menu)),
                neighbours: menu.byte().into(),
            }),
            2 => {
                let outcome = if menu.yes() { Ok(probe(menu)) } else { Err(refusal(menu)) };
                ToCoordinator::Probed { digest, outcome }
            }
            3 => {
                let (held, round) = (menu.near(PIECES), menu.near(10));
                ToCoordinator::Renew { digest, epoch: self.epoch(menu), held, round }
            }
            4 => {
                let reason = codec::decode(menu.run()).unwrap_or(Returned::Unwanted);
                ToCoordinator::Return { digest, epoch: self.epoch(menu), reason }
            }
            5 => ToCoordinator::Report { digest, held: set(menu) },
            6 => ToCoordinator::Orphaned { digest },
            7 => ToCoordinator::Leave { digest },
            8 => {
                let holdings =
                    (0..menu.of(6)).map(|_| Holding { digest: self::digest(menu), found: probe(menu) }).collect();
                ToCoordinator::Announce { holdings, addresses: addresses(menu), zone: zone(menu) }
            }
            9 => ToCoordinator::Dropped { digest },
            10 => ToCoordinator::Know {
                digest,
                grant: Self::some(menu, |menu| self.grant(menu)),
                holding: Self::some(menu, probe),
                addresses: addresses(menu),
                zone: zone(menu),
            },
            11 => ToCoordinator::Kept { digest, epoch: self.epoch(menu) },
            _ => match codec::decode::<Coordination>(menu.run()) {
                Ok(Coordination::ToCoordinator(message)) => message,
                _ => ToCoordinator::Orphaned { digest },
            },
        }
    }

    fn to_member(&self, menu: &mut Menu<'_>) -> ToMember {
        let digest = digest(menu);
        match menu.of(10) {
            0 | 1 => ToMember::Joined {
                digest,
                found: Self::some(menu, probe),
                neighbours: Self::some(menu, |menu| {
                    (0..menu.of(8)).map(|_| Neighbour { node: self.node(menu), addresses: addresses(menu) }).collect()
                }),
                grant: Self::some(menu, |menu| self.grant(menu)),
                importers: Self::some(menu, |menu| {
                    let nodes = (0..menu.of(6)).map(|_| self.node(menu)).collect();
                    Importers { version: menu.byte().into(), nodes }
                }),
                members: menu.near(3000),
            },
            2 => ToMember::NotMine { digest, closer: self.node(menu) },
            3 => ToMember::Probe { digest },
            4 => ToMember::Granted { grant: self.grant(menu), elsewhere: set(menu) },
            5 => ToMember::Renewed { grant: self.grant(menu), round: menu.near(10) },
            6 => ToMember::Revoked { digest, epoch: self.epoch(menu) },
            7 => ToMember::Survey { digest },
            8 => ToMember::Failed { digest, refusal: refusal(menu) },
            _ => match codec::decode::<Coordination>(menu.run()) {
                Ok(Coordination::ToMember(message)) => message,
                _ => ToMember::Survey { digest },
            },
        }
    }

    fn step(&mut self, menu: &mut Menu<'_>) {
        let from = self.node(menu);
        match menu.of(20) {
            0..6 => {
                let message = self.to_coordinator(menu);
                self.coordinate(Input::Told { from, message });
            }
            6 => self.coordinate(Input::Asked { from, digest: digest(menu) }),
            7 => {
                let grant = self.grant(menu);
                self.coordinate(if menu.yes() { Input::Learnt(grant) } else { Input::Entrusted { from, grant } });
            }
            8 => {
                let (digest, closer) = (digest(menu), self.node(menu));
                self.coordinate(Input::Pointed { digest, closer });
            }
            9 => {
                let live = (0..menu.of(NODES + 1)).map(|_| self.node(menu)).collect();
                self.coordinate(Input::View { live });
            }
            10 => {
                self.coordinate(Input::Unreachable { node: from });
                self.tell(MemberInput::Unreachable { node: from });
            }
            11..15 => {
                let message = self.to_member(menu);
                self.tell(MemberInput::Told { from, message });
            }
            15 => {
                let input = match menu.of(8) {
                    0 | 1 => MemberInput::Wanted { can_seed: menu.yes() },
                    2 => MemberInput::Known(Probe { length: LENGTH, visibility: Visibility::Public }),
                    3 => MemberInput::Unwanted,
                    4 => MemberInput::Probed(Ok(Probe { length: LENGTH, visibility: Visibility::Public })),
                    5 => MemberInput::Probed(Err(refusal(menu))),
                    6 => MemberInput::Orphaned,
                    _ => MemberInput::GrantSeen(self.grant(menu)),
                };
                self.tell(input);
            }
            16 => {
                let closest = (0..1 + menu.of(NODES)).map(|_| self.node(menu)).collect();
                self.tell(MemberInput::CoordinatorsFound { closest });
            }
            17 => {
                if self.until.take().is_some() {
                    let reason = codec::decode(menu.run()).unwrap_or(Returned::Unwanted);
                    self.tell(MemberInput::LeaseReturned(reason));
                }
            }
            18 => self.now = self.now + menu.span(),
            _ => self.wake(),
        }
    }

    /// Sleeps until one of the two wants to be woken; what it wants then must not be at once, again and again.
    fn wake(&mut self) {
        let wakes = [self.coordinator.poll_timeout().map(|(at, _)| at), self.member.poll_timeout().map(|(at, _)| at)];
        let Some(at) = wakes.into_iter().flatten().min() else { return };
        self.now = self.now.max(at);
        for round in 0.. {
            let coordinator = self.coordinator.poll_timeout().filter(|(at, _)| *at <= self.now);
            let member = self.member.poll_timeout().filter(|(at, _)| *at <= self.now);
            assert!(round < 200, "{coordinator:?} or {member:?} is due again and again at {:?}", self.now);
            if coordinator.is_some() {
                self.coordinate(Input::TimeOut);
            }
            if member.is_some() {
                self.tell(MemberInput::TimeOut);
            }
            if coordinator.is_none() && member.is_none() {
                return;
            }
        }
    }

    fn coordinate(&mut self, input: Input) {
        let me = self.keys[0].id();
        self.coordinator.handle(self.now, input);
        for outputs in 0.. {
            assert!(outputs < MOST_OUTPUTS, "no end of outputs");
            let Some(output) = self.coordinator.poll() else { break };
            let said = match output {
                Output::Tell { message, .. } => {
                    let (ToMember::Granted { grant, .. } | ToMember::Renewed { grant, .. }) = &message else {
                        fits(&Coordination::ToMember(message));
                        continue;
                    };
                    assert_eq!(grant.check().map(|grant| grant.epoch.coordinator), Ok(me), "it grants what is its own");
                    assert!(grant.grant().duration <= Duration::from_secs(60));
                    Coordination::ToMember(message)
                }
                Output::Answer { message, .. } => Coordination::ToCoordinator(message),
                Output::Know { .. } | Output::Note(_) => continue,
            };
            fits(&said);
        }
    }

    fn tell(&mut self, input: MemberInput) {
        let me = self.keys[0].id();
        self.member.handle(self.now, input);
        for outputs in 0.. {
            assert!(outputs < MOST_OUTPUTS, "no end of outputs");
            let own = Own { held: &self.held, addresses: &[], zone: "here" };
            let Some(output) = self.member.poll(self.now, own) else { break };
            match output {
                MemberOutput::BecomeSeed { grant, until, elsewhere } => {
                    let signed = grant.check().expect("a seed reads under a lease that was signed");
                    assert_eq!((signed.seed, signed.digest), (me, Digest::Sha256([7; 32])));
                    assert!(until <= self.now + Duration::from_secs(60), "a lease until {until:?} at {:?}", self.now);
                    assert!(elsewhere.size() == 0 || u64::from(elsewhere.size()) <= signed.length.max(1));
                    self.until = Some(until);
                }
                MemberOutput::ExtendLease { grant, until } => {
                    assert!(self.until.is_some(), "a lease is extended that is none");
                    assert_eq!(grant.check().map(|grant| grant.seed), Ok(me));
                    self.until = Some(until);
                }
                MemberOutput::StopSeeding(_) => self.until = None,
                MemberOutput::Send { message, .. } => fits(&Coordination::ToCoordinator(message)),
                MemberOutput::Neighbours(nodes) => assert!(nodes.len() <= 64),
                MemberOutput::Found(_)
                | MemberOutput::FindCoordinator
                | MemberOutput::Importers(_)
                | MemberOutput::ProbeOrigin
                | MemberOutput::NewGrant(_)
                | MemberOutput::Fail(_)
                | MemberOutput::Doubted { .. } => {}
            }
        }
    }
}

fn fits(message: &Coordination) {
    assert!(codec::body(message, MAX_COORDINATION_BODY).is_ok(), "a message that no frame holds: {message:?}");
}
