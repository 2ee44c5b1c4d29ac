//! Surveys in, shortages out; who counts, who is asked, who is waited for.

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

#[test]
fn a_publish_wants_two_others_and_needs_one_where_there_are_as_many() {
    let asked: Vec<(usize, usize)> = (0..4).map(|peers| (others_wanted(peers), others_least(peers))).collect();
    assert_eq!(asked, [(0, 0), (1, 1), (2, 1), (2, 1)]);
}

#[test]
fn each_artifact_begins_at_another_member() {
    let firsts: BTreeSet<NodeId> = (0_u64..64)
        .map(|at| {
            let mut nodes = [1, 2, 3].map(NodeId);
            spread(Digest::of(&at.to_le_bytes()), &mut nodes);
            assert_eq!(BTreeSet::from(nodes), self::nodes(&[1, 2, 3]));
            nodes[0]
        })
        .collect();
    assert_eq!(firsts, nodes(&[1, 2, 3]));
    spread(Digest::of(b"none"), &mut []);
}

#[test]
fn each_member_is_asked_counted_or_waited_for() {
    let member = |(node, is_alive, is_draining)| Member { node: NodeId(node), is_alive, is_draining };
    let seen = [(1, true, false), (2, true, true), (3, false, false), (4, false, true), (5, true, false)];
    let members = Members::sorted(seen.map(member));
    let sets = |members: &Members| [members.staying.clone(), members.leaving.clone(), members.down.clone()];
    assert_eq!(sets(&members), [nodes(&[1, 5]), nodes(&[2]), nodes(&[3, 4])]);
    assert_eq!(members.answering().collect::<BTreeSet<_>>(), nodes(&[1, 2, 5]));
    assert_eq!(sets(&members.clone().without(NodeId(1))), [nodes(&[5]), nodes(&[1, 2]), nodes(&[3, 4])]);
    assert_eq!(members.clone().without(NodeId(3)), members, "who does not answer cannot give what it has");
}

#[test]
fn who_is_away_is_expected_back_for_a_while() {
    let away_max = Duration::from_secs(120);
    let note = |away: &mut Away, absent: &[u64], now| {
        away.note(&nodes(absent), Duration::from_secs(now));
        away.briefly(Duration::from_secs(now), away_max)
    };
    let mut away = Away::default();
    assert_eq!(note(&mut away, &[4], 0), 1);
    assert_eq!(note(&mut away, &[2, 4], 60), 2);
    assert_eq!(note(&mut away, &[2, 4], 120), 1);
    assert_eq!(note(&mut away, &[2, 4], 180), 0);
    assert_eq!(note(&mut away, &[4], 180), 0);
    assert_eq!(note(&mut away, &[2, 4], 180), 1, "it answered in between");
}
