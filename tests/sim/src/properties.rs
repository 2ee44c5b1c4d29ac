//! What must hold of every run, one file each. Each is a function from what happened to what is wrong with it.

pub mod acknowledged;
pub mod converges;
pub mod copies;
pub mod drained;
pub mod ends;
pub mod once;
pub mod published;
pub mod replicas;

use crate::history::Events;

/// What is wrong with a run by all the properties of its record. Whether it converged, and where copies lie, is seen while
/// it runs.
pub fn check(events: &Events) -> Vec<String> {
    let all = [
        events.faults.clone(),
        acknowledged::check(events),
        replicas::check(events),
        once::check(events),
        ends::check(events),
        drained::check(events),
    ];
    all.concat()
}
