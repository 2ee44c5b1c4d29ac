//! A healed mesh converges: one leader, everybody alive to everybody, the same state everywhere, and it serves.

use crate::world::{NODES, Standing};

/// Why the mesh has not converged, by how its nodes see it; none if it has.
pub fn check(standings: &[Option<Standing>]) -> Option<String> {
    let standings: Option<Vec<&Standing>> = standings.iter().map(Option::as_ref).collect();
    let Some(standings) = standings else { return Some("a node does not run".to_owned()) };
    let all = usize::try_from(NODES).ok();
    let first = standings[0];
    let differs = |what: &dyn Fn(&Standing) -> String| {
        let seen: Vec<String> = standings.iter().map(|standing| what(standing)).collect();
        seen.iter().any(|other| *other != seen[0]).then(|| seen.join(", "))
    };
    if first.leader.is_none() {
        return Some("there is no leader".to_owned());
    }
    if let Some(leaders) = differs(&|standing| format!("{:?}", standing.leader)) {
        return Some(format!("nodes follow different leaders: {leaders}"));
    }
    if let Some(states) = differs(&|standing| format!("{:x} at {}", standing.digest, standing.index)) {
        return Some(format!("nodes have different states: {states}"));
    }
    if standings.iter().any(|standing| Some(standing.alive) != all) {
        let seen: Vec<String> = standings.iter().map(|standing| standing.alive.to_string()).collect();
        return Some(format!("nodes see so many of {NODES} alive: {}", seen.join(", ")));
    }
    None
}
