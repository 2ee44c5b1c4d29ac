//! The things the catalogue keeps: members, functions, versions, keys, tokens.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use skein_proto::{AliasName, AppName, Digest, FunctionId, FunctionName, Manifest, NodeId, NodeName};

use crate::{Addresses, Binding};

/// A node that belongs to the mesh, whether or not it is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    pub key: Digest,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Whether it may vote.
    pub role: MemberRole,
    /// True while it is leaving and takes no new calls.
    pub is_draining: bool,
    /// What it says of itself, for apps to be bound by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Whether a member may vote. Whether it does now is Raft's membership, not this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// The mesh decides. The default.
    #[default]
    Auto,
    /// Preferred as a voter.
    Voter,
    /// Never votes.
    Worker,
}

/// An app that was declared: where its functions may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its name.
    pub name: AppName,
    /// The nodes that its functions may run on.
    #[serde(default)]
    pub binding: Binding,
    /// The log index as of which it is bound so.
    pub index: u64,
}

/// A function: its versions and where its aliases point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Its id, never used twice.
    pub id: FunctionId,
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub name: FunctionName,
    /// Its versions by number; shared between catalogues that have them in common.
    pub versions: BTreeMap<u64, Arc<VersionRecord>>,
    /// Its aliases, each with the versions it pointed at, oldest first, the present one last; at most 16.
    pub aliases: BTreeMap<AliasName, Vec<u64>>,
}

/// One immutable version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its number, from 1.
    pub number: u64,
    /// Its settings.
    pub manifest: Manifest,
    /// Its code.
    pub digest: Digest,
    /// The code's size in bytes.
    pub size: u64,
    /// Nodes that had the code when it was published.
    pub holders: Vec<NodeId>,
    /// The publisher's remark.
    pub note: String,
    /// The id of the publisher's key.
    pub author: String,
    /// When it was published, in milliseconds since the Unix epoch, by the publishing node's clock.
    pub published_ms: u64,
    /// The log index of its publication.
    pub index: u64,
}

/// A credential for an entrance. The secret itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// SHA-256 of the secret (32 random bytes, so a plain hash is enough).
    pub hash: Digest,
    /// What it allows.
    pub role: Role,
    /// The app it is good for; none for all.
    pub app: Option<AppName>,
    /// The maker's remark.
    pub note: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it ends, if ever, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// What a key allows; each role includes the ones above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Call functions.
    Invoke,
    /// See everything but secrets.
    Read,
    /// Publish, move aliases, delete functions.
    Publish,
    /// Everything: nodes, tokens, keys.
    Admin,
}

/// Leave to join the mesh. The secret itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    pub hash: Digest,
    /// The role of nodes that come with it; none leaves the choice to them.
    pub role: Option<MemberRole>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}
