//! Who the nodes are: a key and certificate for each, made once for all runs of a process. No run depends on which.

use std::sync::OnceLock;

use skein_proto::{MeshId, NodeId};
use skein_transport::{Authority, Identity, NodeKey, Validity};
use uuid::Uuid;

use crate::world::NODES_MAX;

/// The mesh that every run is about.
pub(crate) const MESH: MeshId = MeshId(Uuid::from_u128(1));

/// The identity of a node.
pub(crate) fn of(node: NodeId) -> &'static Identity {
    static ALL: OnceLock<Vec<Identity>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let authority = Authority::found(MESH).unwrap();
        let identity = |node| {
            let key = NodeKey::generate().unwrap();
            let certificate = authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
            Identity::new(key, &certificate, authority.certificate()).unwrap()
        };
        (1..=NODES_MAX).map(identity).collect()
    });
    &all[usize::try_from(node.0 - 1).unwrap()]
}
