//! What a node does by itself: follows the members, obeys a drain, cleans up, tells its load.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use skein_catalog::{Catalog, Command, Propose, RequestId};
use skein_membership::PeerState;
use skein_proto::NodeId;
use skein_transport::{Address, Network};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Shared, boot, copies, load, migrate, places, quorum, warm};

/// Between two collections of artifacts that nothing refers to.
const COLLECT_PERIOD: Duration = Duration::from_secs(600);
/// How old an unreferenced artifact must be: a publish puts it first and refers to it after.
const COLLECT_AGE: Duration = Duration::from_secs(3600);
/// How long a collection waits to know that this node's catalogue is current.
const CURRENT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a failed correction of this node's own record is tried again.
const CORRECT_AGAIN: Duration = Duration::from_secs(2);
/// After how long without a leader a node that has just started says so.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to hand the leadership over when an operator drains the node.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(5);
/// How long running calls may take when an operator drains the node.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

/// Where the members may be found: what was kept, and is kept for the next start, and what the operator said.
pub(super) struct Known {
    /// The directory with the list of members.
    pub(super) peers_dir: PathBuf,
    /// The file with the records of where they are.
    pub(super) addresses: PathBuf,
    /// Where peers may be.
    pub(super) hints: Vec<Address>,
}

/// Starts the duties. Each ends with `stop`.
pub(super) fn start(
    shared: &Shared,
    network: &Network,
    Known { peers_dir, addresses, hints }: Known,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (alive_tx, alive) = watch::channel(BTreeSet::new());
    shared.consensus.reconcile(alive);
    tasks.spawn(tell_alive(shared.clone(), alive_tx, stop.clone()));
    let (asked, asking) = (shared.clone(), stop.clone());
    tasks.spawn(async move { asked.freshness.keep(&asked.consensus, asking).await });
    tasks.spawn(places::follow(shared.clone(), network.clone(), peers_dir, tasks.clone(), stop.clone()));
    tasks.spawn(places::keep(shared.clone(), addresses, stop.clone()));
    for hint in hints {
        tasks.spawn(places::seek(shared.clone(), network.clone(), hint, stop.clone()));
    }
    tasks.spawn(places::ask_members(shared.clone(), stop.clone()));
    tasks.spawn(drop_dead(shared.clone(), network.clone(), stop.clone()));
    tasks.spawn(drop_untrusted(shared.clone(), network.clone(), stop.clone()));
    tasks.spawn(obey_drain(shared.clone(), stop.clone()));
    tasks.spawn(quorum::keep(shared.clone(), stop.clone()));
    tasks.spawn(tell_leader(shared.clone(), stop.clone()));
    tasks.spawn(correct_record(shared.clone(), stop.clone()));
    tasks.spawn(load::publish(shared.clone(), stop.clone()));
    tasks.spawn(migrate::balance(shared.clone(), stop.clone()));
    tasks.spawn(migrate::forget_moves_to_dead(shared.clone(), stop.clone()));
    tasks.spawn(warm::keep(shared.clone(), stop.clone()));
    tasks.spawn(copies::keep(shared.clone(), stop.clone()));
    tasks.spawn(collect(shared.clone(), stop.clone()));
    tasks.spawn(crate::telemetry::keep_small(stop.clone()));
}

/// Gives the failure detector's word to the consensus.
async fn tell_alive(shared: Shared, alive: watch::Sender<BTreeSet<NodeId>>, stop: CancellationToken) {
    let mut view = shared.membership.watch();
    loop {
        let now: BTreeSet<NodeId> = view.borrow_and_update().alive().map(|peer| peer.node).collect();
        alive.send_if_modified(|told| {
            let is_changed = *told != now;
            *told = now;
            is_changed
        });
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Cuts the connections of all that are no members any more, a moment after each change of the catalogue. Every one that
/// is open is asked about, and not those that are seen to leave: a node may come and go between two looks.
async fn drop_untrusted(shared: Shared, network: Network, stop: CancellationToken) {
    let mut catalog = shared.consensus.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
        }
        let untrusted = network.untrusted();
        if untrusted.is_empty() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(places::PART_AFTER) => {}
        }
        // Once more: who was let in meanwhile, or vouched for, stays.
        untrusted.intersection(&network.untrusted()).for_each(|node| network.disconnect(*node));
    }
}

/// Cuts the connections to a node that is given up, so that what waits for it ends now, not at its own deadline.
async fn drop_dead(shared: Shared, network: Network, stop: CancellationToken) {
    let mut view = shared.membership.watch();
    let mut dead: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let now: BTreeSet<NodeId> = {
            let view = view.borrow_and_update();
            view.peers.values().filter(|peer| peer.state == PeerState::Down).map(|peer| peer.node).collect()
        };
        for node in now.difference(&dead) {
            network.disconnect(*node);
        }
        dead = now;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Drains or resumes this node as its record in the catalogue says. A drain that waits for running calls is given up when
/// the node is told to take calls again.
async fn obey_drain(shared: Shared, stop: CancellationToken) {
    let me = shared.transport.local();
    // A node that is taken off stays as it was until it ends.
    let record = |catalog: &Catalog| catalog.member(me).or_else(|| catalog.leaving().find(|it| it.node == me)).cloned();
    let is_told = |catalog: &Catalog| record(catalog).is_some_and(|member| member.is_draining);
    let mut catalog = shared.consensus.watch();
    loop {
        let told = async {
            // An error: the group was shut down, and the node is about to.
            if catalog.wait_for(|catalog| is_told(catalog)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = told => {}
        }
        tracing::info!("drains: the mesh said so");
        let drained = async {
            shared.consensus.hand_over(Instant::now() + HAND_OVER_DEADLINE).await;
            shared.runtime.drain(Instant::now() + DRAIN_DEADLINE).await;
            std::future::pending::<()>().await;
        };
        let back = async {
            if catalog.wait_for(|catalog| !is_told(catalog)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = back => {}
            () = drained => {}
        }
        tracing::info!("takes calls again: the mesh said so");
        shared.runtime.resume();
    }
}

/// Says in the log who leads, when that changes, and when nobody does for want of a majority.
async fn tell_leader(shared: Shared, stop: CancellationToken) {
    let (mut status, mut lost) = (shared.consensus.watch_status(), shared.quorum_lost.subscribe());
    let mut told = None;
    let patience = tokio::time::sleep(LEADER_PATIENCE);
    tokio::pin!(patience);
    let mut has_waited = false;
    loop {
        let (leader, term, has_quorum) = {
            let status = status.borrow_and_update();
            (status.leader, status.term, status.is_quorum_alive)
        };
        let is_lost = *lost.borrow_and_update() && !has_quorum && told.is_some();
        // Between two leaders there is a moment without one, which says nothing.
        let now = leader.filter(|_| has_quorum).map(|leader| (leader, term));
        if now != told && (now.is_some() || is_lost) {
            match now {
                Some((leader, term)) => {
                    let name = shared.consensus.catalog().member(leader).map(|member| member.name.to_string());
                    tracing::info!(node = %leader, name, term, "leads the mesh");
                }
                None => tracing::warn!("no majority of the voters answers: nothing can be written until one does"),
            }
            told = now;
            has_waited = true;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut patience, if !has_waited => {
                has_waited = true;
                tracing::warn!(
                    "still without a leader: too few voters are up, or none of them is reached; `skein nodes` at another \
                     node tells"
                );
            }
            changed = status.changed() => if changed.is_err() { return },
            changed = lost.changed() => if changed.is_err() { return },
        }
    }
}

/// Has the catalogue know where this node listens now and what it says of itself, if that changed since the last run.
async fn correct_record(shared: Shared, stop: CancellationToken) {
    let me = shared.transport.local();
    let Ok(addresses) = boot::addresses(&shared.config) else { return };
    let mut catalog = shared.consensus.watch();
    loop {
        let recorded = catalog.borrow_and_update().member(me).cloned();
        let command = match recorded {
            Some(recorded) if recorded.addresses != addresses => {
                Command::UpdateMember { node: me, addresses: addresses.clone() }
            }
            Some(recorded) if recorded.labels != shared.config.labels => {
                Command::SetLabels { node: me, labels: shared.config.labels.clone() }
            }
            Some(_) => return,
            // Not let in yet, or nothing applied yet.
            None => tokio::select! {
                () = stop.cancelled() => return,
                changed = catalog.changed() => if changed.is_err() { return } else { continue },
            },
        };
        let deadline = Instant::now() + skein_catalog::PROPOSE_DEADLINE;
        match shared.consensus.propose(RequestId(Uuid::now_v7()), command, deadline).await {
            // Applied here: the next look finds it, and what else there is to correct.
            Ok(_) => continue,
            Err(failure) => tracing::warn!(%failure, "the mesh does not know this node's new address or labels yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CORRECT_AGAIN) => {}
        }
    }
}

/// Waits until the mesh knows this node's labels, so that who bound an app to them finds it when it says that it serves.
pub(super) async fn labels_known(shared: &Shared, deadline: Instant) {
    let me = shared.transport.local();
    let mut catalog = shared.consensus.watch();
    let known = catalog.wait_for(|catalog| catalog.member(me).is_some_and(|me| me.labels == shared.config.labels));
    if tokio::time::timeout_at(deadline, known).await.is_err() {
        tracing::warn!(
            "the mesh does not know this node's labels yet; apps that are bound to them are not served here"
        );
    }
}

/// Removes artifacts that no version refers to.
async fn collect(shared: Shared, stop: CancellationToken) {
    let mut ticks = tokio::time::interval_at(Instant::now() + COLLECT_PERIOD, COLLECT_PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // A catalogue that stands still does not know what has been published since: nothing is removed by it.
        if shared.consensus.read_index(Instant::now() + CURRENT_PATIENCE).await.is_err() {
            continue;
        }
        let catalog = shared.consensus.catalog();
        // Before anything is applied, everything looks unreferenced.
        if catalog.mesh().is_some() {
            let report = shared.artifacts.collect(&catalog.digests(), COLLECT_AGE).await;
            tracing::debug!(?report, "collected artifacts");
        }
    }
}
