//! The local administrator's key and context file, and the entrance for clients over QUIC.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use rand::Rng;
use skein_catalog::{Addresses, Command, KeyRecord, Propose, RequestId, Role, Watch};
use skein_client::{
    Context, ContextNode,
    server::{Authorize, ClientService, NodesService},
    wire::NodeAddress,
};
use skein_gateway::{authorize, identify, mint};
use skein_proto::{ErrorCode, Failure, FunctionRef, NodeId, NodeName};
use skein_router::Router;
use skein_transport::{Identity, Serve};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Shared, freshness::WhenFresh};
use crate::data_dir::{DataDir, aside};

/// How long a node that is new to the mesh waits until it has a key: the leader must find it first.
pub(super) const ENTRY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a node that resumes without a context file waits for a key before it serves without one.
const RESUME_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before that is tried again.
const MAKE_AGAIN: Duration = Duration::from_secs(1);
/// Pause before the leader is asked for the key again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Milliseconds since the Unix epoch, by this node's clock.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until the catalogue knows this node: a node that knows no mesh has nothing to serve, whether it is new or was cut
/// short when it was.
///
/// # Errors
/// `no-quorum` when the leader has not reached it in time. The next start goes on waiting.
pub(super) async fn wait_until_member(shared: &Shared) -> Result<(), Failure> {
    let me = shared.transport.local();
    let mut catalog = shared.consensus.watch();
    let known = catalog.wait_for(|catalog| catalog.member(me).is_some() || catalog.was_removed(me));
    let waited = tokio::time::timeout(ENTRY_DEADLINE, known).await.map(|known| known.is_ok());
    if waited == Ok(true) {
        return Ok(());
    }
    Err(Failure::not_executed(
        ErrorCode::NoQuorum,
        "the mesh let this node in but its leader has not reached it: can the others reach its mesh address? Start it \
         again to go on",
    ))
}

/// Sees to it that the data directory holds a context that reaches this node, with a key the mesh knows.
///
/// A node that resumes does not insist: without a quorum it serves what it has, and the key is made later.
///
/// # Errors
/// For a new node, `no-quorum` and `disk-full`.
pub(super) async fn prepare_context(
    shared: &Shared,
    identity: &Identity,
    data: &DataDir,
    (tasks, stop): (&TaskTracker, &CancellationToken),
    is_resumed: bool,
) -> Result<(), Failure> {
    let path = data.context();
    if path.exists() {
        // The node may have moved: who reads the file now must find it.
        bring_up_to_date(&path, nodes(shared)).await;
        return Ok(());
    }
    let maker = ContextMaker::new(shared.clone(), identity, path);
    if !is_resumed {
        return maker.make(Instant::now() + ENTRY_DEADLINE).await;
    }
    if let Err(failure) = maker.make(Instant::now() + RESUME_PATIENCE).await {
        tracing::warn!(%failure, path = %maker.path.display(), "there is no context file yet: it is made when it can be");
        tasks.spawn(maker.make_at_last(stop.clone()));
    }
    Ok(())
}

/// Makes the local administrator's key and context file.
struct ContextMaker {
    shared: Shared,
    context: Context,
    path: PathBuf,
    /// One and the same however often it is asked for: a key whose making is not known to have failed may be made.
    request: RequestId,
    command: Command,
}

impl ContextMaker {
    fn new(shared: Shared, identity: &Identity, path: PathBuf) -> Self {
        let ((id, key), record) = new_key(&shared);
        let (mesh, ca) = (identity.mesh().to_string(), identity.ca_pem());
        let (request, command) = (RequestId(Uuid::now_v7()), Command::CreateKey { id, key: record });
        Self { shared, context: Context { mesh, ca, key, nodes: Vec::new() }, path, request, command }
    }

    /// Asks for the key until it is made or the deadline has passed: between two leaders nobody makes one.
    async fn make(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            match self.shared.consensus.propose(self.request, self.command.clone(), deadline).await {
                Err(failure) if failure.code == ErrorCode::NoQuorum && Instant::now() < deadline => {
                    tracing::warn!(%failure, "the local administrator's key could not be made; asking again");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                made => break made.map(drop)?,
            }
        }
        let context = Context { nodes: nodes(&self.shared), ..self.context.clone() };
        let path = self.path.clone();
        aside(move || Ok(context.save(&path)?)).await
    }

    async fn make_at_last(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(MAKE_AGAIN) => {}
            }
            if !self.shared.consensus.status().is_quorum_alive {
                continue;
            }
            match self.make(Instant::now() + skein_catalog::PROPOSE_DEADLINE).await {
                Ok(()) => {
                    tracing::info!(path = %self.path.display(), "made the context file");
                    return;
                }
                Err(failure) => tracing::warn!(%failure, "the context file could not be made yet"),
            }
        }
    }
}

/// By what a node's own key is told from others, when the node is removed.
pub(crate) fn key_note(name: &NodeName) -> String {
    format!("local administrator of {name}")
}

/// A key's id and text, and its record.
fn new_key(shared: &Shared) -> ((String, String), KeyRecord) {
    let mut random = rand::rng();
    let key = mint(random.random(), random.random());
    let record = KeyRecord {
        hash: key.hash,
        role: Role::Admin,
        app: None,
        note: key_note(&shared.name()),
        created_ms: now_ms(),
        expires_ms: None,
    };
    ((key.id, key.text), record)
}

/// The nodes as a context lists them, this one first, each where it is now.
fn nodes(shared: &Shared) -> Vec<ContextNode> {
    let me = shared.transport.local();
    let catalog = shared.consensus.catalog();
    let mut nodes: Vec<(bool, ContextNode)> = catalog
        .members()
        .map(|member| {
            let Addresses { mesh, http, admin } = shared.addresses_of(member.node, &member.addresses);
            (member.node != me, ContextNode { name: member.name.to_string(), mesh, http, admin })
        })
        .collect();
    nodes.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// Keeps the context's list of nodes at what is known of them, so that its holder can reach the mesh when this node is
/// gone.
pub(super) async fn keep_context(shared: Shared, path: PathBuf, stop: CancellationToken) {
    let (mut catalog, mut records) = (shared.consensus.watch(), shared.book.watch());
    loop {
        catalog.mark_unchanged();
        records.mark_unchanged();
        bring_up_to_date(&path, nodes(&shared)).await;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
            changed = records.changed() => if changed.is_err() { return },
        }
    }
}

/// Best effort: the node serves as well while its administrator must be told its address.
async fn bring_up_to_date(path: &Path, nodes: Vec<ContextNode>) {
    let path = path.to_owned();
    if let Err(failure) = aside(move || update(&path, nodes)).await {
        tracing::warn!(%failure, "the context file could not be brought up to date");
    }
}

fn update(path: &Path, nodes: Vec<ContextNode>) -> Result<(), Failure> {
    if nodes.is_empty() || !path.exists() {
        return Ok(());
    }
    let mut context = Context::load(path)?;
    if context.nodes != nodes {
        context.nodes = nodes;
        context.save(path)?;
    }
    Ok(())
}

/// Lets clients over QUIC in by their keys.
pub(super) struct ClientAccess {
    shared: Shared,
    catalog: Watch,
}

impl ClientAccess {
    /// The services for strangers with a key: calls, and which nodes there are.
    pub(super) fn services(shared: &Shared, router: Arc<Router>) -> (Arc<dyn Serve>, Arc<dyn Serve>) {
        let access = Arc::new(Self { shared: shared.clone(), catalog: shared.consensus.watch() });
        let when_fresh = |service: Arc<dyn Serve>| -> Arc<dyn Serve> {
            Arc::new(WhenFresh { freshness: shared.freshness.clone(), service })
        };
        let calls = when_fresh(Arc::new(ClientService::new(router, access.clone())));
        (calls, when_fresh(Arc::new(NodesService::new(access))))
    }
}

#[async_trait]
impl Authorize for ClientAccess {
    async fn reach(&self, index: u64, deadline: Instant) -> Result<(), Failure> {
        skein_router::reach(&self.catalog, index, deadline).await.map_err(|known| {
            let message = format!("this node knows the catalogue up to index {known}, and the call asks for {index}");
            Failure::not_executed(ErrorCode::Unavailable, message)
        })
    }

    fn identify(&self, key: &str) -> Result<(), Failure> {
        identify(&self.catalog.borrow(), key, now_ms()).map(|_| ())
    }

    fn authorize(&self, key: &str, function: &FunctionRef) -> Result<(), Failure> {
        authorize(&self.catalog.borrow(), key, Role::Invoke, Some(&function.app), now_ms()).map(|_| ())
    }

    fn nodes(&self, key: &str) -> Result<Vec<NodeAddress>, Failure> {
        identify(&self.catalog.borrow(), key, now_ms())?;
        let nodes = nodes(&self.shared).into_iter();
        Ok(nodes.map(|node| NodeAddress { name: node.name, mesh: node.mesh }).collect())
    }

    fn node_name(&self, node: NodeId) -> Option<NodeName> {
        self.catalog.borrow().member(node).map(|member| member.name.clone())
    }
}
