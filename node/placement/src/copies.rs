//! Which artifacts have too few copies, and who is to make more. Pure: a survey in, shortages out.
//!
//! ```text
//! Members --> Survey (what each that answers has) --> shortages, with the keepers that count --> copies to make
//!                                                 `-> unsecured, when one is about to go ------> copies to make first
//! ```
//! Whoever asks the members and has copies made (the leader's duty, a drain, a removal) does as this says; a copy that is
//! made twice does no harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use skein_proto::{Digest, NodeId};

#[cfg(test)]
mod tests;

/// On how many members the code of a version lies, where there are as many. With three, two may be lost at once.
pub const COPIES: usize = 3;

/// On how many nodes at least an artifact is durable before its version exists, where as many are alive: with two, the
/// loss of one loses nothing, and the rest of [`COPIES`] is made by a duty of the leader.
pub const COPIES_LEAST: usize = 2;

/// How many of the `peers` other nodes that are alive a publish asks to keep the code, beside its own: 0 to [`COPIES`]` - 1`.
pub fn others_wanted(peers: usize) -> usize {
    (COPIES - 1).min(peers)
}

/// How many of the `peers` other nodes that are alive must keep the code before its version is made: 0 to
/// [`COPIES_LEAST`]` - 1`.
pub fn others_least(peers: usize) -> usize {
    (COPIES_LEAST - 1).min(peers)
}

/// Puts those that are asked to keep an artifact into its own order: each artifact begins at another member, so that one
/// does not get them all.
pub fn spread(digest: Digest, nodes: &mut [NodeId]) {
    if !nodes.is_empty() {
        let first = usize::from(digest.as_bytes()[0]) % nodes.len();
        nodes.rotate_left(first);
    }
}

/// A member as far as copies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub node: NodeId,
    /// Whether it is alive, as far as the one who asks knows; true of that one itself.
    pub is_alive: bool,
    /// Whether it is to leave, by the catalogue.
    pub is_draining: bool,
}

/// The members by what their copies are worth. Each is in one of the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that answer and stay.
    pub staying: BTreeSet<NodeId>,
    /// Those that answer and are about to leave: they give what they have, and it does not count.
    pub leaving: BTreeSet<NodeId>,
    /// Those that do not answer.
    pub down: BTreeSet<NodeId>,
}

impl Members {
    /// Each member in its set.
    pub fn sorted(members: impl IntoIterator<Item = Member>) -> Self {
        let mut sorted = Self::default();
        for member in members {
            let group = match member {
                Member { is_alive: false, .. } => &mut sorted.down,
                Member { is_draining: true, .. } => &mut sorted.leaving,
                _ => &mut sorted.staying,
            };
            group.insert(member.node);
        }
        sorted
    }

    /// The same when `node` is to leave, too.
    #[must_use]
    pub fn without(mut self, node: NodeId) -> Self {
        if self.staying.remove(&node) {
            self.leaving.insert(node);
        }
        self
    }

    /// Those that can be asked what they have.
    pub fn answering(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.staying.iter().chain(&self.leaving).copied()
    }
}

/// Since when members have been down, or have not said what they have, as one node saw it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Away(BTreeMap<NodeId, Duration>);

impl Away {
    /// Notes who is away now. `now` is the time since any moment that stays the same.
    pub fn note(&mut self, away: &BTreeSet<NodeId>, now: Duration) {
        self.0.retain(|node, _| away.contains(node));
        for node in away {
            self.0.entry(*node).or_insert(now);
        }
    }

    /// How many have been away for less than `away_max`, and so will probably be back with what they have.
    pub fn briefly(&self, now: Duration, away_max: Duration) -> usize {
        self.0.values().filter(|since| now.saturating_sub(**since) < away_max).count()
    }
}

/// What members said that they have.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The artifacts that versions need, each once.
    pub digests: Vec<Digest>,
    /// For each member that answered, whether it has each of them, in their order. One whose answer is too short has
    /// not the rest.
    pub has: BTreeMap<NodeId, Vec<bool>>,
}

impl Survey {
    /// Those of these nodes that did not answer.
    pub fn silent<'a>(&'a self, nodes: &'a BTreeSet<NodeId>) -> impl Iterator<Item = NodeId> + 'a {
        nodes.iter().copied().filter(|node| !self.has.contains_key(node))
    }
}

/// The members whose copies count.
#[derive(Debug, Clone)]
pub struct Keepers {
    /// Those that stay.
    pub nodes: BTreeSet<NodeId>,
    /// How many more are away for a moment and will be back with what they have ([`Away::briefly`]).
    pub expected: usize,
}

/// An artifact with too few copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Which.
    pub digest: Digest,
    /// Who answered and has it, also of those that leave. Empty: it cannot be copied.
    pub holders: Vec<NodeId>,
    /// How many more are to have it, 1 at least. There may be fewer targets.
    pub missing: usize,
    /// Who can take it, in the order to try.
    pub targets: Vec<NodeId>,
}

/// The artifacts that fewer than `copies` keepers have, or fewer than all where there are fewer. A keeper that did not answer
/// is none: it can be given nothing now, and is expected back at best.
pub fn shortages(survey: &Survey, keepers: &Keepers, copies: usize) -> Vec<Shortage> {
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
pub fn unsecured(survey: &Survey, staying: &BTreeSet<NodeId>, node: NodeId, copies: usize) -> Vec<Shortage> {
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
        spread(*digest, &mut targets);
        short.push(Shortage { digest: *digest, holders, missing: wanted - have, targets });
    }
    short
}
