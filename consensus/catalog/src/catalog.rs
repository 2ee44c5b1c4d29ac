//! The replicated state machine as a pure value: what it holds, how it is read, and which part applies a command.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rpds::RedBlackTreeMapSync;
use skein_proto::{AppName, Digest, FunctionId, FunctionName, MeshId, NodeId, VersionId};

use crate::{
    AppRecord, Command, FunctionRecord, KeyRecord, Member, Outcome, Proposal, RequestId, TokenRecord, VersionRecord,
    recent::{Recent, Request},
    refusal::Refusal,
};

mod app;
mod credential;
mod fingerprint;
mod function;
mod member;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use fingerprint::of_bytes as fingerprint_of;
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
    /// Those of the removed that the log has not yet shown to vote no more; see [`Catalog::leaving`].
    leaving: RedBlackTreeMapSync<NodeId, Arc<Member>>,
    /// Who votes on the log itself, by its last membership entry; while that changes, those that did and will.
    voters: BTreeSet<NodeId>,
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
    /// Of all that was applied, in its order; see [`Catalog::fingerprint`].
    fingerprint: u64,
}

impl Catalog {
    /// Applies one committed proposal. Total and deterministic; a refusal changes nothing but `index`, the fingerprint
    /// and the memory of recent requests. A request that is remembered is answered as before and changes nothing but
    /// `index` and the fingerprint; with another command than it came with, it is refused.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        let request = Request::of(proposal);
        let outcome = match self.recent.find(proposal.request) {
            Some(remembered) => remembered.answer(&request),
            None => {
                self.index = self.index.max(index);
                let outcome = self.change(proposal).unwrap_or_else(Outcome::from);
                self.recent.remember(request.with(index, outcome.clone()));
                outcome
            }
        };
        self.note(index, request.command, &outcome);
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
            Command::RemoveMember { node, secured } => self.remove_member(*node, *secured),
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

    /// Notes that the log entry at `index` carried no proposal that can be read, or none at all.
    pub fn advance(&mut self, index: u64) {
        self.note(index, 0, &Outcome::Done);
    }

    /// Notes that from the log entry at `index` on these nodes vote on the log; while that changes, those that did and
    /// those that will.
    pub fn set_voters(&mut self, index: u64, voters: &BTreeSet<NodeId>) {
        self.note(index, fingerprint::of_voters(voters), &Outcome::Done);
        let left: Vec<NodeId> = self.leaving.keys().filter(|node| !voters.contains(*node)).copied().collect();
        for node in left {
            self.leaving.remove_mut(&node);
        }
        self.voters.clone_from(voters);
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

    /// How this proposal was answered, and at which index, if a request with its id is remembered.
    pub fn answered(&self, proposal: &Proposal) -> Option<(u64, Outcome)> {
        let remembered = self.recent.find(proposal.request)?;
        Some((remembered.index, remembered.answer(&Request::of(proposal))))
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

    /// Members that were removed and still vote on the log. They belong to the mesh no more, but must be reachable and
    /// trusted, and may not end: without their votes there may be no majority that could agree to do without them.
    pub fn leaving(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.leaving.values()
    }

    /// Whether this node was removed for good and its vote is not needed any more: it may end, and others may cut it off.
    pub fn has_left(&self, node: NodeId) -> bool {
        self.was_removed(node) && !self.leaving.contains_key(&node)
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
