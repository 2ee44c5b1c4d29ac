//! What a publisher sends, and what became of it.

use serde::{Deserialize, Serialize};
use skein_proto::{AliasName, AppName, Digest, FunctionName, Manifest, NodeName};

/// The answer to `PUT /v1/artifacts/{digest}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactStored {
    /// The artifact's digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// `POST /v1/functions/{app}/{name}/versions`: the artifact is there already, now it becomes a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The version's settings. Its app and name are those of the path.
    pub manifest: Manifest,
    /// The code, put before under this digest.
    pub digest: Digest,
    /// The publisher's remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The alias to move to the new version, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// Refuse unless this is the newest version so far (0: there is none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// Answer only when every live node serves the version (the default), or at once when it is committed.
    #[serde(default = "yes")]
    pub wait: bool,
}

fn yes() -> bool {
    true
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReport {
    /// The function's app.
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// The new version's number.
    pub version: u64,
    /// Its code.
    pub digest: Digest,
    /// The code's size in bytes.
    pub size: u64,
    /// The catalogue index of the publication.
    pub index: u64,
    /// The alias that points at it now, if one was moved.
    #[serde(default)]
    pub alias: Option<AliasName>,
    /// The nodes that have the code durably.
    #[serde(default)]
    pub holders: Vec<NodeName>,
    /// How many more live nodes should have had it, but did not take it; copies are made by themselves.
    #[serde(default)]
    pub copies_missing: u32,
    /// The live nodes that said they serve it.
    #[serde(default)]
    pub serving: Vec<NodeName>,
    /// The live nodes that had not said so when the answer was given; they go on by themselves.
    #[serde(default)]
    pub pending: Vec<NodeName>,
    /// Where the time went.
    #[serde(default)]
    pub timings: PublishTimings,
}

/// Where the time of a publication went, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishTimings {
    /// Checking the module.
    pub inspect_us: u64,
    /// Storing and replicating the code.
    pub store_us: u64,
    /// From the proposal to its being applied here.
    pub commit_us: u64,
    /// From then until the live nodes served it, compiling included.
    pub serve_us: u64,
}
