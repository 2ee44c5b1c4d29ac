//! Keys and join tokens as the admin API makes and shows them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skein_catalog::{MemberRole, Role};
use skein_proto::AppName;

/// `POST /v1/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What it allows.
    pub role: Role,
    /// The app it is good for; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The maker's remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How long it is good for, in milliseconds; none for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A new key. Its text is shown here and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// The key's text, the secret in it.
    pub key: String,
    /// Its id, as listings show it.
    pub id: String,
    /// What it allows.
    pub role: Role,
    /// The app it is good for; none for all.
    #[serde(default)]
    pub app: Option<AppName>,
    /// When it ends, if ever, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// The catalogue index of its making.
    pub index: u64,
}

impl std::fmt::Debug for KeyCreated {
    /// Without the secret: what is debug-printed ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCreated").field("id", &self.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySummary {
    /// Its id.
    pub id: String,
    /// What it allows.
    pub role: Role,
    /// The app it is good for; none for all.
    #[serde(default)]
    pub app: Option<AppName>,
    /// The maker's remark.
    #[serde(default)]
    pub note: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it ends, if ever, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// True once it has ended.
    #[serde(default)]
    pub is_expired: bool,
}

/// All keys, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeySummary>,
    /// The catalogue index this shows.
    pub index: u64,
}

/// Longest life of a join token: what lies about is found by somebody.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// `POST /v1/tokens`; the body may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// How long it is good for, in milliseconds; an hour unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The role of nodes that come with it; none leaves the choice to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
}

/// A new join token. Its text is shown here and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The token's text, the secret in it.
    pub token: String,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl std::fmt::Debug for TokenCreated {
    /// Without the secret: what is debug-printed ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}
