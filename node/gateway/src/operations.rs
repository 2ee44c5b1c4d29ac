//! The seam to the assembly: what the admin API asks of the node beyond the catalogue.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::{MemberRole, RequestId, VersionRecord};
use skein_proto::{Digest, Failure, InvocationId, NodeName, VersionId};

use crate::api::{
    Done, MeshStatus, MoveReport, MoveRequest, NodeStatus, PublishReport, PublishRequest, TokenCreated, WhyReport,
};

/// What the node as a whole can do. The gateway has authorized the caller before it asks.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Stores an artifact durably on this node. Its size is within
    /// [`Limits::ARTIFACT_BYTES_MAX`](skein_proto::Limits::ARTIFACT_BYTES_MAX) and its digest has been checked.
    ///
    /// # Errors
    /// `disk-full` and the like; nothing half-done is left.
    async fn put_artifact(&self, bytes: Bytes) -> Result<Digest, Failure>;

    /// Makes a version of an artifact that was put before: inspects it, replicates it, has it committed and, if asked
    /// to, waits until the live nodes serve it. `author` is the key's id.
    ///
    /// # Errors
    /// `artifact-unavailable`, `bad-module`, `bad-manifest`, `conflict`, `no-quorum`.
    async fn publish(
        &self,
        publish: PublishRequest,
        author: String,
        request: RequestId,
    ) -> Result<PublishReport, Failure>;

    /// The members, by id.
    async fn nodes(&self) -> Vec<NodeStatus>;

    /// The mesh on one page.
    async fn status(&self) -> MeshStatus;

    /// What became of a recent call, as the node that took it knows.
    ///
    /// # Errors
    /// `not-found` if no node that answers keeps it any more, with how long they do.
    async fn why(&self, invocation: InvocationId) -> Result<WhyReport, Failure>;

    /// Has a node take no new calls and hand over what it leads, once others have copies of the code it keeps. With
    /// `force` also where that leaves an app without a node, or code with too few copies.
    ///
    /// # Errors
    /// `not-found` for an unknown node, `conflict` for what `force` would go over, `no-quorum`.
    async fn drain(&self, node: &NodeName, force: bool) -> Result<Done, Failure>;

    /// Has a drained node take calls again.
    ///
    /// # Errors
    /// `not-found` for an unknown node, `no-quorum`.
    async fn resume(&self, node: &NodeName) -> Result<Done, Failure>;

    /// Takes a node off the mesh for good, once others have copies of the code it keeps. With `force` also where that
    /// leaves code with too few copies or none.
    ///
    /// # Errors
    /// `not-found` for an unknown node, `conflict` if the mesh or some code would not survive it, `no-quorum`.
    async fn remove(&self, node: &NodeName, force: bool) -> Result<Done, Failure>;

    /// Makes sure that the code of a version can be had, before an alias moves onto it: this node has it afterwards.
    ///
    /// # Errors
    /// `artifact-unavailable` if no node that answers has it.
    async fn secure_code(&self, version: &VersionRecord) -> Result<(), Failure>;

    /// Moves a live version from one node to another: ready there first, then drained here. It is in the catalogue.
    ///
    /// # Errors
    /// `not-found` for an unknown node; `bad-request` if the two are the same; `unavailable` if the new place takes
    /// nothing; why it could not start there; `conflict` if it is not live at the old place.
    async fn move_version(&self, version: VersionId, request: MoveRequest) -> Result<MoveReport, Failure>;

    /// Makes a join token.
    ///
    /// # Errors
    /// `no-quorum`.
    async fn create_token(&self, ttl: Duration, role: Option<MemberRole>) -> Result<TokenCreated, Failure>;

    /// The effective configuration with its sources, without secrets.
    fn config(&self) -> serde_json::Value;

    /// Whether requests may be answered by the catalogue as it is here: not by one that lacks what the mesh decided while
    /// this node was away. Asked with every request.
    fn is_serving(&self) -> bool {
        true
    }

    /// Waits until they may, for a moment.
    ///
    /// # Errors
    /// `unavailable`, `not-executed`, with when to come back.
    async fn until_serving(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether this node should be sent calls: founded, not draining, quorum known.
    ///
    /// # Errors
    /// What is missing: `unavailable`, `draining` or `no-quorum`.
    fn readiness(&self) -> Result<(), Failure>;
}
