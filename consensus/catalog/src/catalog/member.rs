//! Commands on members: who belongs to the mesh, where they are reached, who has left for good.

use std::{collections::BTreeMap, sync::Arc};

use skein_proto::{Digest, ErrorCode, NodeId, NodeName};

use super::Catalog;
use crate::{
    Addresses, Member, MemberRole, Outcome, VersionRecord,
    binding::check_labels,
    refusal::{Refusal, check_length, listed},
};

/// A node that wants to belong.
pub(super) struct Joiner<'a> {
    pub(super) name: &'a NodeName,
    pub(super) key: Digest,
    pub(super) addresses: &'a Addresses,
    pub(super) role: MemberRole,
}

impl Catalog {
    pub(super) fn add_member(
        &mut self,
        joiner: Joiner<'_>,
        token: Option<&str>,
        at_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if let Some(node) = self.nodes_by_key.get(&joiner.key) {
            // A join that is repeated changes nothing, so it needs no token: its own may have expired meanwhile.
            return if self.was_removed(*node) {
                let message = format!("node {node} had this key and was removed for good; join with a new key");
                Err(Refusal::new(ErrorCode::Untrusted, message))
            } else {
                Ok(Outcome::Member(*node))
            };
        }
        let token_role = self.check_token(token, at_ms)?;
        check_addresses(joiner.addresses)?;
        if let Some(other) = self.member_named(joiner.name.as_str()) {
            let taken = self.members().map(|member| &member.name);
            let message = format!(
                "node {} is already named {name}; taken: {}. Choose another name; or, if that node is gone for good, \
                 take it off first with `skein node remove {name}`",
                other.node,
                listed(taken),
                name = joiner.name
            );
            return Err(Refusal::conflict(message));
        }
        if self.members.size() >= MEMBERS_MAX {
            return Err(Refusal::conflict(format!("the mesh has {MEMBERS_MAX} members, the most there may be")));
        }
        self.node_last += 1;
        let node = NodeId(self.node_last);
        self.insert_member(Member {
            node,
            name: joiner.name.clone(),
            key: joiner.key,
            addresses: joiner.addresses.clone(),
            role: token_role.unwrap_or(joiner.role),
            is_draining: false,
            labels: BTreeMap::new(),
        });
        Ok(Outcome::Member(node))
    }

    /// The role that the token demands, if any. Only the founder, the first member ever, comes without one.
    fn check_token(&self, token: Option<&str>, at_ms: u64) -> Result<Option<MemberRole>, Refusal> {
        let Some(id) = token else {
            let is_founder = self.node_last == 0;
            let refusal = Refusal::new(ErrorCode::BadToken, "a join needs a token; only the founder comes without one");
            return if is_founder { Ok(None) } else { Err(refusal) };
        };
        let Some(record) = self.tokens.get(id) else {
            return Err(Refusal::new(ErrorCode::BadToken, "the join token is not known here"));
        };
        if at_ms >= record.expires_ms {
            let late_s = (at_ms - record.expires_ms) / 1_000;
            return Err(Refusal::new(ErrorCode::BadToken, format!("the join token expired {late_s} s ago")));
        }
        Ok(record.role)
    }

    pub(super) fn insert_member(&mut self, member: Member) {
        self.nodes_by_key.insert_mut(member.key, member.node);
        self.members.insert_mut(member.node, Arc::new(member));
    }

    pub(super) fn update_member(&mut self, node: NodeId, addresses: &Addresses) -> Result<Outcome, Refusal> {
        check_addresses(addresses)?;
        let member = self.existing(node)?;
        if member.addresses != *addresses {
            let changed = Member { addresses: addresses.clone(), ..(**member).clone() };
            self.insert_member(changed);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_member(&mut self, node: NodeId, secured: Option<u64>) -> Result<Outcome, Refusal> {
        if self.was_removed(node) {
            return Ok(Outcome::Done);
        }
        let member = self.existing(node)?.clone();
        if self.members.size() == 1 {
            return Err(Refusal::conflict(format!("node {node} is the last member; a mesh has at least one")));
        }
        if self.is_only_elector(node) {
            let message = format!(
                "node {node} ({}) is the only member that is no worker: without it nobody could ever vote. Let a node \
                 join that is no worker first",
                member.name
            );
            return Err(Refusal::conflict(message));
        }
        if let Some(version) = secured.and_then(|index| self.copied_to_since(node, index)) {
            let message = format!(
                "node {node} ({}) took a copy of {}/{}@{} since the others were seen to have enough of all code: see again",
                member.name, version.manifest.app, version.manifest.name, version.number
            );
            return Err(Refusal::conflict(message));
        }
        if self.voters.contains(&node) {
            // One voter at a time: so whoever is taken off next is weighed against those that vote by then.
            if let Some(other) = self.leaving.values().next() {
                let message = format!(
                    "node {} ({}) was removed and still votes; only when the others go on without it can the next \
                     voter be removed. Wait a moment",
                    other.node, other.name
                );
                return Err(Refusal::conflict(message));
            }
            self.leaving.insert_mut(node, member.clone());
        }
        self.members.remove_mut(&node);
        self.removed.insert_mut(node, member.key);
        Ok(Outcome::Done)
    }

    /// A version that was published after `index` and counts on `node` for a copy.
    fn copied_to_since(&self, node: NodeId, index: u64) -> Option<&Arc<VersionRecord>> {
        let mut versions = self.functions().flat_map(|function| function.versions.values());
        versions.find(|version| version.index > index && version.holders.contains(&node))
    }

    pub(super) fn set_draining(&mut self, node: NodeId, is_draining: bool) -> Result<Outcome, Refusal> {
        let member = self.existing(node)?;
        if member.is_draining != is_draining {
            let changed = Member { is_draining, ..(**member).clone() };
            self.insert_member(changed);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn set_labels(&mut self, node: NodeId, labels: &BTreeMap<String, String>) -> Result<Outcome, Refusal> {
        check_labels(labels).map_err(Refusal::bad_request)?;
        let member = self.existing(node)?;
        if member.labels != *labels {
            let changed = Member { labels: labels.clone(), ..(**member).clone() };
            self.insert_member(changed);
        }
        Ok(Outcome::Done)
    }

    /// Whether `node` is the only member that may vote: all others are workers.
    pub fn is_only_elector(&self, node: NodeId) -> bool {
        let mut electors = self.members().filter(|member| member.role != MemberRole::Worker);
        electors.next().is_some_and(|first| first.node == node) && electors.next().is_none()
    }

    /// Whether `node` is a member now, or was one and still votes, and `key` is its key.
    pub fn trusts(&self, node: NodeId, key: &Digest) -> bool {
        let known = self.member(node).or_else(|| self.leaving.get(&node));
        known.is_some_and(|member| member.key == *key)
    }

    fn existing(&self, node: NodeId) -> Result<&Arc<Member>, Refusal> {
        self.member(node).ok_or_else(|| {
            let message = if self.was_removed(node) {
                format!("node {node} was removed for good")
            } else {
                let known = self.members().map(|member| format!("{} ({})", member.node, member.name));
                format!("no member has id {node}; members: {}", listed(known))
            };
            Refusal::new(ErrorCode::NotFound, message)
        })
    }
}

fn check_addresses(addresses: &Addresses) -> Result<(), Refusal> {
    check_length("mesh address", &addresses.mesh, ADDRESS_BYTES_MAX)?;
    check_length("gateway address", &addresses.http, ADDRESS_BYTES_MAX)?;
    check_length("admin address", &addresses.admin, ADDRESS_BYTES_MAX)
}

/// Most members: ten times the largest mesh that is meant, so that a loop of joins ends.
pub(super) const MEMBERS_MAX: usize = 1_024;
/// Longest address: a DNS name of 253 bytes, a colon and a port.
const ADDRESS_BYTES_MAX: usize = 259;
