//! What an executor counts: jobs, slots, places. Pure but for the machine's own bound.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    thread::JoinHandle,
    time::Duration,
};

use skein_engine::StopHandle;
use skein_proto::Invocation;

use super::{Job, Ticket};

/// What an executor may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most jobs that run at a time.
    pub(crate) running_max: usize,
    /// Most guests that wait at a time, apart from one for each depth.
    pub(crate) waiting_max: usize,
    /// How long a thread stays without work.
    pub(crate) thread_idle: Duration,
}

/// Which place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Shared,
    /// The one that calls of this depth have for themselves.
    Own(usize),
}

#[derive(Default)]
pub(super) struct Pool {
    /// Jobs from outside, and those that guests or many calls wait for, each line in the order of their numbers.
    pub(super) outer: VecDeque<(u64, Job)>,
    pub(super) nested: VecDeque<(u64, Job)>,
    /// The number of the last job.
    jobs: u64,
    /// How many nested jobs have gone before one from outside that waits.
    nested_row: u32,
    /// Threads that have been started and not yet looked for work.
    pub(super) starting: usize,
    /// Threads without work.
    pub(super) idle: usize,
    /// Threads whose job runs.
    pub(super) running: usize,
    /// Threads whose guest waits in a shared place.
    pub(super) waiting: usize,
    /// Which depths have taken the place that is theirs.
    pub(super) own: [bool; DEPTHS],
    /// Live threads, each with what stops the guest it runs.
    pub(super) threads: HashMap<u64, Thread>,
    /// Threads that went away by themselves, still to be joined.
    pub(super) gone: Vec<JoinHandle<()>>,
    pub(super) started: u64,
    pub(super) is_stopping: bool,
}

/// What a thread did before it looks for work.
pub(super) enum Before {
    Started,
    Ran,
}

pub(super) struct Thread {
    pub(super) handle: JoinHandle<()>,
    pub(super) running: Option<StopHandle>,
}

impl Bounds {
    /// The same, within what the machine lets a process have: guests that run, that wait, and that wait in places of
    /// their own.
    pub(super) fn within(self, guests_max: usize) -> Self {
        let running_max = self.running_max.min(guests_max / 2).max(1);
        let left = guests_max.saturating_sub(running_max + DEPTHS);
        let thread_idle = self.thread_idle.max(Duration::from_millis(1));
        Self { running_max, waiting_max: self.waiting_max.min(left).max(1), thread_idle }
    }

    /// Most jobs in the queue for one more to be taken. Calls from outside cannot take the last quarter.
    pub(super) fn queue_max(&self, is_nested: bool) -> usize {
        let all = self.running_max.saturating_mul(QUEUE_PER_SLOT);
        if is_nested { all } else { all - all / 4 }
    }

    /// Most guests in shared places for one more of this depth. Calls from outside cannot take the last quarter.
    pub(super) fn places(&self, depth: u8) -> usize {
        if depth > 0 { self.waiting_max } else { self.waiting_max - self.waiting_max / 4 }
    }
}

impl Pool {
    pub(super) fn line(&mut self, is_nested: bool) -> &mut VecDeque<(u64, Job)> {
        if is_nested { &mut self.nested } else { &mut self.outer }
    }

    /// Queues a job; returns its number.
    pub(super) fn push(&mut self, job: Job) -> u64 {
        self.jobs += 1;
        let number = self.jobs;
        self.line(job.is_nested).push_back((number, job));
        number
    }

    /// The next job: what others wait for first, but not for ever.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let is_nested = !self.nested.is_empty() && (self.outer.is_empty() || self.nested_row < NESTED_ROW_MAX);
        self.nested_row = if is_nested && !self.outer.is_empty() { self.nested_row + 1 } else { 0 };
        self.line(is_nested).pop_front().map(|(_, job)| job)
    }

    /// A job that has not begun, without its place in line.
    pub(super) fn take_back(&mut self, ticket: &Ticket) -> Option<Job> {
        let line = self.line(ticket.is_nested);
        let at = line.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()?;
        line.remove(at).map(|(_, job)| job)
    }

    pub(super) fn queued(&self) -> usize {
        self.outer.len() + self.nested.len()
    }

    /// Threads that take, or will take, a job without waiting for anybody else.
    pub(super) fn active(&self) -> usize {
        self.starting + self.idle + self.running
    }

    /// Guests that run and guests that wait.
    pub(super) fn guests(&self) -> (usize, usize) {
        (self.running, self.waiting + self.own.iter().filter(|is_taken| **is_taken).count())
    }

    pub(super) fn take_place(&mut self, bounds: &Bounds, depth: u8) -> Option<Place> {
        if self.waiting < bounds.places(depth) {
            self.waiting += 1;
            return Some(Place::Shared);
        }
        // Only a call that others wait for has a place of its own: what comes from outside can come again.
        let index = usize::from(depth).checked_sub(1)?;
        let own = self.own.get_mut(index).filter(|is_taken| !**is_taken)?;
        *own = true;
        Some(Place::Own(index))
    }

    pub(super) fn give_place(&mut self, place: Place) {
        match place {
            Place::Shared => self.waiting = self.waiting.saturating_sub(1),
            Place::Own(index) => {
                if let Some(own) = self.own.get_mut(index) {
                    *own = false;
                }
            }
        }
    }
}

/// How many guests, with their threads, this machine lets a process have: the kernel bounds its mappings, and a thread
/// that finds no room for its signal stack ends the process.
pub(super) fn guests_max() -> usize {
    let maps = fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<usize>().ok());
    maps.map_or(usize::MAX, |maps| maps / 3 * 2 / MAPS_PER_GUEST)
}

/// Jobs that may wait per slot: with the permits of each version before it, this only fills when very many versions
/// are busy at once.
pub(super) const QUEUE_PER_SLOT: usize = 4;

/// Nested jobs in a row while one from outside waits: it has a ninth of the slots' turns at least.
pub(super) const NESTED_ROW_MAX: u32 = 8;

/// The depths from 1, each with a place of its own.
const DEPTHS: usize = Invocation::DEPTH_MAX as usize;

/// Mappings of a guest's thread, measured: stacks and signal stacks with their guards. The third of the kernel's limit
/// that is left is for instances, which the engine bounds, and compiled code.
const MAPS_PER_GUEST: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_machine_and_leave_room_to_wait() {
        let check = |running_max, waiting_max, guests_max, expected| {
            let bounds = Bounds { running_max, waiting_max, thread_idle: Duration::ZERO }.within(guests_max);
            assert_eq!((bounds.running_max, bounds.waiting_max), expected);
        };
        check(512, 4_096, usize::MAX, (512, 4_096));
        check(512, 4_096, 4_778, (512, 4_096));
        check(512, 4_096, 1_016, (508, 492));
        check(0, 0, 0, (1, 1));
        assert!(guests_max() > DEPTHS);
    }
}
