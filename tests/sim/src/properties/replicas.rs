//! Replicas are equal: at one index all nodes have the same state, bit by bit.

use crate::history::Events;

/// The indexes at which two nodes had different states.
pub fn check(events: &Events) -> Vec<String> {
    let split = events.states.iter().filter(|(_, digests)| digests.len() > 1);
    split
        .map(|(index, digests)| {
            let nodes: Vec<String> = digests.values().map(ToString::to_string).collect();
            format!("at index {index} nodes {} had different states", nodes.join(" and "))
        })
        .collect()
}
