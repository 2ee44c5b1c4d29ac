//! The one thread that stops guests at their deadlines.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    clock,
    stop::{Interrupt, Reason, lock},
};

/// A handle to the thread, for its owner.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By deadline, then by a number that tells equal deadlines apart. As many as guests run.
    guests: BTreeMap<(Instant, u64), Arc<Interrupt>>,
    next: u64,
    /// Until when the thread sleeps, unless it is woken; `None` if it sleeps for as long as nothing happens.
    wakes_at: Option<Instant>,
    is_shut_down: bool,
}

/// A guest being watched; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    key: (Instant, u64),
}

impl Watchdog {
    pub(crate) fn spawn() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("skein-watchdog".to_owned()).spawn(move || watched.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Has `guest` stopped at `deadline`; `None` after the shutdown.
    pub(crate) fn watch(&self, deadline: Instant, guest: &Arc<Interrupt>) -> Option<Watch> {
        let mut state = lock(&self.shared.state);
        if state.is_shut_down {
            return None;
        }
        let key = (deadline, state.next);
        state.next += 1;
        state.guests.insert(key, Arc::clone(guest));
        // A thread that wakes too early looks again; waking it for every call would cost more than a short call does.
        let is_late = state.wakes_at.is_none_or(|wakes_at| deadline < wakes_at);
        drop(state);
        if is_late {
            self.shared.changed.notify_one();
        }
        Some(Watch { shared: Arc::clone(&self.shared), key })
    }

    /// Stops every guest and ends the thread.
    pub(crate) fn shutdown(&self) {
        let guests = {
            let mut state = lock(&self.shared.state);
            state.is_shut_down = true;
            std::mem::take(&mut state.guests)
        };
        self.shared.changed.notify_one();
        guests.values().for_each(|guest| guest.stop(Reason::Cancelled));
        if let Some(thread) = lock(&self.thread).take() {
            // It panics on nothing; were it to, its guests are stopped already.
            let _ = thread.join();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.shared.state).guests.remove(&self.key);
    }
}

impl Shared {
    fn run(&self) {
        let mut state = lock(&self.state);
        while !state.is_shut_down {
            let now = clock::now();
            let first = state.guests.first_key_value().map(|(key, _)| key.0);
            state.wakes_at = first;
            state = match first {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline > now => {
                    let wait = self.changed.wait_timeout(state, deadline - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let due = state.guests.pop_first();
                    drop(state);
                    if let Some((_, guest)) = due {
                        guest.stop(Reason::Deadline);
                    }
                    lock(&self.state)
                }
            };
        }
    }
}
