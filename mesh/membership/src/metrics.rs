//! The names of what membership counts.

use crate::{PeerState, View};

/// Peers by state, this node among them. Gauge; label `state`.
pub const PEERS: &str = "skein_membership_peers_count";
/// Peers that changed state as seen from here. Counter; label `to`.
pub const CHANGES: &str = "skein_membership_changes_total";
/// Datagrams that were not used. Counter; label `reason`: `full`, `malformed`, `stranger`, `forged`.
pub const DROPPED: &str = "skein_membership_datagrams_dropped_total";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_gauge!(PEERS, metrics::Unit::Count, "Members as seen from this node, by state.");
    metrics::describe_counter!(CHANGES, metrics::Unit::Count, "Members that changed state as seen from this node.");
    metrics::describe_counter!(DROPPED, metrics::Unit::Count, "Gossip datagrams that were not used, by reason.");
}

pub(crate) fn dropped(reason: &'static str) {
    metrics::counter!(DROPPED, "reason" => reason).increment(1);
}

pub(crate) fn changed(before: &View, after: &View) {
    for state in [PeerState::Alive, PeerState::Suspect, PeerState::Down, PeerState::Unheard] {
        let count = after.peers.values().filter(|peer| peer.state == state).count();
        metrics::gauge!(PEERS, "state" => text(state)).set(count as f64);
    }
    for peer in after.peers.values() {
        if before.peers.get(&peer.node).is_some_and(|old| old.state != peer.state) {
            tracing::info!(peer = %peer.node, state = text(peer.state), "peer changed state");
            metrics::counter!(CHANGES, "to" => text(peer.state)).increment(1);
        }
    }
}

fn text(state: PeerState) -> &'static str {
    match state {
        PeerState::Alive => "alive",
        PeerState::Suspect => "suspect",
        PeerState::Down => "down",
        PeerState::Unheard => "unheard",
    }
}
