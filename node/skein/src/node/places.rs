//! Where the members are: what the catalogue, their own signed records and other members say, brought to the transport's
//! address book, the failure detector and the files of the next start.
//!
//! Nothing here needs a majority: a mesh whose nodes all moved finds itself by what they tell one another.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use skein_catalog::{Addresses, Propose};
use skein_membership::{Told, places};
use skein_proto::{Failure, NodeId, codec};
use skein_transport::{Address, Network, Service};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, boot, control::ControlRequest};
use crate::data_dir::{aside, write_private};

/// How long a removed node may still listen, to learn that it was.
pub(super) const PART_AFTER: Duration = Duration::from_secs(2);
/// How long a node is without a leader before it asks the members who they are, and pause before it asks again.
const ASK_MEMBERS_AFTER: Duration = Duration::from_millis(500);
/// Longest wait for a member's answer to that.
const ASK_MEMBERS_DEADLINE: Duration = Duration::from_secs(2);
/// Most members asked at a time: one that was there meanwhile is enough.
const ASK_MEMBERS_MAX: usize = 8;
/// Longest wait at a place where a peer may be.
const MEET_DEADLINE: Duration = Duration::from_secs(3);
/// Pause before the place is tried again, the first time and at most: what is meant to be there may start later.
const MEET_AGAIN: Duration = Duration::from_millis(250);
const MEET_AGAIN_MAX: Duration = Duration::from_secs(2);

impl Shared {
    /// Where a member is reached, by the newest word there is; `recorded` is the catalogue's.
    pub(super) fn addresses_of(&self, node: NodeId, recorded: &Addresses) -> Addresses {
        match self.book.records().get(node) {
            Some(at) => Addresses { mesh: at.mesh.to_string(), http: at.http.to_string(), admin: at.admin.to_string() },
            None => recorded.clone(),
        }
    }
}

/// Keeps the transport's address book, the failure detector's list and the record book's at who the members are and where.
pub(super) async fn follow(
    shared: Shared,
    network: Network,
    peers_dir: PathBuf,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let me = shared.transport.local();
    let (mut catalog, mut records) = (shared.consensus.watch(), shared.book.watch());
    let mut told = shared.members.watch_told();
    let (mut known, mut kept) = (BTreeSet::new(), BTreeSet::new());
    loop {
        told.mark_unchanged();
        let (now, newest) = (catalog.borrow_and_update().clone(), records.borrow_and_update().clone());
        let places = places(&now, &newest, &shared.members.vouched(&now), me);
        let ids: BTreeSet<NodeId> = places.keys().copied().collect();
        // Of a place that nobody can read, nothing is known: where the member was met stays good.
        for (node, addresses) in places.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
            network.set_addresses(node, addresses);
        }
        known.extend(ids.iter().copied());
        // Not whoever is missing: while the log is replayed, those are missing that were let in later.
        for gone in known.iter().filter(|node| now.has_left(**node)) {
            tasks.spawn(part(network.clone(), *gone, stop.clone()));
        }
        known.retain(|node| !now.has_left(*node));
        shared.membership.announce(ids.iter().copied());
        shared.membership.retain(&ids);
        shared.book.follow(ids.clone());
        shared.book.forget(|node| now.has_left(node));
        let members: BTreeSet<NodeId> = now.members().map(|member| member.node).collect();
        if now.mesh().is_some() && members != kept {
            let told = Told::by(&now, |node, recorded| shared.addresses_of(node, recorded));
            boot::keep_peers(&peers_dir, told).await;
            kept = members;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
            changed = records.changed() => if changed.is_err() { return },
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

/// Cuts off a node that was removed, a moment after: the log's next entry tells it so, and it ends by itself. New
/// connections of its own are refused from now on.
async fn part(network: Network, node: NodeId, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(PART_AFTER) => {}
    }
    // Ids are never used twice: who was removed does not come back.
    network.remove_address(node);
    network.disconnect(node);
}

/// Keeps the records for the next start. Best effort: without them the catalogue's addresses are there, and hints.
pub(super) async fn keep(shared: Shared, file: PathBuf, stop: CancellationToken) {
    let mut records = shared.book.watch();
    loop {
        let kept = records.borrow_and_update().to_keep();
        let path = file.clone();
        let written = aside(move || write_private(&path, &codec::encode(&kept)?));
        if let Err(failure) = written.await {
            tracing::warn!(%failure, "the addresses of the members could not be kept for the next start");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = records.changed() => if changed.is_err() { return },
        }
    }
}

/// The records that were kept. What cannot be read is as good as lost: they are told anew.
pub(super) fn kept(file: &std::path::Path) -> Vec<bytes::Bytes> {
    std::fs::read(file).ok().and_then(|bytes| codec::decode(&bytes).ok()).unwrap_or_default()
}

/// Whenever there is no leader for a while, asks members who the members are: the leader may have been let in while this
/// node was away, and is trusted by their word.
pub(super) async fn ask_members(shared: Shared, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(ASK_MEMBERS_AFTER);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0_usize;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if shared.consensus.status().is_quorum_alive {
            continue;
        }
        let me = shared.transport.local();
        let catalog = shared.consensus.catalog();
        let vouched = shared.members.vouched(&catalog);
        let known = catalog.members().map(|member| member.node).chain(vouched.iter().map(|peer| peer.node));
        let known: Vec<NodeId> = known.filter(|node| *node != me).collect();
        turn = turn.wrapping_add(ASK_MEMBERS_MAX);
        let mut asked: tokio::task::JoinSet<_> = known
            .iter()
            .cycle()
            .skip(turn.checked_rem(known.len()).unwrap_or(0))
            .take(known.len().min(ASK_MEMBERS_MAX))
            .map(|node| ask(shared.clone(), *node))
            .collect();
        loop {
            let answered = tokio::select! {
                () = stop.cancelled() => return,
                answered = asked.join_next() => answered,
            };
            match answered {
                Some(Ok(Ok(told))) => {
                    if shared.members.tell(told) {
                        tracing::info!("a member told who the members are now");
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
    }
}

async fn ask(shared: Shared, node: NodeId) -> Result<Told, Failure> {
    let body = codec::encode(&ControlRequest::Members)?;
    let deadline = Instant::now() + ASK_MEMBERS_DEADLINE;
    Ok(codec::decode(&shared.transport.call(node, Service::Control, body, deadline).await?)?)
}

/// Looks for a peer at a place that the operator named, until one is met there.
pub(super) async fn seek(shared: Shared, network: Network, place: Address, stop: CancellationToken) {
    let mut pause = MEET_AGAIN;
    loop {
        let met = tokio::select! {
            () = stop.cancelled() => return,
            met = network.meet(&place, Instant::now() + MEET_DEADLINE) => met,
        };
        match met {
            Ok(node) => {
                tracing::info!(%node, %place, "met a node");
                shared.book.meet(node);
                return;
            }
            Err(failure) => tracing::debug!(%place, %failure, "nobody was met"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(MEET_AGAIN_MAX),
        }
    }
}
