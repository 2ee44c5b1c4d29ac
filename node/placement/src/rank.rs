//! Where a call should run: candidates with their load in, the nodes in order out. Pure.
//!
//! Room is a place for the call, processor time and memory. Warm nodes with room come first, then cold ones with room, then slow ones, then those that would queue it, last those
//! that may not answer: a node is put behind others for what is wrong with it, and is never taken off the list for it,
//! so that the last one is tried whatever is thought of it. Among equals "here" comes first, since a hop costs more than
//! a somewhat busier machine; otherwise the less loaded of two picked at random. Two random choices are nearly as good
//! as knowing the least loaded node (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001) and do
//! not send everybody to the same one while the figures are half a second old.
//!
//! A version that is warm nowhere as far as is known, while this node is short of memory, goes to its [home](crate::home)
//! instead: starting it wherever it happens to be called would have every node hold a copy of it.

use rand::{Rng, seq::SliceRandom};
use skein_proto::{NodeId, VersionId};

use crate::home;

/// A node that might run the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// It is the one that has the call.
    pub is_here: bool,
    /// The version is warm there.
    pub is_warm: bool,
    /// It turned away a call of this version a moment ago, for want of a place: newer than its other figures.
    pub has_refused: bool,
    /// It turned away a call of whatever version a moment ago, for want of memory.
    pub is_starved: bool,
    /// Whether it may and can take calls.
    pub standing: Standing,
    /// Calls running there.
    pub in_flight: u32,
    /// Calls waiting there.
    pub line: Line,
    /// CPU in use there, in thousandths.
    pub cpu_permille: u16,
    /// Memory in use there.
    pub memory_mib: u32,
    /// Memory it may use; 0 if it did not say.
    pub memory_budget_mib: u32,
}

/// Calls that wait for a permit somewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// How many.
    pub queued: u32,
    /// How long the one has waited that has waited longest, in milliseconds.
    pub age_ms: u32,
}

/// Whether a node may and can take calls. The first that applies, from the bottom, is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It has answered slowly of late.
    Slow,
    /// It is silent, or has just failed: only when nobody else can.
    Doubtful,
    /// It takes no new calls.
    Draining,
    /// The function's app is bound to other nodes.
    Unbound,
    /// It is gone.
    Dead,
}

/// What kind of place a node is for the call. The better ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The version is warm there, and there is room.
    Warm,
    /// There is room, and the version would have to start.
    Cold,
    /// There is room, and it has answered slowly of late.
    Slow,
    /// The call would wait there, or make others wait.
    Full,
    /// It may not answer.
    Doubtful,
    /// It is not tried: see its [`Standing`].
    Out,
}

/// What gave a node its place within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing in particular: behind others, in the order of the dice and the load.
    InLine,
    /// It is the only one of the best group.
    Only,
    /// It is here, and no other is clearly less busy.
    Here,
    /// The less loaded of two picked at random.
    LessLoaded,
    /// It is the version's home, and this node is short of memory.
    Home,
    /// It comes after the version's home, which carries more than its share.
    NextHome,
    /// It is cold, and the warm ones are clearly busier.
    Spread,
}

/// A candidate with its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The candidate.
    pub candidate: Candidate,
    /// What kind of place it is.
    pub group: Group,
    /// Why it has its place there.
    pub reason: Reason,
    /// Whether a call would run there at once, as far as calls run at once anywhere.
    pub has_room: bool,
    /// Whether it has memory to begin a call with, whatever else it has.
    pub has_memory: bool,
    /// How near the version is to it, if that was asked; see [`crate::home`].
    pub(crate) nearness: f64,
}

/// Above this a machine has no room, in thousandths of its CPU: what comes now makes all its calls slower.
const CPU_PERMILLE_ROOM: u16 = 900;
/// If all machines are above that, those have room that are not clearly above the least busy: by more than a figure that
/// is half a second old differs by chance. Else none of them would be preferred for being warm, near or quick.
const CPU_PERMILLE_ALIKE: u16 = 50;
/// Above this part of its budget a node begins nothing, in thousandths: fourteen sixteenths (docs/memory.md).
const MEMORY_PERMILLE_ROOM: u32 = 875;
/// One call that waits says more than one that runs.
const QUEUED_WEIGHT: u64 = 4;
/// How many wait does not say for how long: ten calls of 2 ms are gone sooner than one of a minute. So much age of a line
/// counts like a call that runs: of two lines of the same length the quicker one is taken.
const AGE_MS_PER_CALL: u64 = 10;
/// "Clearly busier" is twice as busy and this many calls more: below, the difference is within the noise of figures
/// that are half a second old, and costs less than a hop or a cold start.
const SLACK: u64 = 8;
/// Above this a node is short of memory, in thousandths of its budget: what starts there soon drives something else out.
const MEMORY_PERMILLE_SHORT: u32 = 700;

impl Candidate {
    fn group(&self, has_room: bool) -> Group {
        match self.standing {
            Standing::Draining | Standing::Unbound | Standing::Dead => Group::Out,
            Standing::Doubtful => Group::Doubtful,
            _ if !has_room => Group::Full,
            Standing::Slow => Group::Slow,
            Standing::Good if self.is_warm => Group::Warm,
            Standing::Good => Group::Cold,
        }
    }

    /// How busy it is: what candidates are compared by.
    pub fn pressure(&self) -> u64 {
        let Line { queued, age_ms } = self.line;
        u64::from(self.in_flight) + QUEUED_WEIGHT * u64::from(queued) + u64::from(age_ms) / AGE_MS_PER_CALL
    }

    /// Memory in use, in thousandths of its budget; none if it did not say its budget.
    pub fn memory_permille(&self) -> Option<u32> {
        self.memory_mib.saturating_mul(1_000).checked_div(self.memory_budget_mib)
    }

    fn has_memory(&self) -> bool {
        !self.is_starved && self.memory_permille().is_none_or(|used| used <= MEMORY_PERMILLE_ROOM)
    }

    fn is_short_of_memory(&self) -> bool {
        self.memory_permille().is_some_and(|used| used > MEMORY_PERMILLE_SHORT)
    }

    fn is_clearly_busier_than(&self, other: &Self) -> bool {
        self.pressure() > 2 * other.pressure() + SLACK
    }
}

impl Ranked {
    fn new(candidate: Candidate, cpu_permille_most: u16) -> Self {
        let has_memory = candidate.has_memory();
        let has_place = !candidate.has_refused && candidate.line.queued == 0;
        let has_room = has_place && has_memory && candidate.cpu_permille <= cpu_permille_most;
        let (group, reason) = (candidate.group(has_room), Reason::InLine);
        Self { candidate, group, reason, has_room, has_memory, nearness: 0.0 }
    }

    /// Those of a smaller place come before those of a greater one. Of the full ones those come last that would refuse
    /// the call for want of memory, instead of having it wait; and where all are full, a start would make it worse.
    fn place(&self) -> (Group, bool, bool) {
        let is_full = self.group == Group::Full;
        (self.group, is_full && !self.has_memory, is_full && !self.candidate.is_warm)
    }

    /// Whether it is tried at all.
    pub fn is_usable(&self) -> bool {
        self.group != Group::Out
    }
}

/// The nodes to try for a call of `version`, best first; behind them those that are not tried, for the record.
pub fn rank(version: VersionId, candidates: impl IntoIterator<Item = Candidate>, rng: &mut impl Rng) -> Vec<Ranked> {
    let candidates: Vec<Candidate> = candidates.into_iter().collect();
    let most = cpu_permille_most(&candidates);
    let mut ranked: Vec<Ranked> = candidates.into_iter().map(|one| Ranked::new(one, most)).collect();
    ranked.shuffle(rng);
    ranked.sort_by_key(Ranked::place);
    let usable = ranked.iter().position(|one| !one.is_usable()).unwrap_or(ranked.len());
    let is_warm_somewhere = ranked[..usable].iter().any(|one| one.candidate.is_warm);
    let is_short = is_short_of_memory(&ranked);
    for group in ranked[..usable].chunk_by_mut(|one, other| one.place() == other.place()) {
        if group[0].group == Group::Cold && !is_warm_somewhere && is_short {
            order_by_home(version, group);
        } else {
            order(group);
        }
    }
    spread(&mut ranked[..usable]);
    ranked
}

/// The CPU use up to which a machine has room.
fn cpu_permille_most(candidates: &[Candidate]) -> u16 {
    let answering = candidates.iter().filter(|one| matches!(one.standing, Standing::Good | Standing::Slow));
    let least = answering.map(|one| one.cpu_permille).min().unwrap_or(0);
    CPU_PERMILLE_ROOM.max(least.saturating_add(CPU_PERMILLE_ALIKE))
}

/// Whether what starts at the node that has the call would soon drive something else out; if the call may not run
/// there, whether it would so anywhere.
fn is_short_of_memory(ranked: &[Ranked]) -> bool {
    let is_cold = |one: &&Ranked| one.group == Group::Cold;
    match ranked.iter().find(|one| one.candidate.is_here).filter(is_cold) {
        Some(here) => here.candidate.is_short_of_memory(),
        None => ranked.iter().filter(is_cold).any(|one| one.candidate.is_short_of_memory()),
    }
}

/// Orders equals, given in random order: pairwise the less loaded first, then here in front of whomever it is not
/// clearly busier than.
fn order(group: &mut [Ranked]) {
    // After a shuffle the next two are a random two: the less loaded of them is the choice, the other stays in line.
    for next in 0..group.len().saturating_sub(1) {
        if group[next + 1].candidate.pressure() < group[next].candidate.pressure() {
            group.swap(next, next + 1);
        }
    }
    group[0].reason = if group.len() == 1 { Reason::Only } else { Reason::LessLoaded };
    let Some(here) = group.iter().position(|one| one.candidate.is_here) else { return };
    let this = group[here].candidate;
    let goes_to = group.iter().position(|one| one.candidate.is_here || !this.is_clearly_busier_than(&one.candidate));
    let goes_to = goes_to.unwrap_or(here);
    if goes_to < here {
        group[goes_to..=here].rotate_right(1);
    }
    if goes_to == 0 && group.len() > 1 {
        group[1].reason = Reason::InLine;
        group[0].reason = Reason::Here;
    }
}

/// Orders cold nodes by how near the version is to them; those that carry more than their share come after the others.
fn order_by_home(version: VersionId, group: &mut [Ranked]) {
    let total = group.iter().map(|one| one.candidate.pressure()).sum();
    let load_max = home::load_max(total, group.len(), SLACK);
    for one in group.iter_mut() {
        one.nearness = home::nearness(version, one.candidate.node, one.candidate.memory_budget_mib);
    }
    let is_over = |one: &Ranked| one.candidate.pressure() >= load_max;
    group.sort_by(|one, other| other.nearness.total_cmp(&one.nearness));
    let is_home_first = !is_over(&group[0]);
    group.sort_by_key(is_over);
    group[0].reason = if is_home_first || is_over(&group[0]) { Reason::Home } else { Reason::NextHome };
}

/// A warm node does not keep a version to itself while it is clearly busier than the best cold one: the first call
/// there makes that one warm.
fn spread(ranked: &mut [Ranked]) {
    let Some(group) = ranked.first().map(|best| best.group) else { return };
    let is_cold_like = |one: &Ranked| match group {
        Group::Warm => one.group == Group::Cold,
        group => one.group == group && !one.candidate.is_warm,
    };
    let Some(cold) = ranked.iter().position(is_cold_like) else { return };
    if cold > 0 && ranked[0].candidate.is_warm && ranked[0].candidate.is_clearly_busier_than(&ranked[cold].candidate) {
        ranked[..=cold].rotate_right(1);
        ranked[1].reason = Reason::InLine;
        ranked[0].reason = Reason::Spread;
    }
}

#[cfg(test)]
mod tests;
