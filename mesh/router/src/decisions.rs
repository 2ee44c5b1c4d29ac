//! What became of the recent calls of this node: where each could have gone, where it went, and where its time went.
//!
//! One entry for each call, kept until [`KEPT`] others have come. A call moves what it has anyway into the ring; nothing
//! is rendered, copied or allocated for it before somebody asks.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use skein_placement::Ranked;
use skein_proto::{ErrorCode, Failure, Invocation, InvocationId, NodeId, Progress, Reply, Start, Usage, VersionId};
use tokio::time::Instant;

/// Decisions kept on a node: some 2 MiB. At a thousand calls a second, four seconds; enough to ask about a call that was
/// odd just now, which is what there is no metric for.
pub const KEPT: usize = 4_096;
/// Most candidates kept of a decision, the best: a mesh of a thousand nodes must not fill the memory with them.
const CANDIDATES_MAX: usize = 32;

/// What a router decided about one call, and what came of it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The call.
    pub invocation: InvocationId,
    /// The call whose function made it; none for one from outside.
    pub caller: Option<InvocationId>,
    /// How many functions called one another to get here.
    pub depth: u8,
    /// What was called; none if the name meant nothing.
    pub version: Option<VersionId>,
    /// When it came.
    pub began: Instant,
    /// Time to resolve the name and rank the nodes, after a redirect too.
    pub routed: Duration,
    /// The nodes as they were ranked last: the best of them, best first.
    pub ranked: Vec<Ranked>,
    /// How many nodes were ranked.
    pub candidates: usize,
    /// How often the nodes were ranked: more than once after a redirect by a catalogue that was newer than this node's.
    pub rankings: u32,
    /// The attempts that failed, in order.
    pub failed: Vec<FailedAttempt>,
    /// How it ended.
    pub end: End,
    /// How long it took in all.
    pub took: Duration,
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// Where.
    pub node: NodeId,
    /// When it began, after the call came.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
    /// What kind of failure.
    pub code: ErrorCode,
    /// How far it got.
    pub progress: Progress,
    /// What happened.
    pub message: String,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub enum End {
    /// With a reply.
    Replied {
        /// Where it ran.
        node: NodeId,
        /// When the attempt that went well began, after the call came.
        after: Duration,
        /// How long that attempt took.
        took: Duration,
        /// What it found there.
        start: Start,
        /// What it used.
        usage: Usage,
    },
    /// With a failure.
    Failed {
        /// What kind of failure.
        code: ErrorCode,
        /// How far it got.
        progress: Progress,
        /// What happened.
        message: String,
    },
    /// Its caller went away.
    Abandoned,
}

/// A decision in the making; kept when it is dropped, so that a call whose caller goes away is explained too.
pub(crate) struct Recording<'a> {
    ring: &'a Ring,
    /// None once it is kept.
    decision: Option<Decision>,
}

/// The last decisions.
pub(crate) struct Ring {
    slots: Box<[Mutex<Option<Decision>>]>,
    next: AtomicUsize,
}

impl Ring {
    pub(crate) fn new(kept: usize) -> Self {
        Self { slots: (0..kept.max(1)).map(|_| Mutex::default()).collect(), next: AtomicUsize::new(0) }
    }

    pub(crate) fn begin(&self, invocation: &Invocation, now: Instant) -> Recording<'_> {
        let decision = Decision {
            invocation: invocation.id,
            caller: invocation.caller,
            depth: invocation.depth,
            version: None,
            began: now,
            routed: Duration::ZERO,
            ranked: Vec::new(),
            candidates: 0,
            rankings: 0,
            failed: Vec::new(),
            end: End::Abandoned,
            took: Duration::ZERO,
        };
        Recording { ring: self, decision: Some(decision) }
    }

    fn keep(&self, decision: Decision) {
        let slot = self.next.fetch_add(1, Relaxed) % self.slots.len();
        let before = lock(&self.slots[slot]).replace(decision);
        // Freed without the lock.
        drop(before);
    }

    /// The decision about a call, if it is still kept. The newest, should an id have come twice.
    pub(crate) fn find(&self, invocation: InvocationId) -> Option<Decision> {
        self.newest(|decision| decision.invocation == invocation, 1).pop()
    }

    /// The calls that the function of `caller` made from this node, the newest first; at most `most`.
    pub(crate) fn made_by(&self, caller: InvocationId, most: usize) -> Vec<Decision> {
        self.newest(|decision| decision.caller == Some(caller), most)
    }

    /// When the oldest call came that is kept.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| lock(slot).as_ref().map(|decision| decision.began)).min()
    }

    fn newest(&self, is_wanted: impl Fn(&Decision) -> bool, most: usize) -> Vec<Decision> {
        let (next, kept) = (self.next.load(Relaxed), self.slots.len());
        let back = (1..=kept).map(|back| &self.slots[next.wrapping_sub(back) % kept]);
        back.filter_map(|slot| lock(slot).as_ref().filter(|decision| is_wanted(decision)).cloned()).take(most).collect()
    }
}

impl Recording<'_> {
    /// Notes what was called.
    pub(crate) fn resolved(&mut self, version: VersionId) {
        self.with(|decision| decision.version = Some(version));
    }

    /// Notes the order of the nodes, and the time it took to find it.
    pub(crate) fn ranked(&mut self, ranked: Vec<Ranked>, time: Duration) {
        self.with(|decision| {
            decision.candidates = ranked.len();
            decision.ranked = ranked;
            decision.rankings += 1;
            decision.routed += time;
        });
    }

    /// The order of the nodes, as noted last.
    pub(crate) fn ranking(&self) -> &[Ranked] {
        self.decision.as_ref().map_or(&[], |decision| &decision.ranked)
    }

    /// Notes an attempt that failed.
    pub(crate) fn failed(&mut self, node: NodeId, since: Instant, failure: &Failure) {
        let took = since.elapsed();
        self.with(|decision| {
            let after = since.saturating_duration_since(decision.began);
            let Failure { code, progress, message, .. } = failure.clone();
            decision.failed.push(FailedAttempt { node, after, took, code, progress, message });
        });
    }

    /// Notes the attempt that went well.
    pub(crate) fn replied(&mut self, since: Instant, reply: &Reply) {
        let took = since.elapsed();
        self.with(|decision| {
            let after = since.saturating_duration_since(decision.began);
            let Reply { node, start, usage, .. } = *reply;
            decision.end = End::Replied { node, after, took, start, usage };
        });
    }

    /// Notes the end of the call and keeps all of it.
    pub(crate) fn ended(mut self, outcome: &Result<Reply, Failure>) {
        if let Err(failure) = outcome {
            let (code, progress, message) = (failure.code, failure.progress, failure.message.clone());
            self.with(|decision| decision.end = End::Failed { code, progress, message });
        }
    }

    fn with(&mut self, note: impl FnOnce(&mut Decision)) {
        if let Some(decision) = &mut self.decision {
            note(decision);
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if let Some(mut decision) = self.decision.take() {
            decision.took = decision.began.elapsed();
            if decision.ranked.len() > CANDIDATES_MAX {
                decision.ranked.truncate(CANDIDATES_MAX);
                decision.ranked.shrink_to_fit();
            }
            self.ring.keep(decision);
        }
    }
}

fn lock(slot: &Mutex<Option<Decision>>) -> MutexGuard<'_, Option<Decision>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
