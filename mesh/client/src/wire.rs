//! The messages between a client and a node: calls on [`Service::Client`](skein_transport::Service::Client), and which
//! nodes there are on [`Service::Nodes`](skein_transport::Service::Nodes).
//!
//! MessagePack with named fields, so that either side may be the newer one: fields that are not known are skipped, and
//! those that came later have defaults.

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use skein_proto::{FunctionRef, InvocationId, Reply};

/// One call, as a client sends it. The caller's key is not in it: it comes before it, in the first frame.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRequest {
    /// The invocation, the same for every attempt.
    pub invocation: InvocationId,
    /// What to call.
    pub reference: FunctionRef,
    /// The input.
    pub payload: Bytes,
    /// Names and values for the function. Of more than are taken, one more is read and the rest skipped.
    #[serde(default, deserialize_with = "few")]
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
/// The key that it shows is in the first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesRequest {}

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

impl std::fmt::Debug for ClientRequest {
    /// Without the payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientRequest")
            .field("invocation", &self.invocation)
            .field("reference", &format_args!("{}", self.reference))
            .field("payload_bytes", &self.payload.len())
            .field("deadline_ms", &self.deadline_ms)
            .finish_non_exhaustive()
    }
}

/// Headers, of which memory holds at most one more than are taken: one of two empty strings has 3 bytes on the wire and 48
/// in memory.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of names and values")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut headers = Vec::new();
            while headers.len() <= HEADERS_MAX {
                match list.next_element()? {
                    Some(header) => headers.push(header),
                    None => return Ok(headers),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(headers)
        }
    }

    deserializer.deserialize_seq(Few)
}

/// Most headers of a request.
pub(crate) const HEADERS_MAX: usize = 128;

#[cfg(test)]
mod tests;
