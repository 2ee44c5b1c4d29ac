//! The order of nodes, rule by rule.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};
use skein_proto::FunctionId;

use super::*;

const VERSION: VersionId = VersionId { function: FunctionId(7), number: 1 };

/// `here 3 warm`, `2`, `4 dead`, with figures such as `run=7`, `wait=1`, `age=30` (ms), `cpu=950` and `memory=80` (percent).
fn parse(text: &str) -> Candidate {
    let number = |word: &str| word.split_once('=').map_or(0, |(_, number)| number.parse().unwrap());
    let find = |key: &str| text.split(' ').find(|word| word.starts_with(key)).map_or(0, number);
    let has = |word: &str| text.split(' ').any(|other| other == word);
    let node = text.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let standings = [
        ("slow", Standing::Slow),
        ("doubtful", Standing::Doubtful),
        ("draining", Standing::Draining),
        ("unbound", Standing::Unbound),
        ("dead", Standing::Dead),
    ];
    Candidate {
        node: NodeId(node),
        is_here: has("here"),
        is_warm: has("warm"),
        has_refused: has("refused"),
        is_starved: has("starved"),
        standing: standings.into_iter().find(|(word, _)| has(word)).map_or(Standing::Good, |(_, standing)| standing),
        in_flight: find("run="),
        line: Line { queued: find("wait="), age_ms: find("age=") },
        cpu_permille: u16::try_from(find("cpu=")).unwrap(),
        memory_mib: find("memory=") * 10,
        memory_budget_mib: if text.contains("memory=") { 1_000 } else { 0 },
    }
}

fn parse_all(candidates: &str) -> Vec<Candidate> {
    candidates.split(", ").map(parse).collect()
}

/// Whatever the dice say, the order is one of `expected` (texts such as `1 2 3`, alternatives between `|`).
fn check(candidates: &str, expected: &str) {
    let candidates = parse_all(candidates);
    for seed in 0..50 {
        let ranked = rank(VERSION, candidates.clone(), &mut SmallRng::seed_from_u64(seed));
        let usable = ranked.iter().filter(|one| one.is_usable());
        let shown = usable.map(|one| one.candidate.node.to_string()).collect::<Vec<_>>().join(" ");
        assert!(expected.split(" | ").any(|one| one == shown), "{shown}, not {expected}");
    }
}

/// The first node and its reason, over many versions.
fn firsts(candidates: &str) -> Vec<(NodeId, Reason)> {
    let candidates = parse_all(candidates);
    let first = |number| {
        let version = VersionId { function: FunctionId(7), number };
        let ranked = rank(version, candidates.clone(), &mut SmallRng::seed_from_u64(number));
        (ranked[0].candidate.node, ranked[0].reason)
    };
    (0..200).map(first).collect()
}

#[test]
fn those_that_may_not_or_cannot_are_left_out_and_listed_last() {
    check("here 1 draining, 2 dead, 3, 4 unbound", "3");
    check("here 1 draining", "");
    let ranked = rank(VERSION, parse_all("2 dead, here 1"), &mut SmallRng::seed_from_u64(1));
    assert_eq!(ranked.iter().map(Ranked::is_usable).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn warm_here_comes_before_warm_elsewhere() {
    check("here 1 warm run=8, 2 warm, 3", "1 2 3");
    check("here 1 warm run=24, 2 warm run=8", "1 2");
}

#[test]
fn a_clearly_busier_here_gives_way() {
    check("here 1 warm run=25, 2 warm run=8", "2 1");
    check("here 1 run=9, 2", "2 1");
}

#[test]
fn warm_elsewhere_with_room_comes_before_cold_here() {
    check("here 1, 2 warm run=3", "2 1");
}

#[test]
fn warm_without_room_comes_after_cold() {
    check("here 1, 2 warm wait=1", "1 2");
    check("here 1, 2 warm cpu=950", "1 2");
    check("here 1, 2 warm refused", "1 2");
}

#[test]
fn a_node_without_memory_has_no_room_whatever_its_cpu_says() {
    // The newcomer's processor is idle and all others are busy, but it has no memory left.
    check("here 1 cpu=1000 memory=20, 2 cpu=990 memory=11, 3 memory=95", "1 2 3 | 2 1 3");
    check("here 1, 2 warm memory=88, 3", "1 3 2 | 3 1 2");
    check("here 1, 2 warm memory=87, 3", "2 1 3 | 2 3 1");
    check("here 1, 2 warm starved", "1 2");
    // It has word of both; whoever would let the call wait comes before whoever would refuse it.
    check("here 1 warm memory=95, 2 wait=3, 3 wait=2", "3 2 1 | 2 3 1");
    let ranked =
        rank(VERSION, parse_all("2 cpu=1000 memory=10, here 1 cpu=10 memory=95"), &mut SmallRng::seed_from_u64(1));
    assert_eq!(
        ranked.iter().map(|one| (one.has_room, one.has_memory)).collect::<Vec<_>>(),
        [(false, true), (false, false)]
    );
}

#[test]
fn a_busy_warm_node_does_not_keep_a_version_to_itself() {
    check("here 1, 2 warm run=9", "1 2");
    let ranked = rank(VERSION, parse_all("here 1, 2 warm run=9"), &mut SmallRng::seed_from_u64(1));
    assert_eq!((ranked[0].reason, ranked[1].reason), (Reason::Spread, Reason::InLine));
}

#[test]
fn where_all_are_full_a_start_would_make_it_worse() {
    check("here 1 wait=1, 2 warm wait=4", "2 1");
    check("here 1 wait=1, 2 warm wait=5", "1 2");
    check("here 1 cpu=950, 2 warm wait=4, 3 wait=2", "1 3 2 | 1 2 3");
}

#[test]
fn of_two_lines_the_one_that_moves_is_taken() {
    check("2 warm wait=4 age=20, 3 warm wait=4 age=900", "2 3");
    check("2 warm wait=9 age=20, 3 warm wait=1 age=900", "2 3");
    check("here 1 warm wait=1 age=900, 2 warm wait=9 age=20", "2 1");
}

#[test]
fn where_every_cpu_is_busy_nodes_are_still_told_apart() {
    // As if none were: warm first, spread when clearly busier, here first, slow ones behind.
    check("here 1 cpu=1000, 2 warm cpu=960 run=8", "2 1");
    check("here 1 cpu=1000, 2 warm cpu=960 run=9", "1 2");
    check("2 cpu=960, here 1 cpu=990", "1 2");
    check("here 1 cpu=1000 slow, 2 cpu=1000", "2 1");
    // Not if one is clearly less busy, and not by one that may not answer.
    check("here 1 warm cpu=1000, 2 cpu=940", "2 1");
    check("here 1 warm cpu=1000, 2 cpu=960, 3 cpu=100 doubtful", "1 2 3");
    let homes = firsts("here 1 memory=85 cpu=1000, 2 memory=85 cpu=1000, 3 memory=85 cpu=1000");
    assert_eq!(
        homes,
        firsts("here 1 memory=85, 2 memory=85, 3 memory=85"),
        "a version has a home whatever the CPUs do"
    );
    let ranked = rank(VERSION, parse_all("1 cpu=1000, 2 cpu=1000, 3 cpu=1000 wait=1"), &mut SmallRng::seed_from_u64(1));
    assert_eq!(ranked.iter().map(|one| one.has_room).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn cold_elsewhere_goes_to_the_less_loaded_of_two() {
    check("2 run=5, 3 run=1", "3 2");
    let firsts: Vec<_> = firsts("2 run=9, 3 run=5, 4 run=1").into_iter().map(|(node, _)| node).collect();
    assert!(!firsts.contains(&NodeId(2)), "the most loaded loses to any other");
    assert!(firsts.contains(&NodeId(3)), "the least loaded does not get everything");
}

#[test]
fn slow_ones_come_behind_all_with_room_and_doubtful_ones_last() {
    check("2 warm slow, here 1, 3 wait=1", "1 2 3");
    check("2 warm doubtful, here 1 wait=9", "1 2");
}

#[test]
fn the_last_node_is_tried_whatever_is_thought_of_it() {
    for standing in ["slow", "doubtful", "wait=9", "cpu=1000", "memory=200"] {
        check(&format!("2 {standing}, here 1 draining, 3 dead"), "2");
    }
}

#[test]
fn without_need_a_cold_version_starts_here() {
    for candidates in ["here 1 memory=70, 2 memory=10", "here 1, 2 memory=10"] {
        assert!(firsts(candidates).iter().all(|first| *first == (NodeId(1), Reason::Here)), "{candidates}");
    }
}

#[test]
fn when_memory_is_short_a_version_goes_home_and_so_it_does_from_everywhere() {
    let homes = firsts("here 1 memory=71, 2 memory=85, 3 memory=85");
    for node in 1..=3 {
        assert!(homes.contains(&(NodeId(node), Reason::Home)), "node {node} is nobody's home");
    }
    assert_eq!(firsts("1 memory=85, here 2 memory=85, 3 memory=71 run=3"), homes);
    let seen_from_outside = firsts("1 memory=85, 2 memory=85, 3 memory=85, here 4 unbound");
    assert_eq!(seen_from_outside, homes, "whoever may not run it sends it home too");
}

#[test]
fn what_is_warm_somewhere_is_not_sent_home() {
    assert!(firsts("here 1 memory=85, 2 memory=85, 3 warm memory=85").iter().all(|(node, _)| *node == NodeId(3)));
}

#[test]
fn a_home_with_more_than_its_share_is_passed_over() {
    let quiet = firsts("here 1 memory=85, 2 memory=85, 3 memory=85");
    let busy = firsts("here 1 memory=85, 2 memory=85 run=60, 3 memory=85");
    for (quiet, busy) in quiet.iter().zip(&busy) {
        match quiet.0 {
            NodeId(2) => assert!(busy.0 != NodeId(2) && busy.1 == Reason::NextHome, "{busy:?}"),
            _ => assert_eq!(busy, quiet, "the others stay at home"),
        }
    }
}

proptest! {
    #[test]
    fn each_node_is_ranked_once_and_the_usable_ones_first(
        states in proptest::collection::vec((0_usize..6, any::<bool>(), 0_u32..99, 0_u32..4, 0_u32..1_000), 0..12), seed: u64,
    ) {
        let standings = [
            Standing::Good, Standing::Slow, Standing::Doubtful, Standing::Draining, Standing::Unbound, Standing::Dead,
        ];
        let candidates: Vec<_> = (1..).zip(&states).map(|(node, (standing, is_warm, run, wait, memory))| Candidate {
            node: NodeId(node), is_here: node == 1, is_warm: *is_warm, has_refused: false, is_starved: false, standing: standings[*standing],
            in_flight: *run, line: Line { queued: *wait, age_ms: 0 }, cpu_permille: 0, memory_mib: *memory, memory_budget_mib: 1_000,
        }).collect();
        let ranked = rank(VERSION, candidates.clone(), &mut SmallRng::seed_from_u64(seed));
        let mut nodes: Vec<_> = ranked.iter().map(|one| one.candidate.node).collect();
        nodes.sort();
        prop_assert_eq!(nodes, candidates.iter().map(|one| one.node).collect::<Vec<_>>());
        prop_assert!(ranked.is_sorted_by_key(|one| !one.is_usable()));
        let usable = states.iter().filter(|state| state.0 < 3).count();
        prop_assert_eq!(ranked.iter().filter(|one| one.is_usable()).count(), usable);
    }
}
