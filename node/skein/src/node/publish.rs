//! The life of a publish: inspect, store on several nodes, commit, wait until the live nodes serve it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use skein_artifacts::Artifacts;
use skein_catalog::{Command, Outcome, Propose, RequestId, VersionRecord};
use skein_gateway::api::{PublishReport, PublishRequest, PublishTimings};
use skein_membership::Membership;
use skein_placement::copies::{others_least, others_wanted, spread};
use skein_proto::{AppName, Digest, ErrorCode, Failure, Manifest, NodeId, NodeName, VersionId, codec};
use skein_runtime::CodeSource;
use skein_transport::Service;
use tokio::time::Instant;

use super::{
    Shared,
    boot::internal,
    control::{ControlRequest, await_version},
};

/// Longest a publish takes to store the code: a large artifact, slow disks, peers that stall.
const STORE_DEADLINE: Duration = Duration::from_secs(20);
/// How long too few nodes may take a copy before a publish is refused: those that died leave the view meanwhile.
const REFUSED_PATIENCE: Duration = Duration::from_secs(4);
/// Between two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Longest it takes to commit then: a new leader.
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
        // Those that were not heard of yet may be there; and where this node hears nobody, gossip may be what is late.
        let knows_anyone = view.alive().any(|peer| peer.node != self.me);
        let is_peer = |node: &NodeId| *node != self.me && !(knows_anyone && view.is_down(*node));
        // Those who had it when it was published first; any other may have fetched it since.
        let mut peers: Vec<NodeId> = version.holders.iter().copied().filter(is_peer).collect();
        let others: Vec<NodeId> =
            view.peers.keys().copied().filter(|node| is_peer(node) && !peers.contains(node)).collect();
        peers.extend(others);
        // A dial of one that may be gone takes longer than the answers of all others.
        peers.sort_by_key(|node| !view.is_alive(*node));
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
    manifest.check_size()?;
    manifest.check().map_err(|message| Failure::not_executed(ErrorCode::BadManifest, message))?;
    let started = Instant::now();
    let size = inspect(shared, publish.digest, &manifest).await?;
    timings.inspect_us = micros(started);

    let started = Instant::now();
    let stored = replicate(shared, publish.digest, started + STORE_DEADLINE);
    let (holders, copies_missing) = tokio::select! {
        stored = stored => stored?,
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
    let applied = shared.consensus.propose(request, command, started + COMMIT_DEADLINE).await?;
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
        copies_missing,
        serving: names(shared, &serving),
        pending: names(shared, &pending),
        timings,
    })
}

async fn inspect(shared: &Shared, digest: Digest, manifest: &Manifest) -> Result<u64, Failure> {
    // From now on it is too young to be collected until its version refers to it.
    let code = shared.artifacts.claim(digest).await?.ok_or_else(|| {
        let message = format!("{digest} is not on this node: put the artifact before you publish it");
        Failure::not_executed(ErrorCode::ArtifactUnavailable, message)
    })?;
    let (engine, manifest, size) = (shared.engine.clone(), manifest.clone(), code.len() as u64);
    let inspected = tokio::task::spawn_blocking(move || engine.inspect(&code, &manifest)).await;
    inspected.map_err(internal)??;
    Ok(size)
}

/// Has enough nodes keep the artifact, durably: this one and as many others as are wanted, or where some do not take it as
/// are needed at least. Gives them, and how many are missing.
///
/// # Errors
/// `unavailable` when fewer took it: a version that one broken disk would lose is not made.
async fn replicate(shared: &Shared, digest: Digest, deadline: Instant) -> Result<(Vec<NodeId>, u32), Failure> {
    let me = shared.transport.local();
    let catalog = shared.consensus.catalog();
    let is_leaving = |node: &NodeId| catalog.member(*node).is_some_and(|member| member.is_draining);
    let give_up = deadline.min(Instant::now() + REFUSED_PATIENCE);
    let (peers, kept, others) = loop {
        let mut peers: Vec<NodeId> = live(shared).into_iter().filter(|node| *node != me).collect();
        spread(digest, &mut peers);
        let view = shared.membership.view();
        // Who is about to leave comes last: its copy would soon be made elsewhere. Who was not heard of yet may be gone.
        peers.sort_by_key(|node| (is_leaving(node), !view.is_alive(*node)));
        let others = others_wanted(peers.len());
        let kept = shared.artifacts.replicate(digest, &peers, others, deadline).await?;
        // Who died a moment ago is still among the live ones, and soon is not.
        if kept.len() >= others_least(peers.len()) || Instant::now() >= give_up {
            break (peers, kept, others);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    if kept.len() < others_least(peers.len()) {
        let asked = names(shared, &peers).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!(
            "the code is durable on this node alone, and none of {asked} took a copy: see their logs and disks; nothing \
             is published"
        );
        return Err(Failure::not_executed(ErrorCode::Unavailable, message));
    }
    let missing = others.saturating_sub(kept.len());
    if missing > 0 {
        tracing::warn!(%digest, missing, "not all copies of an artifact were made yet");
    }
    let mut holders = vec![me];
    holders.extend(kept);
    Ok((holders, u32::try_from(missing).unwrap_or(u32::MAX)))
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
        if view.wait_for(|view| view.is_down(node)).await.is_err() {
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

/// The members that are not known to be down: of those that were not heard of yet, a copy is asked for, too.
fn live(shared: &Shared) -> Vec<NodeId> {
    let (catalog, view, me) = (shared.consensus.catalog(), shared.membership.view(), shared.transport.local());
    let others = catalog.members().map(|member| member.node).filter(|node| *node != me && !view.is_down(*node));
    let mut live: Vec<NodeId> = others.collect();
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
