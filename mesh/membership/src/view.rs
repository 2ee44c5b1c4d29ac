//! What this node believes about its peers at one moment.

use std::collections::BTreeMap;

use skein_proto::{Load, NodeId};

/// The members of the mesh as seen from here, this node among them. Immutable; a newer one replaces it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Every member the catalogue has named, by id.
    pub peers: BTreeMap<NodeId, Peer>,
}

/// One member as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub node: NodeId,
    /// Whether it answers.
    pub state: PeerState,
    /// Its last load digest; the default (an idle node) until one came, and when it is down.
    pub load: Load,
}

/// Whether a peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// It answers.
    Alive,
    /// It has been silent, and has not been given up yet: prefer another.
    Suspect,
    /// It is gone, has left, or was never heard of.
    Down,
}

impl View {
    /// The peers that are not given up, this node among them. A suspect is one of them: it has the time that SWIM
    /// gives it to answer.
    pub fn alive(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| peer.state != PeerState::Down)
    }

    /// Whether `node` is one of [`View::alive`].
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.state != PeerState::Down)
    }
}
