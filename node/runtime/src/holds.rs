//! Versions that have moved away from this node, for a while: who still calls them here is told where they went.
//!
//! Without a hold the first call that comes by an old view would start the version anew where it has just been stopped,
//! and the move would have been for nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use skein_proto::{ErrorCode, Failure, NodeId, VersionId};
use tokio::time::Instant;

/// Where versions went. Written by the supervisor, read by calls that find no activation.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    by_version: Mutex<HashMap<VersionId, Hold>>,
}

/// One version's new place, and until when its calls are sent there.
#[derive(Debug, Clone, Copy)]
struct Hold {
    to: NodeId,
    until: Instant,
}

impl Holds {
    /// Sends calls of `version` to `to` for so long. With too many holds it does not: a call then starts the version
    /// here again, which is a waste and not an error.
    pub(crate) fn hold(&self, version: VersionId, to: NodeId, time: Duration, now: Instant) {
        let mut holds = self.holds();
        if holds.len() >= HOLDS_MAX {
            holds.retain(|_, hold| hold.until > now);
        }
        if holds.len() < HOLDS_MAX {
            holds.insert(version, Hold { to, until: now + time.min(HOLD_MAX) });
        }
    }

    /// From now on `version` may run here again.
    pub(crate) fn lift(&self, version: VersionId) {
        self.holds().remove(&version);
    }

    /// The same for each version that went to a node of which `is_gone` is true.
    pub(crate) fn lift_to(&self, is_gone: impl Fn(NodeId) -> bool) {
        self.holds().retain(|_, hold| !is_gone(hold.to));
    }

    /// Forgets what is over.
    pub(crate) fn trim(&self, now: Instant) {
        self.holds().retain(|_, hold| hold.until > now);
    }

    /// Where `version` went, if its calls are still sent there.
    pub(crate) fn find(&self, version: VersionId, now: Instant) -> Option<NodeId> {
        self.holds().get(&version).filter(|hold| hold.until > now).map(|hold| hold.to)
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<VersionId, Hold>> {
        // Nothing panics under the lock.
        self.by_version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a call of a version that went to `to`.
pub(crate) fn moved(version: VersionId, to: NodeId) -> Failure {
    let message = format!("version {} of function {} has moved to node {to}", version.number, version.function);
    Failure { moved_to: Some(to), ..Failure::not_executed(ErrorCode::Moved, message) }
}

/// A minute of moves at sixty a second, far more than a mesh makes by itself.
const HOLDS_MAX: usize = 4_096;

/// Longest hold, whatever a peer asks for: after it the version may run wherever its callers are.
const HOLD_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use skein_proto::FunctionId;

    use super::*;

    fn version(number: u64) -> VersionId {
        VersionId { function: FunctionId(1), number }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_by_itself_by_a_return_and_with_its_target() {
        let (holds, now) = (Holds::default(), Instant::now());
        for number in 1..=3 {
            holds.hold(version(number), NodeId(number), Duration::from_secs(3), now);
        }
        assert_eq!(holds.find(version(1), now), Some(NodeId(1)));
        holds.lift(version(1));
        assert_eq!(holds.find(version(1), now), None);
        holds.lift_to(|node| node == NodeId(2));
        assert_eq!(holds.find(version(2), now), None);
        assert_eq!(holds.find(version(3), now + Duration::from_secs(2)), Some(NodeId(3)));
        assert_eq!(holds.find(version(3), now + Duration::from_secs(3)), None);
        holds.trim(now + Duration::from_secs(3));
        assert!(holds.holds().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_and_length_are_bounded() {
        let (holds, now) = (Holds::default(), Instant::now());
        for number in 0..=HOLDS_MAX as u64 {
            holds.hold(version(number), NodeId(1), Duration::from_secs(9_999), now);
        }
        assert_eq!(holds.holds().len(), HOLDS_MAX);
        assert_eq!(holds.find(version(0), now + HOLD_MAX), None);
        holds.hold(version(9), NodeId(1), HOLD_MAX, now + HOLD_MAX);
        assert_eq!(holds.holds().len(), 1, "those that are over make room");
    }
}
