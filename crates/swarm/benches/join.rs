//! What it costs a coordinator that a member joins again, as each does every two seconds, in a swarm of 1,000, 4,000 and
//! 16,000 members. The blob is of 1 TiB, and the member has half of it.

use std::{cell::RefCell, hint::black_box, net::SocketAddr, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_blob::{Digest, PieceSet};
use shoal_proto::{
    NodeId, NodeKey,
    coordination::{Join, ToCoordinator, ToMember, mark},
};
use shoal_swarm::{
    Time,
    coordination::{Coordinator, Input, Output, Settings},
};

const SIZES: [u32; 3] = [1000, 4000, 16_000];
const DIGEST: Digest = Digest::Sha256([7; 32]);
const LENGTH: u64 = 1 << 40;
const PIECES: u32 = 65_536;

/// A coordinator, and what each member would say.
struct Swarm {
    coordinator: Coordinator,
    now: Time,
    members: Vec<NodeId>,
    /// The mark of the neighbours that each was told of last.
    marks: Vec<u64>,
    turn: usize,
}

/// Names that look random and lie farther from the digest than the coordinator.
fn names(coordinator: NodeId, many: u32) -> Vec<NodeId> {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(1);
    let nearest = coordinator.distance(&DIGEST);
    let names = std::iter::repeat_with(|| NodeId::from_bytes(chance.random()));
    names.filter(|name| name.distance(&DIGEST) > nearest).take(many as usize).collect()
}

impl Swarm {
    fn new(members: u32) -> Self {
        let key = NodeKey::from_seed(&[1; 32]);
        let names = names(key.id(), members);
        let coordinator = Coordinator::new(key, Time::ZERO, 1, Settings::default());
        let now = Time::after(Duration::from_secs(600));
        let mut this = Self { coordinator, now, members: names, marks: vec![0; members as usize], turn: 0 };
        for _ in 0..3 * members {
            let join = this.next();
            this.tell(join);
        }
        this
    }

    /// The next member joins, some time after the one before.
    fn next(&mut self) -> Input {
        self.turn = (self.turn + 1) % self.marks.len();
        self.now = self.now + Settings::default().join_every / self.marks.len() as u32;
        let mut held = PieceSet::empty(PIECES);
        for piece in 0..PIECES / 2 {
            held.insert(piece);
        }
        let join = Join {
            digest: DIGEST,
            length: Some(LENGTH),
            wants: true,
            can_seed: true,
            held,
            addresses: vec![SocketAddr::from(([10, 0, 0, 1], 5051))],
            zone: "rack-17".to_owned(),
            highest: None,
            neighbours: self.marks[self.turn],
        };
        Input::Told { from: self.members[self.turn], message: ToCoordinator::Join(join) }
    }

    fn tell(&mut self, input: Input) {
        self.coordinator.handle(self.now, input);
        while let Some(output) = self.coordinator.poll() {
            if let Output::Tell { to, message: ToMember::Joined { neighbours: Some(list), .. } } = &output
                && *to == self.members[self.turn]
            {
                self.marks[self.turn] = mark(list);
            }
            black_box(output);
        }
        black_box(self.coordinator.poll_timeout());
    }

    /// What has become due meanwhile, which is not the join's.
    fn due(&mut self) {
        if self.coordinator.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.tell(Input::TimeOut);
        }
    }
}

fn joining(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a member joins again");
    for members in SIZES {
        let swarm = RefCell::new(Swarm::new(members));
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            let setup = || {
                let mut swarm = swarm.borrow_mut();
                swarm.due();
                swarm.next()
            };
            bencher.iter_batched(setup, |join| swarm.borrow_mut().tell(join), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group! {
    name = joins;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = joining
}
criterion_main!(joins);
