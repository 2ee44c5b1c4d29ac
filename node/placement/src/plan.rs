//! Which versions should move to another node: the whole view in, a few moves out. Pure.
//!
//! The router already sends single calls to less loaded nodes; it does so by starting the version there as well. What is
//! left for moves is what calls alone do not do: many versions that happen to be warm on the same node stay there, each
//! of them called too little to be spread, all of them together too much for one node.
//!
//! A move must be worth it and must not be taken back:
//! - only from a node that is clearly busier than the target, and only a version that is not most of the difference, so
//!   that the busier of the two is less busy afterwards. Each move thus lowers the sum of the squares of the loads, of
//!   which there is only so much: with constant load the moves end;
//! - a version that has moved stays for a while, and returns only much later to a node that it left;
//! - a node that keeps a version ready (`scale.warm`) would start it again, so it is not moved off;
//! - a node that a move concerned is left alone until its figures can tell what that did.

use std::{collections::BTreeMap, time::Duration};

use skein_proto::{NodeId, VersionId};

/// One node as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Which.
    pub node: NodeId,
    /// True if it may be given versions: alive, not suspected, not draining, with memory to spare.
    pub takes_more: bool,
    /// Calls running there on average, in hundredths.
    pub busy_percent: u32,
    /// Calls waiting there.
    pub queued: u32,
    /// The versions that are warm there, and the calls of each that run on average, in hundredths.
    pub warm: Vec<(VersionId, u32)>,
}

/// One version that should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedMove {
    /// The version.
    pub version: VersionId,
    /// Where it is warm.
    pub from: NodeId,
    /// Where it should be.
    pub to: NodeId,
    /// Why.
    pub reason: MoveReason,
}

/// Where versions may be and are to be, which the loads do not say.
pub trait Places {
    /// Whether a node may run a version at all.
    fn may_run(&self, version: VersionId, node: NodeId) -> bool;
    /// Whether a node is to keep a version ready, whether anybody calls it or not.
    fn is_kept(&self, version: VersionId, node: NodeId) -> bool;
}

/// Why a version should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveReason {
    /// Its node is clearly busier than the other.
    Loaded,
    /// The other node has nothing at all: it has just joined.
    Joined,
}

/// What was moved lately, so that nothing moves to and fro. Time is whatever clock its owner counts, the same always.
#[derive(Debug, Default)]
pub struct History {
    /// When a version moved last.
    moved: BTreeMap<VersionId, Duration>,
    /// When a version left a node.
    left: BTreeMap<(VersionId, NodeId), Duration>,
    /// When a node gave or got something last.
    touched: BTreeMap<NodeId, Duration>,
}

/// Most moves at a time, of the whole mesh: a move costs its target a start.
pub const MOVES_MAX: usize = 8;
/// Most of them that one node gives or gets.
const NODE_MOVES_MAX: usize = 2;
/// How long a version stays where it went.
const STAY: Duration = Duration::from_secs(30);
/// How long it does not return to where it was.
const NO_RETURN: Duration = Duration::from_secs(600);
/// How long a node is left alone after a move: figures are averages of about two seconds, and up to one second old.
const SETTLE: Duration = Duration::from_secs(4);

/// Below this a node is not loaded, whatever the others do: one call that runs all the time.
const LOADED_PERCENT: u64 = 100;
/// The same where the other node has nothing to do at all, which a node has that just joined.
const WORTH_A_JOIN_PERCENT: u64 = 20;
/// "Clearly busier" is twice as busy and this much more.
const SLACK_PERCENT: u64 = 100;
/// A call that waits says as much as four that run, as in ranking.
const QUEUED_PERCENT: u64 = 400;
/// A version that is used less than this makes no difference.
const WORTH_MOVING_PERCENT: u64 = 2;

/// A node while the plan is made.
struct Sketch<'a> {
    view: &'a NodeView,
    load: u64,
    moves: usize,
}

impl History {
    /// Notes a move that was made, or is about to be.
    pub fn note(&mut self, planned: &PlannedMove, now: Duration) {
        self.moved.insert(planned.version, now);
        self.left.insert((planned.version, planned.from), now);
        self.touched.insert(planned.from, now);
        self.touched.insert(planned.to, now);
    }

    fn trim(&mut self, now: Duration) {
        self.moved.retain(|_, at| now.saturating_sub(*at) < STAY);
        self.left.retain(|_, at| now.saturating_sub(*at) < NO_RETURN);
        self.touched.retain(|_, at| now.saturating_sub(*at) < SETTLE);
    }

    fn may(&self, version: VersionId, to: NodeId) -> bool {
        !self.moved.contains_key(&version) && !self.left.contains_key(&(version, to))
    }
}

impl Sketch<'_> {
    fn gives(&self) -> bool {
        self.moves < NODE_MOVES_MAX
    }

    fn takes(&self) -> bool {
        self.view.takes_more && self.moves < NODE_MOVES_MAX
    }
}

/// The moves to make now, each of them worth it by itself and after those before it. Whoever carries them out tells
/// `history` of each.
pub fn plan(nodes: &[NodeView], history: &mut History, now: Duration, places: &impl Places) -> Vec<PlannedMove> {
    history.trim(now);
    let load = |node: &NodeView| u64::from(node.busy_percent) + QUEUED_PERCENT * u64::from(node.queued);
    let left_alone = |node: &NodeView| history.touched.contains_key(&node.node);
    let mut sketches: Vec<Sketch<'_>> =
        nodes.iter().filter(|node| !left_alone(node)).map(|view| Sketch { view, load: load(view), moves: 0 }).collect();
    let mut moves: Vec<PlannedMove> = Vec::new();
    while moves.len() < MOVES_MAX
        && let Some((from, to, version, weight)) = best(&sketches, history, &moves, places)
    {
        let (source, target) = (sketches[from].view.node, sketches[to].view.node);
        let is_joined = sketches[to].view.warm.is_empty();
        let reason = if is_joined { MoveReason::Joined } else { MoveReason::Loaded };
        moves.push(PlannedMove { version, from: source, to: target, reason });
        sketches[from].load = sketches[from].load.saturating_sub(weight);
        sketches[to].load += weight;
        sketches[from].moves += 1;
        sketches[to].moves += 1;
    }
    moves
}

/// The best move: from the busiest node that has one, to the least busy that takes it, of the version that evens the two
/// out most. As places in `nodes`, with what the version weighs.
fn best(
    nodes: &[Sketch<'_>],
    history: &History,
    planned: &[PlannedMove],
    places: &impl Places,
) -> Option<(usize, usize, VersionId, u64)> {
    let mut by_load: Vec<usize> = (0..nodes.len()).collect();
    by_load.sort_by_key(|at| (nodes[*at].load, nodes[*at].view.node));
    for from in by_load.iter().rev().copied().filter(|at| nodes[*at].gives()) {
        for to in by_load.iter().copied().filter(|at| *at != from && nodes[*at].takes()) {
            let (source, target) = (&nodes[from], &nodes[to]);
            if !is_worth_it(source.load, target.load, target.view.warm.is_empty()) {
                // The next ones are busier still.
                break;
            }
            let half = (source.load - target.load) / 2;
            let is_free = |version: VersionId| {
                history.may(version, target.view.node)
                    && places.may_run(version, target.view.node)
                    && !places.is_kept(version, source.view.node)
                    && !target.view.warm.iter().any(|(other, _)| *other == version)
                    && !planned.iter().any(|planned| planned.version == version)
            };
            let versions = source.view.warm.iter().map(|(version, weight)| (*version, u64::from(*weight)));
            let fitting = versions.filter(|(_, weight)| (WORTH_MOVING_PERCENT..=half).contains(weight));
            let chosen = fitting.filter(|(version, _)| is_free(*version)).max_by_key(|(id, weight)| (*weight, *id));
            if let Some((version, weight)) = chosen {
                return Some((from, to, version, weight));
            }
        }
    }
    None
}

/// Where a version of a node that leaves should be: where it is warm already, else on the least busy node that takes it.
pub fn refuge(version: VersionId, nodes: &[NodeView], places: &impl Places) -> Option<NodeId> {
    let taking = nodes.iter().filter(|node| node.takes_more && places.may_run(version, node.node));
    let is_cold = |node: &NodeView| !node.warm.iter().any(|(other, _)| *other == version);
    taking.min_by_key(|node| (is_cold(node), node.queued, node.busy_percent, node.node)).map(|node| node.node)
}

fn is_worth_it(source: u64, target: u64, is_empty: bool) -> bool {
    if is_empty && target == 0 {
        return source >= WORTH_A_JOIN_PERCENT;
    }
    source >= LOADED_PERCENT && source > 2 * target + SLACK_PERCENT
}

#[cfg(test)]
mod tests;
