//! The replicated state machine as a pure value.

use std::sync::Arc;

use bytes::Bytes;
use skein_proto::{AppName, FunctionName, MeshId, NodeId, VersionId};

use crate::{FunctionRecord, KeyRecord, Member, Outcome, Proposal, TokenRecord, VersionRecord};

/// Everything the mesh agrees on. Cloning is cheap: replicas of it share what they have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {}

/// Bytes that are not a snapshot of a catalogue this release can read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {}

impl Catalog {
    /// Applies one committed proposal. Total and deterministic; a refusal changes nothing but `index`.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        let _ = (index, proposal);
        Outcome::Done
    }

    /// Notes that the log entry at `index` carried no proposal (a blank entry or a membership change).
    pub fn advance(&mut self, index: u64) {
        let _ = index;
    }

    /// The index of the last entry applied.
    pub fn index(&self) -> u64 {
        0
    }

    /// The mesh, once founded.
    pub fn mesh(&self) -> Option<MeshId> {
        None
    }

    /// The members, by id. Removed ones are not among them.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        std::iter::empty()
    }

    /// One member.
    pub fn member(&self, node: NodeId) -> Option<&Arc<Member>> {
        let _ = node;
        None
    }

    /// Whether this node was a member once and was removed for good.
    pub fn was_removed(&self, node: NodeId) -> bool {
        let _ = node;
        false
    }

    /// The functions, by app and name.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<FunctionRecord>> {
        std::iter::empty()
    }

    /// One function.
    pub fn function(&self, app: &AppName, name: &FunctionName) -> Option<&Arc<FunctionRecord>> {
        let _ = (app, name);
        None
    }

    /// One version, by id.
    pub fn version(&self, id: VersionId) -> Option<&Arc<VersionRecord>> {
        let _ = id;
        None
    }

    /// The keys with their ids.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Arc<KeyRecord>)> {
        std::iter::empty()
    }

    /// The key with this id.
    pub fn key(&self, id: &str) -> Option<&Arc<KeyRecord>> {
        let _ = id;
        None
    }

    /// The join token with this id.
    pub fn token(&self, id: &str) -> Option<&Arc<TokenRecord>> {
        let _ = id;
        None
    }

    /// The whole catalogue as bytes; equal catalogues give equal bytes.
    ///
    /// # Errors
    /// Never for a catalogue built by `apply`; kept as a result so that no input can panic.
    pub fn to_snapshot(&self) -> Result<Bytes, SnapshotError> {
        Ok(Bytes::new())
    }

    /// The catalogue in `bytes`.
    ///
    /// # Errors
    /// For bytes that are truncated, altered or of a newer release.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let _ = bytes;
        Ok(Self::default())
    }
}
