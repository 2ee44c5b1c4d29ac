//! The local administrator's key and context file, and the entrance for clients over QUIC.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::Rng;
use skein_catalog::{Catalog, Command, KeyRecord, Propose, RequestId, Role, Watch};
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
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shared;
use crate::data_dir::DataDir;

/// How long a node that is new to the mesh waits until it has a key: the leader must find it first.
const ENTRY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a node that resumes waits for its own past before it serves what it has.
const RESUME_PATIENCE: Duration = Duration::from_secs(3);

/// Milliseconds since the Unix epoch, by this node's clock.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sees to it that the data directory holds a context with a key the mesh knows.
///
/// A node that resumes does not insist: without a quorum it still serves what it has.
///
/// # Errors
/// `no-quorum` for a new node; `disk-full`.
pub(super) async fn prepare_context(
    shared: &Shared,
    identity: &Identity,
    data: &DataDir,
    is_resumed: bool,
) -> Result<(), Failure> {
    let patience = if is_resumed { RESUME_PATIENCE } else { ENTRY_DEADLINE };
    let deadline = Instant::now() + patience;
    let entered = wait_until_member(shared, deadline).await;
    if is_resumed && (entered.is_err() || data.context().exists()) {
        return Ok(());
    }
    entered?;
    let (key, record) = new_key(shared);
    let (id, text) = key;
    let context = Context {
        mesh: identity.mesh().to_string(),
        ca: identity.ca_pem(),
        key: text,
        nodes: nodes(&shared.consensus.catalog(), shared.transport.local()),
    };
    let command = Command::CreateKey { id, key: record };
    shared.consensus.propose(RequestId(Uuid::now_v7()), command, deadline).await?;
    Ok(context.save(data.context())?)
}

async fn wait_until_member(shared: &Shared, deadline: Instant) -> Result<(), Failure> {
    let me = shared.transport.local();
    let mut catalog = shared.consensus.watch();
    let waited = tokio::time::timeout_at(deadline, catalog.wait_for(|catalog| catalog.member(me).is_some())).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Failure::not_executed(
            ErrorCode::NoQuorum,
            "the mesh let this node in but its leader has not reached it: can the others reach its mesh address?",
        )),
    }
}

/// By what a node's own key is told from others, when the node is removed.
pub(super) fn key_note(name: &NodeName) -> String {
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
        note: key_note(&shared.config.name),
        created_ms: now_ms(),
        expires_ms: None,
    };
    ((key.id, key.text), record)
}

/// The nodes as a context lists them, this one first.
fn nodes(catalog: &Catalog, me: NodeId) -> Vec<ContextNode> {
    let mut nodes: Vec<(bool, ContextNode)> = catalog
        .members()
        .map(|member| {
            let node = ContextNode {
                name: member.name.to_string(),
                mesh: member.addresses.mesh.clone(),
                http: member.addresses.http.clone(),
                admin: member.addresses.admin.clone(),
            };
            (member.node != me, node)
        })
        .collect();
    nodes.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// Keeps the context's list of nodes at the catalogue's state, so that its holder can reach the mesh when this node
/// is gone.
pub(super) async fn keep_context(shared: Shared, path: PathBuf, stop: CancellationToken) {
    let me = shared.transport.local();
    let mut catalog = shared.consensus.watch();
    loop {
        let now = nodes(&catalog.borrow_and_update(), me);
        if let Err(failure) = update(&path, now) {
            tracing::warn!(%failure, "the context file could not be brought up to date");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
        }
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
    me: NodeId,
    catalog: Watch,
}

impl ClientAccess {
    /// The services for strangers with a key: calls, and which nodes there are.
    pub(super) fn services(shared: &Shared, router: Arc<Router>) -> (Arc<dyn Serve>, Arc<dyn Serve>) {
        let access = Arc::new(Self { me: shared.transport.local(), catalog: shared.consensus.watch() });
        (Arc::new(ClientService::new(router, access.clone())), Arc::new(NodesService::new(access)))
    }
}

impl Authorize for ClientAccess {
    fn authorize(&self, key: &str, function: &FunctionRef) -> Result<(), Failure> {
        authorize(&self.catalog.borrow(), key, Role::Invoke, Some(&function.app), now_ms()).map(|_| ())
    }

    fn nodes(&self, key: &str) -> Result<Vec<NodeAddress>, Failure> {
        let catalog = self.catalog.borrow().clone();
        identify(&catalog, key, now_ms())?;
        let nodes = nodes(&catalog, self.me).into_iter();
        Ok(nodes.map(|node| NodeAddress { name: node.name, mesh: node.mesh }).collect())
    }

    fn node_name(&self, node: NodeId) -> Option<NodeName> {
        self.catalog.borrow().member(node).map(|member| member.name.clone())
    }
}
