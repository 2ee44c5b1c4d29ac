//! Apps as the admin API makes and shows them.

use serde::{Deserialize, Serialize};
use skein_catalog::Binding;
use skein_proto::{AppName, NodeName};

/// `POST /v1/apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRequest {
    /// The new app.
    pub name: AppName,
    /// The nodes that its functions may run on; all if left out.
    #[serde(default)]
    pub binding: Binding,
}

/// The apps, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppList {
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// The catalogue index this is as of.
    pub index: u64,
}

/// An app and where its functions may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: AppName,
    /// The nodes that its functions may run on; empty for all.
    pub binding: Binding,
    /// The same in words.
    pub bound_to: String,
    /// The members that are among them now, up or not.
    pub nodes: Vec<NodeName>,
    /// How many functions it owns.
    pub functions: usize,
    /// The catalogue index this is as of.
    pub index: u64,
}
