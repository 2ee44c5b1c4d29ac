//! Every request and answer of the admin API, as the server writes and the command line reads them.
//!
//! Requests refuse unknown fields, so that a misspelt one is noticed; answers may gain fields, and readers skip those
//! they do not know.

mod app;
mod error;
mod function;
mod key;
mod node;
mod publish;
mod why;

pub use app::{AppList, AppRequest, AppStatus};
pub use error::{ErrorPage, Problem};
pub use function::{
    AliasReport, AliasRequest, AliasStatus, FunctionDetail, FunctionList, FunctionQuery, FunctionState,
    FunctionSummary, MoveReport, MoveRequest, RollbackRequest, VersionList, VersionQuery, VersionSummary,
};
pub use key::{KeyCreated, KeyList, KeyRequest, KeySummary, TOKEN_TTL_MAX, TokenCreated, TokenRequest};
pub use node::{
    ActivationSummary, ConsensusRole, ConsensusStatus, MeshStatus, NodeList, NodeLoad, NodeQuery, NodeState,
    NodeStatus, Warning,
};
pub use publish::{ArtifactStored, PublishReport, PublishRequest, PublishTimings};
pub use why::{WhyAttempt, WhyCall, WhyCandidate, WhyFailure, WhyReport, WhyTimes};

use serde::{Deserialize, Serialize};

/// The answer to a change that has nothing else to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The catalogue index at which the change was applied; a caller that presents it is never served older state.
    pub index: u64,
}
