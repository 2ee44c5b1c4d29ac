//! Who is trusted: the CA's signature first, the catalogue after it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use skein_catalog::{Addresses, Catalog, Watch};
use skein_proto::{Digest, NodeId};
use skein_transport::Trust;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// A member as one node tells another of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Which.
    pub node: NodeId,
    /// The digest of its public key.
    pub key: Digest,
    /// Where it is reached, as far as the one who tells knows.
    pub addresses: Addresses,
}

/// The members by the word of one of them: what a new node is told when it is let in, and a node that was away when it
/// comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The catalogue's index at which they were members.
    pub index: u64,
    /// Who they are; the one who tells among them. At most 2,048 are believed.
    pub peers: Vec<KnownPeer>,
}

impl Told {
    /// All members as this catalogue has them: what a node's word is worth to others. `addresses` gives where each is
    /// reached, of which the catalogue's may not be the newest word.
    pub fn by(catalog: &Catalog, addresses: impl Fn(NodeId, &Addresses) -> Addresses) -> Self {
        let peers = catalog.members().map(|member| KnownPeer {
            node: member.node,
            key: member.key,
            addresses: addresses(member.node, &member.addresses),
        });
        Self { index: catalog.index(), peers: peers.collect() }
    }
}

/// The members as this node's catalogue knows them; as long as that is older than what a member has told, those, too.
///
/// The CA's signature alone is not enough: a node that was removed may still hold the CA. The own catalogue alone is not
/// enough either: a leader that was let in while this node was away is in no catalogue but the one that only it can
/// send. So one member vouches for another.
pub struct Members {
    told: watch::Sender<Told>,
    catalog: OnceLock<Watch>,
}

impl Members {
    /// Those that this node was told of, until there is a catalogue to [follow](Self::follow).
    pub fn new(told: Told) -> Self {
        Self { told: watch::Sender::new(told), catalog: OnceLock::new() }
    }

    /// From now on, asks this catalogue. The network must exist before it.
    pub fn follow(&self, catalog: Watch) {
        let _ = self.catalog.set(catalog);
    }

    /// Takes the word of a member, if it is newer than what was told before. Says whether it was.
    pub fn tell(&self, told: Told) -> bool {
        self.told.send_if_modified(|known| {
            let is_newer = told.index > known.index && told.peers.len() <= TOLD_MAX;
            if is_newer {
                *known = told;
            }
            is_newer
        })
    }

    /// Each change of what was told.
    pub fn watch_told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// The others that were vouched for, as far as this catalogue is older than that and does not know better.
    pub fn vouched(&self, catalog: &Catalog) -> Vec<KnownPeer> {
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
