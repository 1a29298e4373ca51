//! What must hold all along, and what is said when it does not.

use std::{collections::VecDeque, fmt};

use shoal_swarm::Time;

use crate::network::NodeIndex;

/// How many events are told of when something broke.
const REMEMBERED: usize = 50;

/// Something that happened, in short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) at: Time,
    pub(crate) what: &'static str,
    pub(crate) who: NodeIndex,
    pub(crate) whom: NodeIndex,
    pub(crate) piece: u32,
}

/// The last events, and the first thing that was not as it must be.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    steps: VecDeque<Step>,
    broken: Option<Broken>,
}

/// Something that must hold did not.
#[derive(Clone, Debug)]
pub struct Broken {
    /// What.
    pub what: String,
    /// The seed that shows it again.
    pub seed: u64,
    /// The last events before it.
    pub events: Vec<String>,
}

impl Watch {
    pub(crate) fn note(&mut self, step: Step) {
        if self.steps.len() == REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(crate) fn broke(&mut self, seed: u64, what: String) {
        if self.broken.is_none() {
            let events = self.steps.iter().map(ToString::to_string).collect();
            self.broken = Some(Broken { what, seed, events });
        }
    }

    pub(crate) const fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, what, who, whom, piece } = self;
        write!(f, "{:11.6} s  {what:<12} node {who}", at.since(Time::ZERO).as_secs_f64())?;
        if whom != who {
            write!(f, " -> {whom}")?;
        }
        if *piece == u32::MAX { Ok(()) } else { write!(f, ", piece {piece}") }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (seed {})", self.what, self.seed)?;
        self.events.iter().try_for_each(|event| writeln!(f, "    {event}"))
    }
}
