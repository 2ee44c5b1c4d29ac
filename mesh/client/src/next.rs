//! What may follow a failed attempt. Pure.

use skein_proto::{ErrorCode, Failure, Progress};

/// What may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the caller gets the failure.
    GiveUp,
    /// Another node at once. The one that was asked has not taken the call, or is gone: no load is added.
    Elsewhere,
    /// Another node, after the time that the failure names and if the budget allows it: the mesh has tried already.
    Later,
    /// The same, but only if there is a node that was not tried: the one that was asked would say the same again.
    Another,
}

/// What may follow `failure`; `is_word` if a node said it, and this side did not make it of the node's silence.
pub(crate) fn next(failure: &Failure, is_idempotent: bool, is_word: bool) -> Next {
    let is_safe = match failure.progress {
        Progress::NotExecuted => true,
        Progress::MaybeExecuted => is_idempotent,
        Progress::Executed => false,
    };
    if !is_safe {
        return Next::GiveUp;
    }
    // These speak of the node that was asked, or of the way to it. What speaks of the call (no such function, no leave) is
    // the same from every node, and repeating it would only add to the load.
    match failure.code {
        ErrorCode::Unreachable | ErrorCode::PeerLost if !is_word => Next::Elsewhere,
        // The node has lost two nodes with the call, or one with a call of a version that ends nodes.
        ErrorCode::PeerLost if failure.progress == Progress::MaybeExecuted => Next::GiveUp,
        ErrorCode::Draining | ErrorCode::Untrusted | ErrorCode::ProtocolMismatch => Next::Elsewhere,
        ErrorCode::Unreachable
        | ErrorCode::PeerLost
        | ErrorCode::Unavailable
        | ErrorCode::Moved
        | ErrorCode::ArtifactUnavailable => Next::Later,
        // A node may be full, or what it knows of others old, while another has room.
        ErrorCode::Overloaded => Next::Another,
        _ => Next::GiveUp,
    }
}

/// What is known of the attempts so far.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    last: Option<Failure>,
    /// The furthest that any attempt came.
    progress: Option<Progress>,
    repeated: u32,
    was_stale: bool,
    /// A node was lost while it had the call, and had been heard before.
    has_lost_one: bool,
}

impl Settled {
    /// Of a call that is tried beside a node that may be lost.
    pub(crate) fn beside(has_lost_one: bool) -> Self {
        Self { has_lost_one, ..Self::default() }
    }

    /// Whether a node was lost while it had the call, and had been heard before.
    pub(crate) fn has_lost_one(&self) -> bool {
        self.has_lost_one
    }

    /// Counts a node that was lost with the call; whether the call may be what ends them, so that no other may have it.
    pub(crate) fn lose(&mut self) -> bool {
        std::mem::replace(&mut self.has_lost_one, true)
    }

    /// Notes that a node was not given the call. What a node said is worth more.
    pub(crate) fn pass_over(&mut self, failure: Failure) {
        self.last.get_or_insert(failure);
    }

    pub(crate) fn note(&mut self, failure: Failure) {
        let progress = self.progress.unwrap_or(Progress::NotExecuted);
        self.progress = Some(furthest(progress, failure.progress));
        self.last = Some(failure);
    }

    /// Whether the call may be repeated after a node's word, and counts it.
    pub(crate) fn may_repeat(&mut self) -> bool {
        self.repeated += 1;
        self.repeated < ATTEMPTS_MAX
    }

    /// Whether a lost connection may only have been stale: once in a call.
    pub(crate) fn may_be_stale(&mut self) -> bool {
        !std::mem::replace(&mut self.was_stale, true)
    }

    /// The failure of a call that ended with this one.
    pub(crate) fn end_with(mut self, failure: Failure) -> Failure {
        self.note(failure);
        self.exhausted()
    }

    /// The failure of a call that no further node can be reached for. What a node said is worth more.
    pub(crate) fn end(self, unreached: Failure) -> Failure {
        match self.last {
            Some(_) => self.exhausted(),
            None => unreached,
        }
    }

    /// The failure of a call that is not tried any further: the last one, as uncertain as the worst.
    pub(crate) fn exhausted(self) -> Failure {
        let progress = self.progress.unwrap_or(Progress::NotExecuted);
        let late = || Failure::not_executed(ErrorCode::DeadlineExceeded, "the deadline passed before the call left");
        let last = self.last.unwrap_or_else(late);
        Failure { progress: furthest(progress, last.progress), ..last }
    }
}

/// Whether a node was lost while it had the call.
pub(crate) fn is_lost_with_it(failure: &Failure) -> bool {
    failure.code == ErrorCode::PeerLost && failure.progress == Progress::MaybeExecuted
}

/// What is known of several attempts: if one may have run, the call may have.
pub(crate) fn furthest(one: Progress, other: Progress) -> Progress {
    match (one, other) {
        (Progress::Executed, _) | (_, Progress::Executed) => Progress::Executed,
        (Progress::MaybeExecuted, _) | (_, Progress::MaybeExecuted) => Progress::MaybeExecuted,
        (Progress::NotExecuted, Progress::NotExecuted) => Progress::NotExecuted,
    }
}

/// Most attempts of a call that nodes answered: a node has tried three others itself before it says `unavailable`.
const ATTEMPTS_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, expected: [Next; 2]) {
        let found = [false, true].map(|is_idempotent| next(&failure, is_idempotent, true));
        assert_eq!(found, expected, "{failure:?}");
    }

    #[test]
    fn only_what_another_node_may_better_is_sent_to_another() {
        use ErrorCode::{Draining, FunctionNotFound, Overloaded, PeerLost, Unavailable, Unreachable};
        use Next::{Another, Elsewhere, GiveUp, Later};
        check(Draining.not_executed(), [Elsewhere, Elsewhere]);
        check(Unavailable.not_executed(), [Later, Later]);
        check(Unreachable.not_executed(), [Later, Later]);
        check(Failure::maybe_executed(PeerLost, ""), [GiveUp, GiveUp]);
        check(Failure::maybe_executed(Unavailable, ""), [GiveUp, Later]);
        check(Failure::executed(PeerLost, ""), [GiveUp, GiveUp]);
        check(FunctionNotFound.not_executed(), [GiveUp, GiveUp]);
        check(Overloaded.not_executed(), [Another, Another]);
        check(Failure::maybe_executed(Overloaded, ""), [GiveUp, Another]);
        check(Failure::executed(Overloaded, ""), [GiveUp, GiveUp]);
        assert_eq!(next(&Unreachable.not_executed(), false, false), Elsewhere);
        assert_eq!(next(&Failure::maybe_executed(PeerLost, ""), true, false), Elsewhere);
        assert_eq!(next(&Failure::maybe_executed(PeerLost, ""), false, false), GiveUp);
    }

    trait NotExecuted {
        fn not_executed(self) -> Failure;
    }

    impl NotExecuted for ErrorCode {
        fn not_executed(self) -> Failure {
            Failure::not_executed(self, "")
        }
    }

    #[test]
    fn the_outcome_of_several_attempts_is_as_uncertain_as_the_worst() {
        use Progress::{Executed, MaybeExecuted, NotExecuted};
        assert_eq!(furthest(NotExecuted, NotExecuted), NotExecuted);
        assert_eq!(furthest(MaybeExecuted, NotExecuted), MaybeExecuted);
        assert_eq!(furthest(NotExecuted, Executed), Executed);
        let mut settled = Settled::default();
        settled.note(Failure::maybe_executed(ErrorCode::PeerLost, "lost"));
        settled.note(Failure::not_executed(ErrorCode::Draining, "leaving"));
        let end = settled.exhausted();
        assert_eq!((end.code, end.progress), (ErrorCode::Draining, MaybeExecuted));
    }
}
