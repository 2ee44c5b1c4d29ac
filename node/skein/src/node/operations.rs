//! What the admin API asks of the node as a whole.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use skein_catalog::{
    Catalog, Command, Member, MemberRole, PROPOSE_DEADLINE, Propose, RequestId, TokenRecord, VersionRecord,
};
use skein_gateway::{
    Operations,
    api::{
        Done, MeshStatus, MoveReport, MoveRequest, NodeStatus, PublishReport, PublishRequest, TOKEN_TTL_MAX,
        TokenCreated, WhyReport,
    },
};
use skein_membership::View;
use skein_proto::{AppName, Digest, ErrorCode, Failure, InvocationId, MeshId, NodeId, NodeName, VersionId};
use skein_router::Router;
use skein_runtime::CodeSource;
use skein_transport::{Identity, JoinToken};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Shared,
    access::{self, now_ms},
    copies,
    migrate::{self, Move, Why},
    publish::{self, PeerCode},
    removal::Removal,
    status, why,
};

/// Most addresses in a token, so that it stays short enough to paste.
const TOKEN_SEEDS_MAX: usize = 8;

/// Longest a node that is drained may take to make ready elsewhere what is in use there.
const EVACUATION_DEADLINE: Duration = Duration::from_secs(10);
/// Longest that copies of code are waited for before a node leaves: the command line waits a little longer.
const COPIES_DEADLINE: Duration = Duration::from_secs(15);
/// Longest removal: another one may be under way, and each takes two changes of who votes, each of two commits.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(10);
/// Longest a resumed node is waited for to say itself that it takes calls: the next of its digests, or the one after.
const RESUMED_MAX: Duration = Duration::from_secs(2);
/// Longest move that is asked for: the target may have to fetch and compile the code first.
const MOVE_DEADLINE: Duration = Duration::from_secs(25);

pub(super) struct NodeOperations {
    shared: Shared,
    router: Arc<Router>,
    code: Arc<PeerCode>,
    mesh: MeshId,
    ca_fingerprint: Digest,
}

impl NodeOperations {
    pub(super) fn new(shared: Shared, identity: &Identity, router: Arc<Router>, code: Arc<PeerCode>) -> Self {
        Self { shared, router, code, mesh: identity.mesh(), ca_fingerprint: identity.ca_fingerprint() }
    }

    fn find(&self, name: &NodeName) -> Result<NodeId, Failure> {
        let catalog = self.shared.consensus.catalog();
        let found = catalog.members().find(|member| member.name == *name).map(|member| member.node);
        found.ok_or_else(|| {
            let known: Vec<String> = catalog.members().map(|member| member.name.to_string()).collect();
            let message = format!("no node `{name}`; there are: {}", known.join(", "));
            Failure::not_executed(ErrorCode::NotFound, message)
        })
    }

    async fn propose(&self, command: Command) -> Result<Done, Failure> {
        let deadline = Instant::now() + PROPOSE_DEADLINE;
        let applied = self.shared.consensus.propose(RequestId(Uuid::now_v7()), command, deadline).await?;
        Ok(Done { index: applied.index })
    }

    /// Makes the removed node's own administrator key worthless. The node is out either way: a key that could not be
    /// revoked now is shown by `skein key ls`.
    async fn revoke_key_of(&self, name: &NodeName) {
        let note = access::key_note(name);
        let catalog = self.shared.consensus.catalog();
        let ids: Vec<String> =
            catalog.keys().filter(|(_, key)| key.note == note).map(|(id, _)| id.to_owned()).collect();
        for id in ids {
            if let Err(failure) = self.propose(Command::RevokeKey { id: id.clone() }).await {
                tracing::warn!(%id, %failure, "the key of a removed node could not be revoked");
            }
        }
    }

    /// Addresses of live nodes for a token, this one's first.
    fn seeds(&self) -> Vec<String> {
        let (catalog, view) = (self.shared.consensus.catalog(), self.shared.membership.view());
        let me = self.shared.transport.local();
        let mut live: Vec<_> =
            catalog.members().filter(|member| member.node == me || view.is_alive(member.node)).collect();
        live.sort_by_key(|member| (member.node != me, member.node));
        live.into_iter()
            .take(TOKEN_SEEDS_MAX)
            .map(|member| self.shared.addresses_of(member.node, &member.addresses).mesh)
            .collect()
    }

    /// Whether anything can be decided, as far as this node can tell.
    fn check_quorum(&self) -> Result<(), Failure> {
        if !*self.shared.quorum_lost.borrow() {
            return Ok(());
        }
        let message =
            "no majority of the voters answers, so that nothing can be decided: start the voters that are down";
        Err(Failure::not_executed(ErrorCode::NoQuorum, message))
    }

    /// Whether calls of every app still find a node when this one takes none.
    fn check_drain(&self, name: &NodeName, node: NodeId) -> Result<(), Failure> {
        let catalog = self.shared.consensus.catalog();
        let (view, me) = (self.shared.membership.view(), self.shared.transport.local());
        let takes_calls = |member: &&Arc<Member>| {
            member.node != node && !member.is_draining && (member.node == me || view.is_alive(member.node))
        };
        let rest: Vec<NodeId> = catalog.members().filter(takes_calls).map(|member| member.node).collect();
        let apps: BTreeSet<&AppName> = catalog.functions().map(|function| &function.app).collect();
        let left = |app: &&&AppName| catalog.may_run(app, node) && !rest.iter().any(|node| catalog.may_run(app, *node));
        let left: Vec<String> = apps.iter().filter(left).map(ToString::to_string).collect();
        if left.is_empty() {
            return Ok(());
        }
        let message = format!(
            "without {name} no node that is alive takes calls of {}: bind the app to another one, start or resume one, or \
             drain {name} with --force",
            left.join(", ")
        );
        Err(Failure::not_executed(ErrorCode::Conflict, message))
    }

    /// Whether the mesh could go on without `node`, as far as this node can tell. What keeps it from breaking, whatever
    /// happens meanwhile, is that a removed voter votes until the others have agreed to do without it.
    fn check_removal(&self, name: &NodeName, node: NodeId) -> Result<(), Failure> {
        let (raft, view) = (self.shared.consensus.status(), self.shared.membership.view());
        let (catalog, me) = (self.shared.consensus.catalog(), self.shared.transport.local());
        // Who was not heard of yet may vote all the same: the leader decides.
        let is_alive = |node: NodeId| node == me || !view.is_down(node);
        let removal = Removal {
            name,
            node,
            catalog: &catalog,
            voters: &raft.voters,
            is_quorum_lost: *self.shared.quorum_lost.borrow(),
        };
        removal.check(is_alive)
    }

    /// Waits until the others have enough copies of all code, unless `force` goes without; the index by which they have.
    async fn secure_without(&self, node: NodeId, force: bool, deadline: Instant) -> Result<Option<u64>, Failure> {
        if force {
            return Ok(None);
        }
        copies::secure_without(&self.shared, node, deadline).await.map(Some)
    }

    /// Waits until no other removed node votes any more: voters are taken off one at a time.
    async fn await_turn(&self, node: NodeId, deadline: Instant) -> Result<(), Failure> {
        let mut catalog = self.shared.consensus.watch();
        let is_free = |catalog: &Catalog| catalog.leaving().all(|member| member.node == node);
        match timeout_at(deadline, catalog.wait_for(|catalog| is_free(catalog))).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let message = "a node that was removed before still votes: see that the voters that are left are up, \
                               and try again";
                Err(Failure::not_executed(ErrorCode::Conflict, message))
            }
        }
    }

    /// Waits until the mesh goes on without the vote of a removed node, so that whoever asked may switch it off.
    async fn await_gone(&self, name: &NodeName, node: NodeId, deadline: Instant) -> Result<(), Failure> {
        let mut catalog = self.shared.consensus.watch();
        match timeout_at(deadline, catalog.wait_for(|catalog| catalog.has_left(node))).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let message = format!(
                    "{name} is removed, but its vote is still needed: leave it running, start the others, and it ends by \
                     itself"
                );
                Err(Failure::executed(ErrorCode::Unavailable, message))
            }
        }
    }
}

#[async_trait]
impl Operations for NodeOperations {
    async fn put_artifact(&self, bytes: Bytes) -> Result<Digest, Failure> {
        self.shared.artifacts.put(bytes).await
    }

    async fn publish(&self, request: PublishRequest, author: String, id: RequestId) -> Result<PublishReport, Failure> {
        publish::publish(&self.shared, request, author, id).await
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        status::nodes(&self.shared)
    }

    async fn status(&self) -> MeshStatus {
        status::status(&self.shared)
    }

    async fn why(&self, invocation: InvocationId) -> Result<WhyReport, Failure> {
        why::why(&self.shared, &self.router, invocation).await
    }

    async fn drain(&self, name: &NodeName, force: bool) -> Result<Done, Failure> {
        let node = self.find(name)?;
        // First: what `force` goes without is nothing to wait for, or to advise, where nothing can be decided.
        self.check_quorum()?;
        if !force {
            self.check_drain(name, node)?;
            copies::secure_without(&self.shared, node, Instant::now() + COPIES_DEADLINE).await?;
        }
        // First, so that its callers find everything warm elsewhere when nobody asks it any more.
        if let Err(failure) = migrate::evacuate_node(&self.shared, node, Instant::now() + EVACUATION_DEADLINE).await {
            tracing::warn!(%node, %failure, "the node is drained with what it has");
        }
        self.propose(Command::SetDraining { node, is_draining: true }).await
    }

    async fn resume(&self, node: &NodeName) -> Result<Done, Failure> {
        let node = self.find(node)?;
        let done = self.propose(Command::SetDraining { node, is_draining: false }).await?;
        // By its own word it takes calls a moment later: who is told that it does may call at once.
        let mut view = self.shared.membership.watch();
        let takes_calls = |view: &View| view.peers.get(&node).is_none_or(|peer| !peer.load.is_draining);
        let told = timeout_at(Instant::now() + RESUMED_MAX, view.wait_for(|view| takes_calls(view)));
        // One that is down, or leaves, says so still.
        let _ = told.await;
        Ok(done)
    }

    async fn remove(&self, name: &NodeName, force: bool) -> Result<Done, Failure> {
        let node = self.find(name)?;
        // Before copies are asked for, which `force` goes without: that would be advised in vain. While another removed node
        // still votes, its turn comes first.
        if self.shared.consensus.catalog().leaving().next().is_none() {
            self.check_removal(name, node)?;
        }
        let mut secured = self.secure_without(node, force, Instant::now() + COPIES_DEADLINE).await?;
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        let done = loop {
            if self.shared.consensus.status().voters.contains(&node) {
                self.await_turn(node, deadline).await?;
            }
            self.check_removal(name, node)?;
            match self.propose(Command::RemoveMember { node, secured }).await {
                // Somebody else's removal was applied in between, and by now its node is among those that are waited for;
                // or a publish left a copy with this node.
                Err(failure) if failure.code == ErrorCode::Conflict && Instant::now() < deadline => {}
                done => break done?,
            }
            secured = self.secure_without(node, force, deadline).await?;
        };
        self.revoke_key_of(name).await;
        self.await_gone(name, node, deadline).await?;
        Ok(done)
    }

    async fn secure_code(&self, version: &VersionRecord) -> Result<(), Failure> {
        self.code.code(version, Instant::now() + COPIES_DEADLINE).await.map(drop)
    }

    async fn move_version(&self, version: VersionId, request: MoveRequest) -> Result<MoveReport, Failure> {
        let step = Move { version, from: self.find(&request.from)?, to: self.find(&request.to)? };
        let record = self.shared.consensus.catalog().version(version).cloned();
        let moved = migrate::carry_out(&self.shared, step, Why::Asked, Instant::now() + MOVE_DEADLINE).await?;
        let record = record.ok_or_else(|| Failure::executed(ErrorCode::VersionNotFound, "the version was deleted"))?;
        Ok(MoveReport {
            app: record.manifest.app.clone(),
            name: record.manifest.name.clone(),
            version: version.number,
            from: request.from,
            to: request.to,
            running: moved.running,
            warm_us: micros(moved.warm),
            release_us: micros(moved.release),
        })
    }

    async fn create_token(&self, ttl: Duration, role: Option<MemberRole>) -> Result<TokenCreated, Failure> {
        if ttl.is_zero() || ttl > TOKEN_TTL_MAX {
            return Err(Failure::not_executed(ErrorCode::BadRequest, "a join token lives from 1 ms to 7 days"));
        }
        let secret: [u8; 32] = rand::rng().random();
        let id = format!("t{:012x}", rand::rng().random::<u64>() >> 16);
        let expires_ms = now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let token = JoinToken::new(self.mesh, self.ca_fingerprint, id.clone(), secret)
            .expires_ms(expires_ms)
            .seeds(self.seeds());
        let record = TokenRecord { hash: token.secret_digest(), role, expires_ms };
        self.propose(Command::CreateToken { id, token: record }).await?;
        Ok(TokenCreated { token: token.to_string(), expires_ms })
    }

    fn config(&self) -> serde_json::Value {
        self.shared.config.describe()
    }

    fn is_serving(&self) -> bool {
        self.shared.freshness.is_serving()
    }

    async fn until_serving(&self) -> Result<(), Failure> {
        self.shared.freshness.until_serving().await
    }

    fn readiness(&self) -> Result<(), Failure> {
        let not = |code, message: &str| Err(Failure::not_executed(code, message));
        if self.shared.consensus.catalog().mesh().is_none() {
            return not(ErrorCode::Unavailable, "the node has not heard of its mesh yet");
        }
        self.shared.freshness.check()?;
        if self.shared.runtime.load().is_draining {
            return not(ErrorCode::Draining, "the node is draining");
        }
        if *self.shared.quorum_lost.borrow() {
            return not(ErrorCode::NoQuorum, "no majority of the voters answers; functions are served all the same");
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
