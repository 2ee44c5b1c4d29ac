//! The seam to wherever code bytes are kept.

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::VersionRecord;
use skein_proto::Failure;
use tokio::time::Instant;

/// Gives the code bytes of a version: from this node's store, or from the peers that have it.
#[async_trait]
pub trait CodeSource: Send + Sync {
    /// The bytes whose digest is `version.digest`, verified.
    ///
    /// # Errors
    /// `artifact-unavailable` when no reachable node has them by `deadline`; nothing was executed.
    async fn code(&self, version: &VersionRecord, deadline: Instant) -> Result<Bytes, Failure>;

    /// Whether the bytes are on this node, so that [`CodeSource::code`] gives them without asking a peer. After it has
    /// given them once they are, until nothing in the catalogue names them any more.
    fn has(&self, version: &VersionRecord) -> bool;
}
