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

impl Survey {
    /// Those of these nodes that did not answer.
    pub(super) fn silent<'a>(&'a self, nodes: &'a BTreeSet<NodeId>) -> impl Iterator<Item = NodeId> + 'a {
        nodes.iter().copied().filter(|node| !self.has.contains_key(node))
    }
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

/// The artifacts that fewer than `copies` keepers have, or fewer than all where there are fewer. A keeper that did not answer
/// is none: it can be given nothing now, and is expected back at best.
pub(super) fn shortages(survey: &Survey, keepers: &Keepers, copies: usize) -> Vec<Shortage> {
    let nodes = &keepers.nodes - &survey.silent(&keepers.nodes).collect();
    let wanted = copies.min(nodes.len());
    let mut short = short_of(survey, &nodes, wanted);
    short.retain(|shortage| {
        let have = wanted - shortage.missing;
        have == 0 || have + keepers.expected < copies
    });
    short
}

/// The artifacts that would not lie on enough of the members that stay if `node` went away for good. Whoever stays and did
/// not answer is taken to have nothing, and where nobody stays, nothing is safe: here, what is not known may cost the last
/// copy.
pub(super) fn unsecured(survey: &Survey, staying: &BTreeSet<NodeId>, node: NodeId, copies: usize) -> Vec<Shortage> {
    let mut short = short_of(survey, staying, copies.min(staying.len()).max(1));
    // What nobody has is not made less by this node's going, unless it does not answer and may be the one.
    let is_silent = !survey.has.contains_key(&node);
    short.retain(|shortage| is_silent || !shortage.holders.is_empty());
    short
}

/// The artifacts that fewer than `wanted` of these nodes said that they have.
fn short_of(survey: &Survey, nodes: &BTreeSet<NodeId>, wanted: usize) -> Vec<Shortage> {
    let has = |node: &NodeId, at: usize| survey.has.get(node).and_then(|has| has.get(at)).copied().unwrap_or(false);
    let mut short = Vec::new();
    for (at, digest) in survey.digests.iter().enumerate() {
        let have = nodes.iter().filter(|node| has(node, at)).count();
        if have >= wanted {
            continue;
        }
        let holders: Vec<NodeId> = survey.has.keys().copied().filter(|node| has(node, at)).collect();
        let lacks = |node: &&NodeId| survey.has.contains_key(node) && !has(node, at);
        let mut targets: Vec<NodeId> = nodes.iter().filter(lacks).copied().collect();
        if !targets.is_empty() {
            // Each artifact begins at another member, so that one does not get them all.
            let first = usize::from(digest.as_bytes()[0]) % targets.len();
            targets.rotate_left(first);
        }
        short.push(Shortage { digest: *digest, holders, missing: wanted - have, targets });
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `has`: for each member that answers, a character for each artifact, `x` for what it has. `keepers`: who stays.
    /// The answer: for each shortage `artifact: holders -> targets, missing`.
    fn check(has: &[(u64, &str)], keepers: &[u64], expected: usize, says: &[&str]) {
        let survey = survey(has);
        let keepers = Keepers { nodes: nodes(keepers), expected };
        assert_eq!(shown(&survey, &shortages(&survey, &keepers, 3)), says);
    }

    /// The same for those that stay when `node` goes for good.
    fn check_without(node: u64, has: &[(u64, &str)], staying: &[u64], says: &[&str]) {
        let survey = survey(has);
        assert_eq!(shown(&survey, &unsecured(&survey, &nodes(staying), NodeId(node), 3)), says);
    }

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn survey(has: &[(u64, &str)]) -> Survey {
        let count = has.first().map_or(0, |(_, has)| has.len());
        let digests = (0..count).map(|at| Digest::of(&at.to_le_bytes())).collect();
        let of = |text: &str| text.chars().map(|has| has == 'x').collect();
        Survey { digests, has: has.iter().map(|(node, has)| (NodeId(*node), of(has))).collect() }
    }

    fn shown(survey: &Survey, short: &[Shortage]) -> Vec<String> {
        let list = |nodes: &[NodeId]| nodes.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(" ");
        let show = |shortage: &Shortage| {
            let at = survey.digests.iter().position(|digest| *digest == shortage.digest).unwrap();
            let mut targets = shortage.targets.clone();
            targets.sort_unstable();
            format!("{at}: {} -> {}, {}", list(&shortage.holders), list(&targets), shortage.missing)
        };
        short.iter().map(show).collect()
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
        // A fourth does not say what it has: it is waited for as long as it is expected.
        check(&[(1, "x"), (2, "x"), (4, ".")], &[1, 2, 3, 4], 1, &[]);
        check(&[(1, "x"), (2, "x"), (4, ".")], &[1, 2, 3, 4], 0, &["0: 1 2 -> 4, 1"]);
        check(&[(1, "."), (2, ".")], &[1, 2], 1, &["0:  -> 1 2, 2"]);
    }

    #[test]
    fn nobody_having_it_is_a_shortage_that_names_no_holder() {
        check(&[(1, "."), (2, ".")], &[1, 2], 0, &["0:  -> 1 2, 2"]);
    }

    #[test]
    fn what_stays_is_safe_on_those_that_said_so_only() {
        check_without(1, &[(1, "x"), (2, "x"), (3, "x"), (4, "x")], &[2, 3, 4], &[]);
        check_without(1, &[(1, "x"), (2, "x"), (3, ".")], &[2, 3], &["0: 1 2 -> 3, 1"]);
        // 3 stays and does not say what it has.
        check_without(1, &[(1, "x"), (2, "x")], &[2, 3], &["0: 1 2 -> , 1"]);
        // None of those that stay does.
        check_without(1, &[(1, "x")], &[2, 3], &["0: 1 -> , 2"]);
    }

    #[test]
    fn nothing_is_safe_where_nobody_stays() {
        check_without(1, &[(1, "x")], &[], &["0: 1 -> , 1"]);
        check_without(1, &[(1, "x"), (2, "x")], &[], &["0: 1 2 -> , 1"]);
    }

    #[test]
    fn what_nobody_has_keeps_no_node_that_says_so() {
        check_without(1, &[(1, "."), (2, ".")], &[2], &[]);
        check_without(1, &[(2, ".")], &[2], &["0:  -> 2, 1"]);
    }
}
