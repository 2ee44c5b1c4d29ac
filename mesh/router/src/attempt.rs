//! One attempt at a peer, and what its failure allows.

use std::{sync::Arc, time::Duration};

use skein_membership::View;
use skein_proto::{ErrorCode, Failure, Invocation, NodeId, Progress, Reply, VersionId, codec};
use skein_transport::{Service, Transport};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::wire::Attempt;

/// What may follow a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the caller gets the failure.
    GiveUp,
    /// Another node.
    Another,
    /// Another node, but once only: where two nodes send the call on, the catalogue is changing under it.
    Redirect,
    /// The node that the failure names: the version has moved there.
    There,
    /// Another node, if it has room.
    Roomier,
    /// Another node, if it has memory, however busy its processor is.
    MoreMemory,
}

/// What may follow `failure`. Only what did not run may be repeated, or what may have run if that does no harm; and
/// only when another node can do better: a failure of the function, or of the request, is the same everywhere.
pub(crate) fn next(failure: &Failure, is_repeatable: bool) -> Next {
    match failure.progress {
        Progress::NotExecuted => {}
        Progress::MaybeExecuted if is_repeatable => {}
        Progress::MaybeExecuted | Progress::Executed => return Next::GiveUp,
    }
    match failure.code {
        ErrorCode::Overloaded if failure.lacks_memory => Next::MoreMemory,
        ErrorCode::Overloaded => Next::Roomier,
        ErrorCode::Moved => Next::Redirect,
        ErrorCode::Unavailable
        | ErrorCode::Draining
        | ErrorCode::ArtifactUnavailable
        | ErrorCode::NoQuorum
        | ErrorCode::Unreachable
        | ErrorCode::PeerLost
        | ErrorCode::Untrusted
        | ErrorCode::ProtocolMismatch
        | ErrorCode::Malformed
        | ErrorCode::CorruptStore
        | ErrorCode::DiskFull
        | ErrorCode::Internal => Next::Another,
        _ => Next::GiveUp,
    }
}

/// Whether a node turned the call away before it used anything of it: another attempt then adds no load to the mesh, so
/// that a drain or a re-binding under full load does not use up the retry budget.
pub(crate) fn is_refusal_at_the_door(failure: &Failure) -> bool {
    failure.progress == Progress::NotExecuted && matches!(failure.code, ErrorCode::Moved | ErrorCode::Draining)
}

/// Has `peer` run the version. Gives up when the mesh gives the peer up, not only at the deadline.
///
/// # Errors
/// What the peer's runtime said; what the transport said; `peer-lost` when the peer went down meanwhile.
pub(crate) async fn at_peer(
    peer: NodeId,
    transport: &dyn Transport,
    view: watch::Receiver<Arc<View>>,
    invocation: &Invocation,
    (version, index_min): (VersionId, u64),
) -> Result<Reply, Failure> {
    let body = codec::encode(&Attempt::new(invocation, version, index_min))?;
    let call = transport.call(peer, Service::Invoke, body, invocation.deadline);
    tokio::pin!(call);
    let answer = tokio::select! {
        biased;
        answer = &mut call => answer,
        () = is_down(peer, view) => {
            // The network cuts what leads to a node that is down, and knows best whether the call had left.
            let last_word = invocation.deadline.min(Instant::now() + LAST_WORD_MAX);
            timeout_at(last_word, call).await.unwrap_or_else(|_| {
                let message = format!("node {peer} went down while it had the call");
                Err(Failure::maybe_executed(ErrorCode::PeerLost, message))
            })
        }
    }?;
    codec::decode(&answer).map_err(|error| {
        // It answered, so it ran.
        Failure::executed(ErrorCode::Malformed, format!("the answer of node {peer} cannot be read: {error}"))
    })
}

/// How long the network may take to say what became of a call to a node that is down: what was being dialed is given up in
/// less.
const LAST_WORD_MAX: Duration = Duration::from_millis(1_600);

async fn is_down(peer: NodeId, mut view: watch::Receiver<Arc<View>>) {
    // An error means that membership has ended: nobody will say that the peer is down any more.
    if view.wait_for(|view| view.is_down(peer)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, plain: Next, idempotent: Next) {
        assert_eq!((next(&failure, false), next(&failure, true)), (plain, idempotent), "{failure:?}");
    }

    #[test]
    fn what_did_not_run_may_be_tried_elsewhere() {
        for code in [ErrorCode::Unreachable, ErrorCode::Draining, ErrorCode::ArtifactUnavailable, ErrorCode::Internal] {
            check(Failure::not_executed(code, ""), Next::Another, Next::Another);
        }
        check(Failure::not_executed(ErrorCode::Moved, ""), Next::Redirect, Next::Redirect);
        check(Failure::not_executed(ErrorCode::Overloaded, ""), Next::Roomier, Next::Roomier);
        let starved = Failure { lacks_memory: true, ..Failure::not_executed(ErrorCode::Overloaded, "") };
        check(starved, Next::MoreMemory, Next::MoreMemory);
    }

    #[test]
    fn what_may_have_run_is_repeated_only_if_idempotent() {
        check(Failure::maybe_executed(ErrorCode::PeerLost, ""), Next::GiveUp, Next::Another);
        check(Failure::maybe_executed(ErrorCode::Unreachable, ""), Next::GiveUp, Next::Another);
    }

    #[test]
    fn what_ran_is_never_repeated() {
        for code in
            [ErrorCode::FunctionFailed, ErrorCode::FunctionTrapped, ErrorCode::MemoryExceeded, ErrorCode::Internal]
        {
            check(Failure::executed(code, ""), Next::GiveUp, Next::GiveUp);
        }
    }

    #[test]
    fn what_is_the_same_everywhere_is_not_tried_elsewhere() {
        let codes = [
            ErrorCode::BadRequest,
            ErrorCode::VersionNotFound,
            ErrorCode::TooLarge,
            ErrorCode::BadModule,
            ErrorCode::DeadlineExceeded,
            ErrorCode::Cancelled,
            ErrorCode::FunctionFailed,
            ErrorCode::FunctionTrapped,
        ];
        for code in codes {
            check(Failure::not_executed(code, ""), Next::GiveUp, Next::GiveUp);
            check(Failure::maybe_executed(code, ""), Next::GiveUp, Next::GiveUp);
        }
    }
}
