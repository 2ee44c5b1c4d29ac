//! Compilations under way: one for each digest, and not too many at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use skein_proto::Digest;

use crate::{EngineError, Prepared, stop::lock};

type Outcome = Result<Prepared, EngineError>;

/// The compilations under way.
#[derive(Debug)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<Digest, Arc<Flight>>>,
    permits: Mutex<Permits>,
    waiting_max: usize,
    freed: Condvar,
}

#[derive(Debug)]
struct Permits {
    free: usize,
    waiting: usize,
    is_shut_down: bool,
}

#[derive(Debug, Default)]
struct Flight {
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
}

impl Flights {
    /// `most` at once, and at most `waiting_max` in line.
    pub(crate) fn new(most: usize, waiting_max: usize) -> Self {
        let permits = Permits { free: most.max(1), waiting: 0, is_shut_down: false };
        Self { under_way: Mutex::default(), permits: Mutex::new(permits), waiting_max, freed: Condvar::new() }
    }

    /// Does `work` for `digest`, or waits for the one who does it already and shares the outcome. The wait is as long as
    /// a compilation, and the line before it, may be.
    pub(crate) fn share(&self, digest: Digest, work: impl FnOnce() -> Outcome) -> Outcome {
        let flight = match lock(&self.under_way).entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::default());
                None
            }
            Entry::Occupied(flight) => Some(Arc::clone(flight.get())),
        };
        if let Some(flight) = flight {
            return flight.wait();
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.with_permit(work)))
            .unwrap_or_else(|_| Err(EngineError::Internal("compiling panicked".to_owned())));
        if let Some(flight) = lock(&self.under_way).remove(&digest) {
            *lock(&flight.outcome) = Some(outcome.clone());
            flight.landed.notify_all();
        }
        outcome
    }

    fn with_permit(&self, work: impl FnOnce() -> Outcome) -> Outcome {
        let mut permits = lock(&self.permits);
        if permits.free == 0 && permits.waiting >= self.waiting_max && !permits.is_shut_down {
            return Err(EngineError::Busy { waiting: permits.waiting });
        }
        permits.waiting += 1;
        while permits.free == 0 && !permits.is_shut_down {
            permits = self.freed.wait(permits).unwrap_or_else(PoisonError::into_inner);
        }
        permits.waiting -= 1;
        if permits.is_shut_down {
            return Err(EngineError::Shutdown);
        }
        permits.free -= 1;
        drop(permits);
        let _permit = Permit(self);
        work()
    }

    /// Lets no more work begin.
    pub(crate) fn shutdown(&self) {
        lock(&self.permits).is_shut_down = true;
        self.freed.notify_all();
    }
}

struct Permit<'f>(&'f Flights);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.0.permits).free += 1;
        self.0.freed.notify_one();
    }
}

impl Flight {
    fn wait(&self) -> Outcome {
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            outcome = self.landed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
