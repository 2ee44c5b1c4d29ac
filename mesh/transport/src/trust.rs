//! Who is believed beyond the CA's signature.

use skein_proto::{Digest, NodeId};

/// Says whether a node, already proved to be signed by the mesh's CA, is a member now. Asked in every handshake, on
/// the network's own thread: it must answer from memory.
pub trait Trust: Send + Sync {
    /// Whether `node` may take part with the key that has this digest.
    fn is_trusted(&self, node: NodeId, key: Digest) -> bool;

    /// Whether `node` was a member and was removed for good, so that it may be told. Nothing else is granted by it.
    fn has_left(&self, _node: NodeId) -> bool {
        false
    }
}

impl<F: Fn(NodeId, Digest) -> bool + Send + Sync> Trust for F {
    fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        self(node, key)
    }
}
