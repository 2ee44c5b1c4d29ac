//! Who is trusted: the CA's signature first, the catalogue after it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use skein_catalog::{Addresses, Catalog, Watch};
use skein_proto::{Digest, NodeId};
use skein_transport::Trust;
use tokio::sync::watch;

/// A member as one node tells another of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownPeer {
    pub(super) node: NodeId,
    pub(super) key: Digest,
    pub(super) addresses: Addresses,
}

/// The members by the word of one of them: what a new node is told when it is let in, and a node that was away when it
/// comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The catalogue's index at which they were members.
    pub(super) index: u64,
    pub(super) peers: Vec<KnownPeer>,
}

/// The members as this node's catalogue knows them; as long as that is older than what a member has told, those, too.
///
/// The CA's signature alone is not enough: a node that was removed may still hold the CA. The own catalogue alone is not
/// enough either: a leader that was let in while this node was away is in no catalogue but the one that only it can
/// send. So one member vouches for another.
pub(super) struct Members {
    told: watch::Sender<Told>,
    catalog: OnceLock<Watch>,
}

impl Members {
    pub(super) fn new(told: Told) -> Self {
        Self { told: watch::Sender::new(told), catalog: OnceLock::new() }
    }

    /// From now on, asks this catalogue. The network must exist before it.
    pub(super) fn follow(&self, catalog: Watch) {
        let _ = self.catalog.set(catalog);
    }

    /// Takes the word of a member, if it is newer than what was told before. Says whether it was.
    pub(super) fn tell(&self, told: Told) -> bool {
        self.told.send_if_modified(|known| {
            let is_newer = told.index > known.index && told.peers.len() <= TOLD_MAX;
            if is_newer {
                *known = told;
            }
            is_newer
        })
    }

    /// Each change of what was told.
    pub(super) fn watch_told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// The others that were vouched for, as far as this catalogue is older than that and does not know better.
    pub(super) fn vouched(&self, catalog: &Catalog) -> Vec<KnownPeer> {
        let told = self.told.borrow();
        if catalog.mesh().is_some() && catalog.index() >= told.index {
            return Vec::new();
        }
        let unknown = |peer: &&KnownPeer| catalog.member(peer.node).is_none() && !catalog.was_removed(peer.node);
        told.peers.iter().filter(unknown).cloned().collect()
    }

    fn is_vouched(&self, catalog: &Catalog, node: NodeId, key: Digest) -> bool {
        self.vouched(catalog).iter().any(|peer| peer.node == node && peer.key == key)
    }
}

/// All members as this catalogue has them: what this node's word is worth to others.
pub(super) fn tell(catalog: &Catalog, addresses: impl Fn(NodeId, &Addresses) -> Addresses) -> Told {
    let peers = catalog.members().map(|member| KnownPeer {
        node: member.node,
        key: member.key,
        addresses: addresses(member.node, &member.addresses),
    });
    Told { index: catalog.index(), peers: peers.collect() }
}

impl Trust for Members {
    fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        let Some(catalog) = self.catalog.get() else { return self.is_vouched(&Catalog::default(), node, key) };
        let catalog = catalog.borrow().clone();
        catalog.trusts(node, &key) || self.is_vouched(&catalog, node, key)
    }

    fn has_left(&self, node: NodeId) -> bool {
        self.catalog.get().is_some_and(|catalog| catalog.borrow().has_left(node))
    }
}

/// Most members that one is believed to know: more than a mesh may have.
const TOLD_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skein_catalog::{Command, MemberRole, Proposal, RequestId};
    use skein_proto::MeshId;

    use super::*;

    fn key(node: u64) -> Digest {
        Digest::of(&node.to_le_bytes())
    }

    fn addresses() -> Addresses {
        let address = || "127.0.0.1:1".to_owned();
        Addresses { mesh: address(), http: address(), admin: address() }
    }

    fn peer(node: u64) -> KnownPeer {
        KnownPeer { node: NodeId(node), key: key(node), addresses: addresses() }
    }

    /// A catalogue after these commands, the first of which founds the mesh.
    fn catalog(commands: Vec<Command>) -> Catalog {
        let mut catalog = Catalog::default();
        let first = Command::Found { mesh: MeshId::random() };
        for (index, command) in std::iter::once(first).chain(commands).enumerate() {
            let request = RequestId(uuid::Uuid::now_v7());
            catalog.apply(index as u64 + 1, &Proposal { request, at_ms: 0, command });
        }
        catalog
    }

    fn add(node: u64, token: Option<&str>) -> Command {
        let (name, role) = (format!("n{node}").parse().unwrap(), MemberRole::Auto);
        let token = token.map(str::to_owned);
        Command::AddMember { name, key: key(node), addresses: addresses(), role, token }
    }

    /// Members of which the catalogue knows the first two, at index 4, and has removed the third if told to.
    fn members(told: Told, is_removed: bool) -> (Members, tokio::sync::watch::Sender<Arc<Catalog>>) {
        let record = skein_catalog::TokenRecord { hash: key(0), role: None, expires_ms: u64::MAX };
        let mut commands =
            vec![add(1, None), Command::CreateToken { id: "t".to_owned(), token: record }, add(2, Some("t"))];
        if is_removed {
            commands.extend([add(3, Some("t")), Command::RemoveMember { node: NodeId(3) }]);
        }
        let (tx, watch) = tokio::sync::watch::channel(Arc::new(catalog(commands)));
        let members = Members::new(told);
        members.follow(watch);
        (members, tx)
    }

    #[test]
    fn before_the_catalogue_arrives_only_those_it_was_told_of_are_trusted() {
        let members = Members::new(Told { index: 5, peers: vec![peer(1)] });
        assert!(members.is_trusted(NodeId(1), key(1)));
        assert!(!members.is_trusted(NodeId(1), key(2)));
        assert!(!members.is_trusted(NodeId(9), key(9)));
        assert!(!Members::new(Told::default()).is_trusted(NodeId(1), key(1)), "told of nobody, it trusts nobody");
    }

    #[test]
    fn a_catalogue_as_new_as_what_was_told_decides_alone() {
        let (members, _tx) = members(Told { index: 4, peers: vec![peer(1), peer(9)] }, false);
        assert!(members.is_trusted(NodeId(1), key(1)));
        assert!(!members.is_trusted(NodeId(9), key(9)), "signed by the CA, and yet not a member");
    }

    #[test]
    fn who_joined_while_this_node_was_away_is_trusted_by_the_word_of_a_member() {
        let (members, _tx) = members(Told::default(), false);
        assert!(!members.is_trusted(NodeId(3), key(3)));
        assert!(members.tell(Told { index: 9, peers: vec![peer(1), peer(2), peer(3)] }));
        assert!(members.is_trusted(NodeId(3), key(3)));
        assert!(!members.is_trusted(NodeId(3), key(4)), "with its own key only");
        assert!(!members.tell(Told { index: 8, peers: Vec::new() }), "older words do not count");
        assert!(members.is_trusted(NodeId(3), key(3)));
    }

    #[test]
    fn who_was_removed_is_not_trusted_whoever_vouches_for_it() {
        let (members, _tx) = members(Told { index: 99, peers: vec![peer(3)] }, true);
        assert!(!members.is_trusted(NodeId(3), key(3)));
    }
}
