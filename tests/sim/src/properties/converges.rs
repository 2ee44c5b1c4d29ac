//! A healed mesh converges: all members run, one of them leads, everybody is alive to everybody, and the state is the same
//! everywhere.

use std::collections::{BTreeMap, BTreeSet};

use skein_proto::NodeId;

use crate::world::Standing;

/// Why these members have not converged, by how they see the mesh; none if they have.
pub fn check(members: &BTreeSet<NodeId>, standings: &BTreeMap<NodeId, Standing>) -> Option<String> {
    let seen: Vec<(NodeId, &Standing)> =
        members.iter().filter_map(|node| Some((*node, standings.get(node)?))).collect();
    let differs = |what: &dyn Fn(&Standing) -> String| {
        let all: Vec<String> = seen.iter().map(|(node, standing)| format!("{node}: {}", what(standing))).collect();
        seen.iter().any(|(_, standing)| what(standing) != what(seen[0].1)).then(|| all.join(", "))
    };
    if seen.len() < members.len() {
        let run: Vec<NodeId> = seen.iter().map(|(node, _)| *node).collect();
        return Some(format!("of the members {members:?} only {run:?} run"));
    }
    let Some(first) = seen.first() else { return Some("there are no members".to_owned()) };
    if first.1.leader.is_none() {
        return Some(format!("there is no leader: {standings:?}"));
    }
    if let Some(leaders) = differs(&|standing| format!("{:?}", standing.leader)) {
        return Some(format!("nodes follow different leaders: {leaders}; {standings:?}"));
    }
    if let Some(states) = differs(&|standing| format!("{:x} at {}", standing.digest, standing.catalog.index())) {
        return Some(format!("nodes have different states: {states}"));
    }
    if seen.iter().any(|(_, standing)| standing.alive != *members) {
        let alive: Vec<String> = seen.iter().map(|(node, standing)| format!("{node}: {:?}", standing.alive)).collect();
        return Some(format!("of the members {members:?} are alive, as they see it, {}", alive.join(", ")));
    }
    if !first.1.voters.is_subset(members) {
        return Some(format!("of the voters {:?} only {members:?} are members", first.1.voters));
    }
    None
}
