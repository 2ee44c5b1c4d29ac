//! Nothing acknowledged is lost: what was acknowledged before a read began is in what it saw.
//!
//! This is what linearizability (Herlihy and Wing, 1990) comes to for values that are only ever added. At the end of a
//! run every node reads, so a write that is lost for good is missed there.

use crate::history::Events;

/// The reads that saw less than they must.
pub fn check(events: &Events) -> Vec<String> {
    let behind = events.reads.iter().filter(|read| !read.missed.is_empty());
    let describe = |read: &crate::history::Read| {
        let writes: Vec<String> = read.missed.iter().map(|number| written(events, *number)).collect();
        let ((node, boot), began, index) = (read.boot, read.began, read.index);
        format!("a read at node {node} (start {boot}) at {began:?} saw index {index} without {}", writes.join(", "))
    };
    behind.map(describe).collect()
}

fn written(events: &Events, number: usize) -> String {
    let write = &events.writes[number];
    match &write.ended {
        Some((at, Ok(index))) => format!("publish {number}, acknowledged at {at:?} with index {index}"),
        _ => format!("publish {number}"),
    }
}
