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
    /// Its last load digest; that of a busy node until one came, and the default (an idle node) when it is down.
    pub load: Load,
}

/// Whether a peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// It answers.
    Alive,
    /// It has been silent, and has not been given up yet: prefer another.
    Suspect,
    /// It is gone, has left, or was not heard of for longer than it takes to find a peer.
    Down,
    /// Nothing is known of it yet: it became a member a moment ago, or this node started a moment ago. It may answer.
    Unheard,
}

impl View {
    /// The peers that answer, this node among them. A suspect is one of them: it has the time that SWIM gives it to answer.
    pub fn alive(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| peer.is_alive())
    }

    /// Whether `node` is one of [`View::alive`].
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(Peer::is_alive)
    }

    /// Whether `node` is known not to answer, or is no member. One that was never heard of may answer.
    pub fn is_down(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_none_or(|peer| peer.state == PeerState::Down)
    }
}

impl Peer {
    fn is_alive(&self) -> bool {
        matches!(self.state, PeerState::Alive | PeerState::Suspect)
    }
}
