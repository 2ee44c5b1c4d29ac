//! A node that leaves in order takes no call with it: what it ran has ended when it says that it is drained.

use crate::history::{End, Events};

/// The executions that their node left behind.
pub fn check(events: &Events) -> Vec<String> {
    let left = events
        .executions
        .iter()
        .filter(|execution| !execution.has_ended && events.boots.get(&execution.boot) == Some(&Some(End::Left)));
    left.map(|execution| {
        let (node, boot) = execution.boot;
        format!("call {} still ran when node {node} (start {boot}) had drained", execution.call)
    })
    .collect()
}
