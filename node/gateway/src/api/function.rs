//! Functions, versions and aliases as the admin API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skein_proto::{AliasName, AppName, Digest, FunctionId, FunctionName, Manifest, NodeName};

/// The query of `GET /v1/functions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionQuery {
    /// Words that must all match. A plain word matches name, app, category, tag, description or state; `app:shop`,
    /// `name:`, `category:`, `tag:`, `description:`, `state:`, `author:` and `alias:` look at one of them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub q: String,
    /// Most functions in the answer; 100 unless given, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Go on after this `app/name`, as the answer before said in `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One page of functions, by app and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionList {
    /// The functions.
    pub functions: Vec<FunctionSummary>,
    /// How many match in all.
    pub total: usize,
    /// What to send as `after` for the next page; none on the last.
    #[serde(default)]
    pub next: Option<String>,
    /// The catalogue index this shows.
    pub index: u64,
}

/// A function in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSummary {
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub name: FunctionName,
    /// Whether callers that name no version reach it.
    pub state: FunctionState,
    /// The newest version.
    pub latest: u64,
    /// How many versions there are.
    pub versions: usize,
    /// Where each alias points.
    pub aliases: BTreeMap<AliasName, u64>,
    /// The newest version's description.
    #[serde(default)]
    pub description: String,
    /// The newest version's category.
    #[serde(default)]
    pub category: String,
    /// The newest version's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The id of the key that published the newest version.
    #[serde(default)]
    pub author: String,
    /// When the newest version was published, in milliseconds since the Unix epoch.
    pub published_ms: u64,
}

/// Whether callers that name no version reach a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FunctionState {
    /// The default alias points at a version.
    Live,
    /// It has versions, but the default alias is not set.
    Staged,
}

impl FunctionState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Staged => "staged",
        }
    }
}

/// A function with its aliases and newest versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDetail {
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub name: FunctionName,
    /// Its id, never used twice.
    pub id: FunctionId,
    /// Whether callers that name no version reach it.
    pub state: FunctionState,
    /// Its aliases.
    pub aliases: BTreeMap<AliasName, AliasStatus>,
    /// How many versions there are.
    pub version_count: usize,
    /// The newest ones, newest first; at most 100. `GET …/versions` has them all.
    pub versions: Vec<VersionSummary>,
    /// The catalogue index this shows.
    pub index: u64,
}

/// Where an alias points, and where it pointed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasStatus {
    /// The version it points at.
    pub version: u64,
    /// The versions it pointed at before, the latest first; a rollback returns to the first of them.
    #[serde(default)]
    pub before: Vec<u64>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// Its number, from 1.
    pub number: u64,
    /// Its code.
    pub digest: Digest,
    /// The code's size in bytes.
    pub size: u64,
    /// The publisher's remark.
    #[serde(default)]
    pub note: String,
    /// The id of the publisher's key.
    #[serde(default)]
    pub author: String,
    /// When it was published, in milliseconds since the Unix epoch.
    pub published_ms: u64,
    /// The catalogue index of its publication.
    pub index: u64,
    /// The aliases that point at it.
    #[serde(default)]
    pub aliases: Vec<AliasName>,
    /// The nodes that had the code when it was published, as far as they are still members.
    #[serde(default)]
    pub holders: Vec<NodeName>,
    /// Its settings, limits among them.
    pub manifest: Manifest,
}

/// One page of versions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionList {
    /// The versions.
    pub versions: Vec<VersionSummary>,
    /// How many there are in all.
    pub total: usize,
    /// What to send as `before` for the next page; none on the last.
    #[serde(default)]
    pub next: Option<u64>,
    /// The catalogue index this shows.
    pub index: u64,
}

/// The query of `GET /v1/functions/{app}/{name}/versions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VersionQuery {
    /// Most versions in the answer; 100 unless given, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only versions below this one, as the answer before said in `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// `PUT /v1/functions/{app}/{name}/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// The version it is to point at.
    pub version: u64,
    /// Refuse unless it points at this now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// `POST /v1/functions/{app}/{name}/aliases/{alias}/rollback`; the body may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version to return to; none for the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Where an alias points after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasReport {
    /// The function's app.
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// The alias.
    pub alias: AliasName,
    /// The version it points at now.
    pub version: u64,
    /// The version it pointed at before, if any.
    #[serde(default)]
    pub before: Option<u64>,
    /// The catalogue index of the change.
    pub index: u64,
}

/// `POST /v1/functions/{app}/{name}/versions/{number}/migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The node that it is to leave.
    pub from: NodeName,
    /// The node that it is to run on.
    pub to: NodeName,
}

/// A version that has moved to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// The function's app.
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// The version.
    pub version: u64,
    /// The node that it left.
    pub from: NodeName,
    /// The node that it is warm on.
    pub to: NodeName,
    /// Calls that still run where it was, to their end.
    pub running: u32,
    /// Microseconds until it was ready at the new place.
    pub warm_us: u64,
    /// Microseconds from then until the old place took no new calls.
    pub release_us: u64,
}
