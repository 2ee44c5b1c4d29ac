//! The replicated state machine as a pure value: what it holds, how it is read, and which part applies a command.

use std::{collections::HashSet, sync::Arc};

use rpds::RedBlackTreeMapSync;
use skein_proto::{AppName, Digest, FunctionId, FunctionName, MeshId, NodeId, VersionId};

use crate::{
    AppRecord, Command, FunctionRecord, KeyRecord, Member, Outcome, Proposal, RequestId, TokenRecord, VersionRecord,
    recent::{Recent, Remembered},
    refusal::Refusal,
};

mod app;
mod credential;
mod function;
mod member;
mod snapshot;
#[cfg(test)]
mod tests;

pub use snapshot::SnapshotError;

/// Everything the mesh agrees on. Cloning is cheap: replicas of it share what they have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    index: u64,
    mesh: Option<MeshId>,
    /// The id given last; ids are never used twice.
    node_last: u64,
    function_last: u64,
    members: RedBlackTreeMapSync<NodeId, Arc<Member>>,
    removed: RedBlackTreeMapSync<NodeId, Digest>,
    /// Every key that was ever a member's, removed ones too.
    nodes_by_key: RedBlackTreeMapSync<Digest, NodeId>,
    /// By app, then name. An app that owns nothing is not kept.
    functions: RedBlackTreeMapSync<AppName, RedBlackTreeMapSync<FunctionName, Arc<FunctionRecord>>>,
    functions_by_id: RedBlackTreeMapSync<FunctionId, Arc<FunctionRecord>>,
    /// Those that were declared; an app that owns functions need not be.
    apps: RedBlackTreeMapSync<AppName, Arc<AppRecord>>,
    keys: RedBlackTreeMapSync<String, Arc<KeyRecord>>,
    tokens: RedBlackTreeMapSync<String, Arc<TokenRecord>>,
    recent: Recent,
}

impl Catalog {
    /// Applies one committed proposal. Total and deterministic; a refusal changes nothing but `index` and the memory
    /// of recent requests. A request that is remembered is answered as before and changes nothing but `index`.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        self.advance(index);
        if let Some(remembered) = self.recent.find(proposal.request) {
            return remembered.outcome.clone();
        }
        let outcome = self.change(proposal).unwrap_or_else(Outcome::from);
        self.recent.remember(Remembered { request: proposal.request, index, outcome: outcome.clone() });
        outcome
    }

    /// Each arm checks everything before it changes anything.
    fn change(&mut self, proposal: &Proposal) -> Result<Outcome, Refusal> {
        let at_ms = proposal.at_ms;
        match &proposal.command {
            Command::Found { mesh } => self.found(*mesh),
            Command::AddMember { name, key, addresses, role, token } => {
                self.add_member(member::Joiner { name, key: *key, addresses, role: *role }, token.as_deref(), at_ms)
            }
            Command::UpdateMember { node, addresses } => self.update_member(*node, addresses),
            Command::RemoveMember { node } => self.remove_member(*node),
            Command::SetDraining { node, is_draining } => self.set_draining(*node, *is_draining),
            Command::PublishVersion { manifest, digest, size, holders, note, author, alias, expected } => {
                let version = VersionRecord {
                    number: 0,
                    manifest: (**manifest).clone(),
                    digest: *digest,
                    size: *size,
                    holders: holders.clone(),
                    note: note.clone(),
                    author: author.clone(),
                    published_ms: at_ms,
                    index: self.index,
                };
                self.publish(version, alias.as_ref(), *expected)
            }
            Command::DeleteFunction { app, name } => self.delete_function(app, name),
            Command::SetAlias { app, name, alias, version, expected } => {
                self.set_alias(app, name, alias, function::Move { to: *version, expected: *expected })
            }
            Command::Rollback { app, name, alias, to } => self.rollback(app, name, alias, *to),
            Command::SetLabels { node, labels } => self.set_labels(*node, labels),
            Command::CreateApp { app, binding } => self.create_app(app, binding),
            Command::BindApp { app, binding } => self.bind_app(app, binding),
            Command::RemoveApp { app } => self.remove_app(app),
            Command::CreateKey { id, key } => self.create_key(id, key),
            Command::RevokeKey { id } => self.revoke_key(id, at_ms),
            Command::CreateToken { id, token } => self.create_token(id, token, at_ms),
        }
    }

    fn found(&mut self, mesh: MeshId) -> Result<Outcome, Refusal> {
        if let Some(present) = self.mesh {
            return Err(Refusal::conflict(format!("the mesh has begun already; it is {present}")));
        }
        self.mesh = Some(mesh);
        Ok(Outcome::Done)
    }

    /// Notes that the log entry at `index` carried no proposal (a blank entry or a membership change).
    pub fn advance(&mut self, index: u64) {
        self.index = self.index.max(index);
    }

    /// The index of the last entry applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The mesh, once founded.
    pub fn mesh(&self) -> Option<MeshId> {
        self.mesh
    }

    /// The index at which a recent request was applied, and what became of it.
    pub fn outcome(&self, request: RequestId) -> Option<(u64, &Outcome)> {
        self.recent.find(request).map(|remembered| (remembered.index, &remembered.outcome))
    }

    /// The members, by id. Removed ones are not among them.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// One member.
    pub fn member(&self, node: NodeId) -> Option<&Arc<Member>> {
        self.members.get(&node)
    }

    /// The member with this name.
    pub fn member_named(&self, name: &str) -> Option<&Arc<Member>> {
        self.members().find(|member| member.name.as_str() == name)
    }

    /// Whether this node was a member once and was removed for good.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.removed.contains_key(&node)
    }

    /// The functions, by app and name.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<FunctionRecord>> {
        self.functions.values().flat_map(|app| app.values())
    }

    /// One function.
    pub fn function(&self, app: &AppName, name: &FunctionName) -> Option<&Arc<FunctionRecord>> {
        self.functions.get(app)?.get(name)
    }

    /// The function with this id.
    pub fn function_by_id(&self, id: FunctionId) -> Option<&Arc<FunctionRecord>> {
        self.functions_by_id.get(&id)
    }

    /// One version, by id.
    pub fn version(&self, id: VersionId) -> Option<&Arc<VersionRecord>> {
        self.functions_by_id.get(&id.function)?.versions.get(&id.number)
    }

    /// The digests that some version refers to: what may not be collected.
    pub fn digests(&self) -> HashSet<Digest> {
        self.functions().flat_map(|function| function.versions.values()).map(|version| version.digest).collect()
    }

    /// The keys with their ids.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Arc<KeyRecord>)> {
        self.keys.iter().map(|(id, key)| (id.as_str(), key))
    }

    /// The key with this id.
    pub fn key(&self, id: &str) -> Option<&Arc<KeyRecord>> {
        self.keys.get(id)
    }

    /// The join token with this id.
    pub fn token(&self, id: &str) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(id)
    }
}
