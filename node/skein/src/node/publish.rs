//! The life of a publish: inspect, store on several nodes, commit, wait until the live nodes serve it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use skein_artifacts::Artifacts;
use skein_catalog::{Command, Outcome, Propose, RequestId, VersionRecord};
use skein_gateway::api::{PublishReport, PublishRequest, PublishTimings};
use skein_membership::Membership;
use skein_proto::{AppName, Digest, ErrorCode, Failure, Manifest, NodeId, NodeName, VersionId, codec};
use skein_runtime::CodeSource;
use skein_transport::Service;
use tokio::time::Instant;

use super::{
    Shared,
    boot::internal,
    control::{ControlRequest, await_version},
};

/// On how many nodes an artifact is durable before its version exists, where there are as many.
const COPIES: usize = 3;
/// Longest a publish takes to store and commit: a large artifact on a slow disk, a new leader.
const COMMIT_DEADLINE: Duration = Duration::from_secs(20);
/// Longest a publish waits for the nodes to serve: they compile.
const SERVE_DEADLINE: Duration = Duration::from_secs(55);

/// Gives a node the code of a version: its own, or its peers'.
pub(super) struct PeerCode {
    artifacts: Artifacts,
    membership: Membership,
    me: NodeId,
}

impl PeerCode {
    pub(super) fn new(artifacts: Artifacts, membership: Membership, me: NodeId) -> Self {
        Self { artifacts, membership, me }
    }
}

#[async_trait]
impl CodeSource for PeerCode {
    async fn code(&self, version: &VersionRecord, deadline: Instant) -> Result<Bytes, Failure> {
        if let Some(bytes) = self.artifacts.get(version.digest).await? {
            return Ok(bytes);
        }
        let view = self.membership.view();
        // A node that has just started has heard of nobody yet: then any of them may be there.
        let knows_anyone = view.alive().any(|peer| peer.node != self.me);
        let is_peer = |node: &NodeId| *node != self.me && (view.is_alive(*node) || !knows_anyone);
        // Those who had it when it was published first; any other may have fetched it since.
        let mut peers: Vec<NodeId> = version.holders.iter().copied().filter(is_peer).collect();
        let others: Vec<NodeId> =
            view.alive().map(|peer| peer.node).filter(|node| is_peer(node) && !peers.contains(node)).collect();
        peers.extend(others);
        self.artifacts.fetch(version.digest, &peers, deadline).await
    }

    fn has(&self, version: &VersionRecord) -> bool {
        self.artifacts.has(version.digest)
    }
}

/// Makes a version of an artifact that this node has.
///
/// # Errors
/// See [`skein_gateway::Operations::publish`].
pub(super) async fn publish(
    shared: &Shared,
    publish: PublishRequest,
    author: String,
    request: RequestId,
) -> Result<PublishReport, Failure> {
    let mut timings = PublishTimings::default();
    let manifest = publish.manifest;
    manifest.check().map_err(|message| Failure::not_executed(ErrorCode::BadManifest, message))?;
    let started = Instant::now();
    let size = inspect(shared, publish.digest, &manifest).await?;
    timings.inspect_us = micros(started);

    let started = Instant::now();
    let deadline = started + COMMIT_DEADLINE;
    let holders = tokio::select! {
        holders = replicate(shared, publish.digest, deadline) => holders?,
        () = shared.consensus.quorum_lost() => {
            let message = "no majority of the voters answers, so nothing can be published";
            return Err(Failure::not_executed(ErrorCode::NoQuorum, message));
        }
    };
    timings.store_us = micros(started);

    let started = Instant::now();
    let command = Command::PublishVersion {
        manifest: Box::new(manifest.clone()),
        digest: publish.digest,
        size,
        holders: holders.clone(),
        note: publish.note,
        author,
        alias: publish.alias.clone(),
        expected: publish.expected,
    };
    let applied = shared.consensus.propose(request, command, deadline).await?;
    let Outcome::Published(version) = applied.outcome else { return Err(internal("the catalogue gave no version")) };
    timings.commit_us = micros(started);

    let started = Instant::now();
    let (serving, pending) = match publish.wait {
        true => await_everywhere(shared, (version, &manifest.app), applied.index).await,
        false => (Vec::new(), servers(shared, &manifest.app)),
    };
    timings.serve_us = micros(started);
    Ok(PublishReport {
        app: manifest.app,
        name: manifest.name,
        version: version.number,
        digest: publish.digest,
        size,
        index: applied.index,
        alias: publish.alias,
        holders: names(shared, &holders),
        serving: names(shared, &serving),
        pending: names(shared, &pending),
        timings,
    })
}

async fn inspect(shared: &Shared, digest: Digest, manifest: &Manifest) -> Result<u64, Failure> {
    let code = shared.artifacts.get(digest).await?.ok_or_else(|| {
        let message = format!("{digest} is not on this node: put the artifact before you publish it");
        Failure::not_executed(ErrorCode::ArtifactUnavailable, message)
    })?;
    let (engine, manifest, size) = (shared.engine.clone(), manifest.clone(), code.len() as u64);
    let inspected = tokio::task::spawn_blocking(move || engine.inspect(&code, &manifest)).await;
    inspected.map_err(internal)??;
    Ok(size)
}

/// Has enough nodes keep the artifact, durably: as many as there are live ones, up to [`COPIES`].
async fn replicate(shared: &Shared, digest: Digest, deadline: Instant) -> Result<Vec<NodeId>, Failure> {
    let me = shared.transport.local();
    let peers: Vec<NodeId> = live(shared).into_iter().filter(|node| *node != me).collect();
    let copies = (COPIES - 1).min(peers.len());
    let mut holders = vec![me];
    if copies > 0 {
        match shared.artifacts.replicate(digest, &peers, copies, deadline).await {
            Ok(peers) => holders.extend(peers),
            // A peer may have died just now; a majority of the copies is still safe against the loss of one node.
            Err(failure) if peers.len() > 1 => {
                tracing::warn!(%failure, "not all copies of an artifact could be made; trying for one");
                holders.extend(shared.artifacts.replicate(digest, &peers, 1, deadline).await?);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(holders)
}

/// The nodes that serve the version when the wait is over, and those that do not yet.
async fn await_everywhere(
    shared: &Shared,
    (version, app): (VersionId, &AppName),
    index: u64,
) -> (Vec<NodeId>, Vec<NodeId>) {
    let deadline = Instant::now() + SERVE_DEADLINE;
    let me = shared.transport.local();
    let waits = servers(shared, app).into_iter().map(async |node| {
        let served = if node == me {
            await_version(shared, version, index, deadline).await
        } else {
            ask(shared, node, version, index, deadline).await
        };
        if let Err(failure) = &served {
            tracing::warn!(%node, %version, %failure, "a node does not serve a new version yet");
        }
        (node, served.is_ok())
    });
    let (serving, pending): (Vec<_>, Vec<_>) = join_all(waits).await.into_iter().partition(|(_, is_ready)| *is_ready);
    let nodes = |nodes: Vec<(NodeId, bool)>| nodes.into_iter().map(|(node, _)| node).collect();
    (nodes(serving), nodes(pending))
}

async fn ask(shared: &Shared, node: NodeId, version: VersionId, index: u64, deadline: Instant) -> Result<(), Failure> {
    let body = codec::encode(&ControlRequest::AwaitVersion { version, index })?;
    // A node that dies while it is waited for must not use up the whole wait.
    let gone = async {
        let mut view = shared.membership.watch();
        // Ends with an error only when membership ends, and then the call below decides.
        if view.wait_for(|view| !view.is_alive(node)).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        answered = shared.transport.call(node, Service::Control, body, deadline) => answered.map(|_| ()),
        () = gone => Err(Failure::not_executed(ErrorCode::Unreachable, format!("node {node} died meanwhile"))),
    }
}

/// The live nodes that functions of `app` may run on.
fn servers(shared: &Shared, app: &AppName) -> Vec<NodeId> {
    let catalog = shared.consensus.catalog();
    live(shared).into_iter().filter(|node| catalog.may_run(app, *node)).collect()
}

fn live(shared: &Shared) -> Vec<NodeId> {
    let catalog = shared.consensus.catalog();
    let me = shared.transport.local();
    let mut live: Vec<NodeId> = shared
        .membership
        .view()
        .alive()
        .map(|peer| peer.node)
        .filter(|node| *node != me && catalog.member(*node).is_some())
        .collect();
    live.push(me);
    live
}

fn names(shared: &Shared, nodes: &[NodeId]) -> Vec<NodeName> {
    let catalog = shared.consensus.catalog();
    nodes.iter().filter_map(|node| Some(catalog.member(*node)?.name.clone())).collect()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
