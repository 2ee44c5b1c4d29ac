//! Moves of versions between nodes: ready there first, announced, then drained here.
//!
//! ```text
//! whoever moves            target                       source                      callers
//!   |-- Warm(version) ------> start, or find it live
//!   |                         digest to every peer: warm here ------------------------> rank
//!   |<------------------------ ready
//!   |-- Release(version, to) ----------------------------> off the table, held:
//!   |                                                       in flight: to their end
//!   |                                                       in line, new: `moved`, go to `to` -> target
//!   |<----------------------------------------------------- calls still running
//! ```
//! A move that breaks off half-way leaves the version live in two places, or in the old one: never in none. Repeating
//! it does no harm.

mod balance;
mod leave;

use std::time::Duration;

use skein_catalog::{Catalog, Propose};
use skein_proto::{ErrorCode, Failure, NodeId, VersionId, codec};
use skein_transport::Service;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    control::{ControlRequest, await_version},
    load, metrics,
};

pub(super) use self::{balance::balance, leave::evacuate};

/// For how long the old place sends calls on instead of starting the version again: some digests may get lost, and each
/// node has ranked by the one before for half a second.
const HOLD: Duration = Duration::from_secs(3);

/// One version's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) version: VersionId,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

/// What a move did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Calls that still run at the old place, to their end.
    pub(super) running: u32,
    /// Until it was ready there.
    pub(super) warm: Duration,
    /// Until it took no new calls here.
    pub(super) release: Duration,
}

/// Why something is moved, as metrics and the log say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// An operator asked for it.
    Asked,
    /// The node is clearly busier than another.
    Loaded,
    /// A node has joined that has nothing yet.
    Joined,
    /// The node is about to take no more calls.
    Leaving,
}

impl Why {
    /// The label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Loaded => "loaded",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
        }
    }
}

/// Moves a version, whichever nodes it concerns.
///
/// # Errors
/// `bad-request` or `unavailable` if it cannot be meant or the target takes nothing; why the target could not start it;
/// `conflict` if it was not live at the old place, and is now at the new one. No call has noticed anything.
pub(super) async fn carry_out(shared: &Shared, step: Move, why: Why, deadline: Instant) -> Result<Moved, Failure> {
    let began = Instant::now();
    let moved = attempt(shared, step, deadline).await;
    let (catalog, Move { version, from, to }) = (shared.consensus.catalog(), step);
    let (function, from, to) = (name(&catalog, version), node_name(&catalog, from), node_name(&catalog, to));
    let why = why.as_str();
    match &moved {
        Ok(moved) => {
            let (warm_ms, running) = (moved.warm.as_millis(), moved.running);
            tracing::info!(function, from, to, why, warm_ms, running, "version moved");
        }
        Err(failure) => tracing::warn!(function, from, to, why, %failure, "version not moved"),
    }
    metrics::moved(why, moved.as_ref().err().map(|failure| failure.code), began.elapsed());
    moved
}

async fn attempt(shared: &Shared, step: Move, deadline: Instant) -> Result<Moved, Failure> {
    let Move { version, from, to } = step;
    check(shared, step)?;
    let index = shared.consensus.catalog().version(version).map_or(0, |record| record.index);
    let began = Instant::now();
    if to == shared.transport.local() {
        warm_here(shared, version, index, deadline).await?;
    } else {
        ask(shared, to, &ControlRequest::Warm { version, index, is_guess: false }, deadline).await?;
    }
    let (warm, began) = (began.elapsed(), Instant::now());
    let running: Option<u32> = if from == shared.transport.local() {
        release_here(shared, version, to, HOLD).await
    } else {
        let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
        codec::decode(&ask(shared, from, &ControlRequest::Release { version, to, hold_ms }, deadline).await?)?
    };
    let Some(running) = running else {
        let catalog = shared.consensus.catalog();
        let (function, from, to) = (name(&catalog, version), node_name(&catalog, from), node_name(&catalog, to));
        let message = format!("{function} is not live at {from}, so there was nothing to move; it is warm at {to} now");
        return Err(Failure::executed(ErrorCode::Conflict, message));
    };
    Ok(Moved { running, warm, release: began.elapsed() })
}

fn check(shared: &Shared, step: Move) -> Result<(), Failure> {
    let (catalog, view) = (shared.consensus.catalog(), shared.membership.view());
    let to = node_name(&catalog, step.to);
    if step.from == step.to {
        let message = format!("a version cannot move from {to} to {to}");
        return Err(Failure::not_executed(ErrorCode::BadRequest, message));
    }
    let is_here = step.to == shared.transport.local();
    let is_draining = catalog.member(step.to).is_some_and(|member| member.is_draining)
        || view.peers.get(&step.to).is_some_and(|peer| peer.load.is_draining);
    if is_draining || !(is_here || view.is_alive(step.to)) {
        let message = format!("{to} takes no versions: it is {}", if is_draining { "draining" } else { "down" });
        return Err(Failure::not_executed(ErrorCode::Unavailable, message));
    }
    let app = catalog.version(step.version).map(|record| record.manifest.app.clone());
    if let Some(app) = app.filter(|app| !catalog.may_run(app, step.to)) {
        let binding = catalog.binding(&app).map(ToString::to_string).unwrap_or_default();
        let message = format!("{to} takes no versions of app {app}: it is bound to {binding}; see `skein app bind`");
        return Err(Failure::not_executed(ErrorCode::Conflict, message));
    }
    Ok(())
}

/// Asks a node for something, and gives its answer.
pub(super) async fn ask(
    shared: &Shared,
    node: NodeId,
    request: &ControlRequest,
    deadline: Instant,
) -> Result<bytes::Bytes, Failure> {
    shared.transport.call(node, Service::Control, codec::encode(request)?, deadline).await
}

/// Has a node make ready elsewhere what is in use there.
///
/// # Errors
/// The node does not answer.
pub(super) async fn evacuate_node(shared: &Shared, node: NodeId, deadline: Instant) -> Result<(), Failure> {
    if node == shared.transport.local() {
        evacuate(shared, deadline).await;
        return Ok(());
    }
    if !shared.membership.view().is_alive(node) {
        return Err(Failure::not_executed(ErrorCode::Unreachable, format!("node {node} is down")));
    }
    ask(shared, node, &ControlRequest::Evacuate, deadline).await.map(drop)
}

/// Makes a version, published at `index`, ready on this node and tells the peers.
pub(super) async fn warm_here(
    shared: &Shared,
    version: VersionId,
    index: u64,
    deadline: Instant,
) -> Result<(), Failure> {
    await_version(shared, version, index, deadline).await?;
    shared.runtime.warm(version, deadline).await?;
    load::announce(shared);
    Ok(())
}

/// Has this node's calls of a version go to `to`, and tells the peers.
pub(super) async fn release_here(shared: &Shared, version: VersionId, to: NodeId, hold: Duration) -> Option<u32> {
    let released = shared.runtime.release(version, to, hold).await;
    if released.is_some() {
        load::announce(shared);
    }
    released
}

/// Has versions that moved to a node that is gone run here again, as soon as that is known.
pub(super) async fn forget_moves_to_dead(shared: Shared, stop: CancellationToken) {
    let mut view = shared.membership.watch();
    loop {
        let now = view.borrow_and_update().clone();
        shared.runtime.forget_moves(|node| !now.is_alive(node));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// `app/name@number`, for people.
fn name(catalog: &Catalog, version: VersionId) -> String {
    let record = catalog.version(version);
    record.map_or_else(
        || version.to_string(),
        |record| format!("{}/{}@{}", record.manifest.app, record.manifest.name, record.number),
    )
}

fn node_name(catalog: &Catalog, node: NodeId) -> String {
    catalog.member(node).map_or_else(|| format!("node {node}"), |member| member.name.to_string())
}
