//! Which artifacts have too few copies, and who is to make more. Pure: a survey in, shortages out.

use std::collections::{BTreeMap, BTreeSet};

use skein_proto::{Digest, NodeId};

/// What members said that they have.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// The artifacts that versions need.
    pub(super) digests: Vec<Digest>,
    /// For each member that answered, whether it has each of them, in their order.
    pub(super) has: BTreeMap<NodeId, Vec<bool>>,
}

/// The members whose copies count.
#[derive(Debug, Clone)]
pub(super) struct Keepers {
    /// Those that stay.
    pub(super) nodes: BTreeSet<NodeId>,
    /// How many more are away for a moment and will be back with what they have.
    pub(super) expected: usize,
}

/// An artifact with too few copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) digest: Digest,
    /// Who answered and has it, also of those that leave. Empty: it cannot be copied.
    pub(super) holders: Vec<NodeId>,
    /// How many more are to have it.
    pub(super) missing: usize,
    /// Who can take it, in the order to try.
    pub(super) targets: Vec<NodeId>,
}

/// The artifacts that fewer than `copies` keepers have, or fewer than all where there are fewer.
pub(super) fn shortages(survey: &Survey, keepers: &Keepers, copies: usize) -> Vec<Shortage> {
    let has = |node: &NodeId, at: usize| survey.has.get(node).and_then(|has| has.get(at)).copied().unwrap_or(false);
    // Who did not answer can be given nothing now.
    let answering: Vec<NodeId> = keepers.nodes.iter().copied().filter(|node| survey.has.contains_key(node)).collect();
    let silent = keepers.nodes.len() - answering.len();
    let wanted = copies.min(answering.len());
    let mut shortages = Vec::new();
    for (at, digest) in survey.digests.iter().enumerate() {
        let (have, lack): (Vec<NodeId>, Vec<NodeId>) = answering.iter().copied().partition(|node| has(node, at));
        let may_have_it = have.len() + silent + keepers.expected;
        if have.len() >= wanted || (!have.is_empty() && may_have_it >= copies) {
            continue;
        }
        let holders: Vec<NodeId> = survey.has.keys().copied().filter(|node| has(node, at)).collect();
        let mut targets = lack;
        if !targets.is_empty() {
            // Each artifact begins at another member, so that one does not get them all.
            let first = usize::from(digest.as_bytes()[0]) % targets.len();
            targets.rotate_left(first);
        }
        shortages.push(Shortage { digest: *digest, holders, missing: wanted - have.len(), targets });
    }
    shortages
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `has`: for each member that answers, a character for each artifact, `x` for what it has. `keepers`: who stays.
    /// The answer: for each shortage `artifact: holders -> targets, missing`.
    fn check(has: &[(u64, &str)], keepers: &[u64], expected: usize, says: &[&str]) {
        let count = has.first().map_or(0, |(_, has)| has.len());
        let digests: Vec<Digest> = (0..count).map(|at| Digest::of(&at.to_le_bytes())).collect();
        let of = |text: &str| text.chars().map(|has| has == 'x').collect();
        let survey =
            Survey { digests: digests.clone(), has: has.iter().map(|(node, has)| (NodeId(*node), of(has))).collect() };
        let keepers = Keepers { nodes: keepers.iter().copied().map(NodeId).collect(), expected };
        let list = |nodes: &[NodeId]| nodes.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(" ");
        let found: Vec<String> = shortages(&survey, &keepers, 3)
            .iter()
            .map(|shortage| {
                let at = digests.iter().position(|digest| *digest == shortage.digest).unwrap();
                let mut targets = shortage.targets.clone();
                targets.sort_unstable();
                format!("{at}: {} -> {}, {}", list(&shortage.holders), list(&targets), shortage.missing)
            })
            .collect();
        assert_eq!(found, says);
    }

    #[test]
    fn three_members_have_each_artifact_or_all_where_there_are_fewer() {
        check(&[(1, "x"), (2, "x"), (3, "x"), (4, ".")], &[1, 2, 3, 4], 0, &[]);
        check(&[(1, "xx"), (2, "x."), (3, "..")], &[1, 2, 3], 0, &["0: 1 2 -> 3, 1", "1: 1 -> 2 3, 2"]);
        check(&[(1, "x"), (2, ".")], &[1, 2], 0, &["0: 1 -> 2, 1"]);
        check(&[(1, "x")], &[1], 0, &[]);
    }

    #[test]
    fn who_leaves_does_not_count_and_gives_what_it_has() {
        check(&[(1, "x"), (2, "x"), (3, "x"), (4, ".")], &[2, 3, 4], 0, &["0: 1 2 3 -> 4, 1"]);
        check(&[(1, "x"), (2, "."), (3, ".")], &[2, 3], 0, &["0: 1 -> 2 3, 2"]);
    }

    #[test]
    fn who_is_away_for_a_moment_is_waited_for_unless_nobody_else_has_it() {
        check(&[(1, "x"), (2, "x"), (4, ".")], &[1, 2, 4], 1, &[]);
        check(&[(1, "x"), (2, "x"), (4, ".")], &[1, 2, 4], 0, &["0: 1 2 -> 4, 1"]);
        // Three keepers, of which one does not say what it has.
        check(&[(1, "x"), (2, "x"), (4, ".")], &[1, 2, 3, 4], 0, &[]);
        check(&[(1, "."), (2, ".")], &[1, 2], 1, &["0:  -> 1 2, 2"]);
    }

    #[test]
    fn nobody_having_it_is_a_shortage_that_names_no_holder() {
        check(&[(1, "."), (2, ".")], &[1, 2], 0, &["0:  -> 1 2, 2"]);
    }
}
