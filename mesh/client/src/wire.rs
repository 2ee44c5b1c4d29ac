//! The messages between a client and a node: calls on [`Service::Client`](skein_transport::Service::Client), and which
//! nodes there are on [`Service::Nodes`](skein_transport::Service::Nodes).
//!
//! MessagePack with named fields, so that either side may be the newer one: fields that are not known are skipped, and
//! those that came later have defaults.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{FunctionRef, InvocationId, Reply};

/// One call, as a client sends it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRequest {
    /// The caller's key.
    pub key: String,
    /// The invocation, the same for every attempt.
    pub invocation: InvocationId,
    /// What to call.
    pub reference: FunctionRef,
    /// The input.
    pub payload: Bytes,
    /// Names and values for the function.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// How long the caller goes on waiting, in milliseconds.
    pub deadline_ms: u64,
    /// The W3C `traceparent` to go on with.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The oldest catalogue index that may answer; 0 for any.
    #[serde(default)]
    pub index_min: u64,
    /// True if running twice does no harm.
    #[serde(default)]
    pub is_idempotent: bool,
    /// True if a node was lost while it had the call. Only sent when it is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_lost: bool,
}

/// The answer to one call that succeeded. Failures travel as such, beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReply {
    /// The result, and how it was run.
    pub reply: Reply,
    /// The name of the node where it ran; empty if the answering node does not know it.
    #[serde(default)]
    pub node_name: String,
}

/// A client asks which nodes there are, on [`Service::Nodes`](skein_transport::Service::Nodes).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesRequest {
    /// The caller's key.
    pub key: String,
}

/// The nodes of the mesh, as the one that was asked knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesReply {
    /// In no order; none if the node has not heard of its mesh yet.
    pub nodes: Vec<NodeAddress>,
}

/// Where a node is reached by clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Its name.
    pub name: String,
    /// Its mesh address, as `host:port`.
    pub mesh: String,
}

impl std::fmt::Debug for NodesRequest {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodesRequest").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientRequest {
    /// Without the key, and without the payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientRequest")
            .field("invocation", &self.invocation)
            .field("reference", &format_args!("{}", self.reference))
            .field("payload_bytes", &self.payload.len())
            .field("deadline_ms", &self.deadline_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
