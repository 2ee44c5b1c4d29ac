//! Who is trusted: the CA's signature first, the catalogue after it.

use std::{net::SocketAddr, sync::OnceLock};

use serde::{Deserialize, Serialize};
use skein_catalog::Watch;
use skein_proto::{Digest, NodeId};
use skein_transport::Trust;

/// A member as a new node is told of it when it is let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KnownPeer {
    pub(super) node: NodeId,
    pub(super) mesh: SocketAddr,
    pub(super) key: Digest,
}

/// The members as the catalogue knows them; until there is one, those this node was told of when it was let in.
///
/// The CA's signature alone is not enough: a node that was removed may still hold the CA.
pub(super) struct Members {
    told: Vec<KnownPeer>,
    catalog: OnceLock<Watch>,
}

impl Members {
    pub(super) fn new(told: Vec<KnownPeer>) -> Self {
        Self { told, catalog: OnceLock::new() }
    }

    /// From now on, asks this catalogue. The network must exist before it.
    pub(super) fn follow(&self, catalog: Watch) {
        let _ = self.catalog.set(catalog);
    }
}

impl Trust for Members {
    fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        if let Some(catalog) = self.catalog.get() {
            let catalog = catalog.borrow();
            if catalog.mesh().is_some() {
                // A replica that is behind refuses a node that was let in just now; that node tries again.
                return catalog.trusts(node, &key);
            }
        }
        self.told.is_empty() || self.told.iter().any(|peer| peer.node == node && peer.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_catalogue_arrives_only_those_it_was_told_of_are_trusted() {
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let mesh = SocketAddr::from(([127, 0, 0, 1], 7070));
        let members = Members::new(vec![KnownPeer { node: NodeId(1), mesh, key }]);
        assert!(members.is_trusted(NodeId(1), key));
        assert!(!members.is_trusted(NodeId(1), other));
        assert!(!members.is_trusted(NodeId(9), key));
    }

    #[test]
    fn once_it_is_there_the_catalogue_decides_alone() {
        use std::sync::Arc;

        use skein_catalog::{Addresses, Catalog, Command, MemberRole, Proposal, RequestId};
        use skein_proto::MeshId;
        let (key, mut catalog) = (Digest::of(b"key"), Catalog::default());
        let address = || "127.0.0.1:1".to_owned();
        let addresses = Addresses { mesh: address(), http: address(), admin: address() };
        let (name, role) = ("n1".parse().unwrap(), MemberRole::Auto);
        let commands =
            [Command::Found { mesh: MeshId::random() }, Command::AddMember { name, key, addresses, role, token: None }];
        for (index, command) in commands.into_iter().enumerate() {
            let request = RequestId(uuid::Uuid::now_v7());
            catalog.apply(index as u64 + 1, &Proposal { request, at_ms: 0, command });
        }
        let members = Members::new(Vec::new());
        let (_tx, watch) = tokio::sync::watch::channel(Arc::new(catalog));
        members.follow(watch);
        assert!(members.is_trusted(NodeId(1), key));
        assert!(!members.is_trusted(NodeId(2), key), "signed by the CA, and yet not a member");
    }
}
