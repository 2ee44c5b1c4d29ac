//! The plan, by cases and by what must hold for all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use skein_proto::FunctionId;

use super::*;

fn version(id: u64) -> VersionId {
    VersionId { function: FunctionId(id), number: 1 }
}

/// Node `1: 7=50 8=20` has versions 7 and 8 that are used so much; `wait=N` and `full` may follow.
fn parse(text: &str) -> NodeView {
    let (node, rest) = text.split_once(':').unwrap();
    let words: Vec<_> = rest.split_whitespace().collect();
    let pair = |word: &&str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.parse::<u32>().unwrap()));
    let pairs: Vec<_> = words.iter().filter_map(pair).collect();
    let warm: Vec<_> = pairs.iter().filter_map(|(key, value)| Some((version(key.parse().ok()?), *value))).collect();
    NodeView {
        node: NodeId(node.parse().unwrap()),
        takes_more: !words.contains(&"full"),
        busy_percent: warm.iter().map(|(_, weight)| weight).sum(),
        queued: pairs.iter().find(|(key, _)| key == "wait").map_or(0, |(_, value)| *value),
        warm,
    }
}

/// Everything may run everywhere, but for `only` one node if that is said; version 99 is kept on node 1.
#[derive(Default)]
struct Rules {
    only: Option<NodeId>,
}

impl Places for Rules {
    fn may_run(&self, _: VersionId, node: NodeId) -> bool {
        self.only.is_none_or(|only| only == node)
    }

    fn is_kept(&self, version: VersionId, node: NodeId) -> bool {
        version == self::version(KEPT) && node == NodeId(1)
    }
}

/// The version that node 1 keeps.
const KEPT: u64 = 99;

fn moves(text: &str, history: &mut History, now: u64) -> String {
    let nodes: Vec<_> = text.split(',').map(|node| parse(node.trim())).collect();
    let now = Duration::from_secs(now);
    let planned = plan(&nodes, history, now, &Rules::default());
    planned.iter().for_each(|planned| history.note(planned, now));
    let shown = planned.iter().map(|one| format!("{} {}>{}", one.version.function, one.from, one.to));
    shown.collect::<Vec<_>>().join(", ")
}

fn check(text: &str, expected: &str) {
    assert_eq!(moves(text, &mut History::default(), 0), expected, "{text}");
}

#[test]
fn a_loaded_node_gives_to_an_idle_one() {
    check("1: 7=150 8=120 9=30, 2: 5=10", "8 1>2");
    check("1: 7=60 8=60 9=60, 2: 5=0, 3: 6=100", "9 1>2");
}

#[test]
fn what_is_not_clearly_busier_gives_nothing() {
    check("1: 7=40 8=40, 2: 5=0", "");
    check("1: 7=100 8=100, 2: 5=60", "");
}

#[test]
fn one_hot_version_is_not_moved_about_as_calls_spread_it() {
    check("1: 7=900, 2: 5=0", "");
}

#[test]
fn a_node_that_joined_gets_some() {
    check("1: 7=20 8=15, 2: 5=30 6=20, 3:", "6 2>3");
    check("1: 7=1, 2:", "");
}

#[test]
fn what_waits_weighs_more_than_what_runs() {
    check("1: 7=30 8=30 wait=1, 2: 5=10", "8 1>2, 7 1>2");
}

#[test]
fn a_node_that_takes_nothing_gets_nothing_and_one_that_has_it_already_neither() {
    check("1: 7=150 8=120, 2: full", "");
    check("1: 7=150, 2: 7=10", "");
    check("1: 7=150 8=120, 2: 8=5", "");
}

#[test]
fn a_version_runs_only_where_it_may() {
    let nodes = [parse("1: 7=150 8=120"), parse("2:"), parse("3: 4=10")];
    let moves = plan(&nodes, &mut History::default(), Duration::ZERO, &Rules { only: Some(NodeId(3)) });
    assert_eq!(moves.iter().map(|planned| planned.to).collect::<Vec<_>>(), [NodeId(3)]);
}

#[test]
fn what_a_node_keeps_ready_stays_there_however_loaded_it_is() {
    check("1: 99=150 8=120, 2: 5=10", "8 1>2");
    check("1: 99=150 98=150, 2:", "98 1>2");
    check("1: 99=300, 2: 5=10", "");
    // Where it is not kept it moves as any other.
    check("2: 99=120 8=150, 3:", "99 2>3");
}

#[test]
fn nodes_are_left_alone_after_a_move_and_versions_stay() {
    let mut history = History::default();
    assert_eq!(moves("1: 7=150 8=120, 2: 5=10", &mut history, 0), "8 1>2");
    // The same figures a moment later say nothing new.
    assert_eq!(moves("1: 7=150 8=120, 2: 5=10", &mut history, 2), "");
    // Whatever the figures say: it has just come, and for long it does not return.
    assert_eq!(moves("1: 7=0, 2: 8=300 5=10, 3: full", &mut history, 10), "5 2>1");
    assert_eq!(moves("1: 7=0, 2: 8=150 4=150", &mut history, 40), "4 2>1");
    assert_eq!(moves("1: 3=0, 2: 8=150 9=400", &mut history, 700), "8 2>1");
}

#[test]
fn who_leaves_goes_where_it_is_warm_or_to_the_least_busy_that_takes_it() {
    let to_only = |text: &str, only| {
        let nodes: Vec<_> = text.split(',').map(|node| parse(node.trim())).collect();
        refuge(version(7), &nodes, &Rules { only }).map(|node| node.0)
    };
    let to = |text: &str| to_only(text, None);
    assert_eq!(to("1: 5=90, 2: 7=300, 3:"), Some(2));
    assert_eq!(to("1: 5=90, 2: 7=300 full, 3: 4=10"), Some(3));
    assert_eq!(to("1: wait=2, 2: 5=200"), Some(2));
    assert_eq!(to_only("1: wait=2, 2: 5=200, 9:", Some(NodeId(2))), Some(2));
    assert_eq!(to_only("1: full, 9:", Some(NodeId(1))), None);
}

#[test]
fn the_moves_at_a_time_are_bounded() {
    let versions: String = (100..200).map(|id| format!("{id}=20 ")).collect();
    let nodes = format!("1: {versions}, 2:, 3:, 4:, 5:");
    assert_eq!(moves(&nodes, &mut History::default(), 0).split(", ").count(), NODE_MOVES_MAX);
    let many: Vec<_> =
        (0..20).map(|node| format!("{}: {}=90 {}=90 {}=90", node + 1, 3 * node, 3 * node + 1, 3 * node + 2)).collect();
    let idle: Vec<_> = (21..40).map(|node| format!("{node}:")).collect();
    let all = format!("{}, {}", many.join(", "), idle.join(", "));
    assert_eq!(moves(&all, &mut History::default(), 0).split(", ").count(), MOVES_MAX);
}

proptest! {
    /// Whatever is warm where, with load that does not change the plan comes to an end, and no version comes back to a
    /// node that it left; and what is left unbalanced no single move would mend.
    #[test]
    fn with_constant_load_the_moves_end_and_none_is_taken_back(
        weights in proptest::collection::vec(0_u32..400, 1..60),
        places in proptest::collection::vec(0_usize..6, 60),
        count in 2_usize..6,
    ) {
        let mut at: Vec<usize> = weights.iter().zip(&places).map(|(_, place)| place % count).collect();
        let mut been: Vec<BTreeSet<usize>> = at.iter().map(|place| BTreeSet::from([*place])).collect();
        let (mut history, mut made, mut quiet) = (History::default(), 0, 0);
        // Ten minutes of plans: within them nothing may return, and long before their end all must be quiet.
        for tick in 0..290 {
            let now = Duration::from_secs(2 * tick);
            let nodes: Vec<NodeView> = (0..count).map(|node| {
                let warm: Vec<_> = (0..weights.len()).filter(|id| at[*id] == node).map(|id| (version(id as u64), weights[id])).collect();
                let busy_percent = warm.iter().map(|(_, weight)| weight).sum();
                NodeView { node: NodeId(node as u64), takes_more: true, busy_percent, queued: 0, warm }
            }).collect();
            let planned = plan(&nodes, &mut history, now, &Rules::default());
            quiet = if planned.is_empty() { quiet + 1 } else { 0 };
            for one in &planned {
                history.note(one, now);
                let (id, to) = (one.version.function.0 as usize, one.to.0 as usize);
                prop_assert_eq!(at[id] as u64, one.from.0);
                prop_assert!(been[id].insert(to), "version {} comes back to {}", id, to);
                at[id] = to;
                made += 1;
            }
        }
        prop_assert!(made <= weights.len() * count, "{} moves", made);
        prop_assert!(quiet > 16, "still moving at the end, after {} moves", made);
    }
}
