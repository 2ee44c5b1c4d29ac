//! Makes ready what functions that start here will probably call, where the router would place it.
//!
//! The runtime says which versions those are. What is ready somewhere with room is left alone; what this node would start
//! is started here, and what another would, there: each node judges for itself whether it has something to spare.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use skein_catalog::Propose as _;
use skein_placement::Group;
use skein_proto::VersionId;
use skein_router::Router;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, control::ControlRequest, load, migrate};

/// Most versions that wait to be made ready. Those beyond are left to their calls, which come soon anyway.
const WAITING_MAX: usize = 64;
/// At a time. Here each takes milliseconds, and more of them would look like a busy node; a peer may be slow to answer.
const PARALLEL: usize = 2;
/// Longest that one may take; a call that comes meanwhile waits for the same start.
const DEADLINE: Duration = Duration::from_secs(2);

/// Begins to do what the runtime asks for, until told to stop.
pub(super) fn start(shared: &Shared, router: Arc<Router>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (wanted, wants) = mpsc::channel(WAITING_MAX);
    shared.runtime.foresee(move |version| {
        // With too many, this one is left to its call.
        let _ = wanted.try_send(version);
    });
    tasks.spawn(follow(shared.clone(), router, wants, stop.clone()));
}

async fn follow(shared: Shared, router: Arc<Router>, mut wants: mpsc::Receiver<VersionId>, stop: CancellationToken) {
    let wants = stream::poll_fn(|context| wants.poll_recv(context)).take_until(stop.cancelled());
    wants.for_each_concurrent(PARALLEL, |version| make_ready(&shared, &router, version)).await;
}

async fn make_ready(shared: &Shared, router: &Router, version: VersionId) {
    let Some(best) = router.place(version) else { return };
    if best.group != Group::Cold {
        return;
    }
    let (node, deadline) = (best.candidate.node, Instant::now() + DEADLINE);
    if node == shared.transport.local() {
        shared.runtime.prewarm(version, deadline).await;
        return;
    }
    let index = shared.consensus.catalog().version(version).map_or(0, |record| record.index);
    let request = ControlRequest::Warm { version, index, is_guess: true };
    if let Err(failure) = migrate::ask(shared, node, &request, deadline).await {
        tracing::debug!(%node, %version, %failure, "a version was not made ready ahead of its calls");
    }
}

/// Makes a version ready here because a peer expects it to be called, and tells the peers when it is.
pub(super) async fn guess_here(shared: &Shared, version: VersionId, deadline: Instant) {
    if shared.runtime.prewarm(version, deadline).await {
        load::announce(shared);
    }
}
