//! What an engine is asked to do and what it answers; also what the wasmtime rival is sent, one JSON object a line.
//!
//! This file is part of two crates: the benchmarks, and `bench/wasmtime`.

use std::{path::PathBuf, sync::OnceLock, time::Instant};

use serde::{Deserialize, Serialize};

/// The same work for every engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What a turn is.
    pub(crate) start: Start,
    /// The module.
    pub(crate) module: PathBuf,
    /// The export that is called; `_initialize` is called first if there is one.
    pub(crate) entry: String,
    /// What the guest reads.
    pub(crate) payload: String,
    /// Turns.
    pub(crate) turns: usize,
    /// How they are timed.
    pub(crate) clock: Clock,
}

/// What a turn begins with, and so what its time covers. Each ends with everything it made gone again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Start {
    /// Compiled code on disk: load it, make an instance, call it.
    Disk,
    /// Code in memory: make an instance, call it.
    Fresh,
    /// An instance: call it.
    Warm,
}

/// What a turn's time is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Clock {
    /// What a caller waits. For turns that are shorter than a time slice.
    #[default]
    Wall,
    /// What the thread ran: long turns are cut into by whatever else the machine does.
    Cpu,
}

impl Clock {
    /// Nanoseconds since some time.
    #[allow(clippy::disallowed_methods, reason = "real time is what is measured, and the rival has no other clock")]
    fn now(self) -> u64 {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        match self {
            Self::Wall => u64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Cpu => {
                // The kernel brings the figure up to date when the thread gives way.
                std::thread::yield_now();
                let figures = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
                figures.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
            }
        }
    }
}

/// What came of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The time of each turn, in nanoseconds.
    pub(crate) nanos: Vec<u64>,
    /// What the guest wrote in the last turn.
    pub(crate) output: String,
    /// What went wrong, if something did.
    pub(crate) error: Option<String>,
}

impl Job {
    /// Takes `turns` turns, and the time of each. Short turns are timed eight together: reading the clock takes as long
    /// as the shortest of them.
    pub(crate) fn time<E>(&self, mut turn: impl FnMut() -> Result<Vec<u8>, E>) -> Result<Done, E> {
        let together = if self.start == Start::Warm { 8 } else { 1 };
        let mut done = Done { nanos: Vec::with_capacity(self.turns), ..Done::default() };
        let mut output = Vec::new();
        for _ in 0..self.turns.div_ceil(together) {
            let begin = self.clock.now();
            for _ in 0..together {
                output = turn()?;
            }
            done.nanos.push(self.clock.now().saturating_sub(begin) / together as u64);
        }
        done.output = String::from_utf8_lossy(&output).into_owned();
        Ok(done)
    }
}
