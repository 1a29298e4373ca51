//! What is wrong with the disk just now.

use std::time::Duration;

use parking_lot::Mutex;

use crate::Chance;

/// `EIO`: the disk says that it cannot.
pub(crate) const EIO: i32 = 5;
/// `ENOSPC`: it is full.
pub(crate) const ENOSPC: i32 = 28;

/// What is wrong with a disk. Everything is well until something is said.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    capacity: u64,
    delay: Duration,
    /// So many of a thousand reads, writes and syncs fail.
    failing: (u64, Chance),
    /// Calls that change something until the power is cut.
    left: Option<u64>,
    changes: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { capacity: 1 << 30, delay: Duration::ZERO, failing: (0, Chance::new(0)), left: None, changes: 0 }
    }
}

impl Faults {
    /// It has room for so many bytes, 1 GiB unless said otherwise: no more are taken, none are taken away.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Each call takes so long, one after the other.
    pub fn set_delay(&self, delay: Duration) {
        self.0.lock().delay = delay;
    }

    /// Of a thousand calls that read, write or sync, so many fail with `EIO`.
    pub fn fail(&self, in_a_thousand: u64, seed: u64) {
        self.0.lock().failing = (in_a_thousand, Chance::new(seed));
    }

    /// The power is cut after so many more calls that change something: all later calls fail, whatever they are.
    pub fn cut_power_after(&self, changes: u64) {
        self.0.lock().left = Some(changes);
    }

    /// All is well again. What was lost is lost.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        *state = State { changes: state.changes, ..State::default() };
    }

    /// Calls so far that changed something.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.0.lock().capacity
    }

    /// A call that may not fail by chance, and does nothing without power.
    pub(crate) fn look(&self) -> Result<(), i32> {
        let (left, delay) = {
            let state = self.0.lock();
            (state.left, state.delay)
        };
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        if left == Some(0) { Err(EIO) } else { Ok(()) }
    }

    /// A call that reads.
    pub(crate) fn read(&self) -> Result<(), i32> {
        self.look()?;
        self.0.lock().by_chance()
    }

    /// A call that changes something.
    pub(crate) fn change(&self) -> Result<(), i32> {
        self.look()?;
        let mut state = self.0.lock();
        state.by_chance()?;
        state.changes += 1;
        match &mut state.left {
            Some(0) => return Err(EIO),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
}

impl State {
    fn by_chance(&mut self) -> Result<(), i32> {
        let (in_a_thousand, chance) = &mut self.failing;
        if *in_a_thousand > 0 && chance.below(1000) < *in_a_thousand { Err(EIO) } else { Ok(()) }
    }
}
