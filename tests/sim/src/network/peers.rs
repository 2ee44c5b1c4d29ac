//! Where the peers may be, and the connections with them, as one boot of a node knows it: what `skein_transport`'s
//! network keeps in its book.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use skein_proto::NodeId;
use tokio::{sync::watch, time::Instant};

/// Everything that is known of the peers.
#[derive(Default)]
pub(super) struct Peers {
    known: Mutex<BTreeMap<NodeId, Known>>,
    links: watch::Sender<BTreeMap<NodeId, Link>>,
    /// Those that were removed and are not heard any more.
    parted: Mutex<BTreeSet<NodeId>>,
}

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The boot of the peer that serves it.
    pub(super) boot: u64,
    /// Where that is.
    pub(super) place: u16,
}

/// Where one peer may be.
#[derive(Debug, Default)]
struct Known {
    /// By what this node was told, the best word first.
    told: Vec<u16>,
    /// Where it called from or was met, the last one first.
    met: Vec<u16>,
    /// Datagrams that wait for a connection.
    waiting: usize,
    /// The boot that was heard last, and when.
    heard: Option<(u64, Instant)>,
    /// When it was looked for last.
    sought: Option<Instant>,
}

/// As many as the real network remembers, and as many datagrams as it lets wait.
const MET_MAX: usize = 2;
const WAITING_MAX: usize = 8;

/// A connection on which nothing was heard for so long is asked for anew before it is used.
const IDLE_MAX: Duration = Duration::from_secs(3);

impl Peers {
    /// Sets where a peer may be; gives whether a connection that there is was made while its first place was another.
    pub(super) fn set(&self, peer: NodeId, told: Vec<u16>) -> bool {
        let mut known = self.known();
        let known = known.entry(peer).or_default();
        if told.is_empty() {
            known.met.clear();
        }
        let is_moved = known.told.first() != told.first();
        known.told = told;
        is_moved
    }

    /// A peer was met somewhere.
    pub(super) fn met(&self, peer: NodeId, place: u16) {
        let mut known = self.known();
        let met = &mut known.entry(peer).or_default().met;
        met.retain(|other| *other != place);
        met.insert(0, place);
        met.truncate(MET_MAX);
    }

    /// Where a peer may be, each place once.
    pub(super) fn places(&self, peer: NodeId) -> Vec<u16> {
        let known = self.known();
        let Some(known) = known.get(&peer) else { return Vec::new() };
        let mut places: Vec<u16> = Vec::new();
        for place in known.told.iter().chain(&known.met) {
            if !places.contains(place) {
                places.push(*place);
            }
        }
        places
    }

    /// The connection with a peer, and each change of the connections.
    pub(super) fn watch(&self) -> watch::Receiver<BTreeMap<NodeId, Link>> {
        self.links.subscribe()
    }

    /// The connection with a peer, as far as this node knows.
    pub(super) fn link(&self, peer: NodeId) -> Option<Link> {
        self.links.borrow().get(&peer).copied()
    }

    /// The connection with a peer, if the peer was heard a moment ago.
    pub(super) fn lively_link(&self, peer: NodeId) -> Option<Link> {
        let link = self.link(peer)?;
        let (boot, at) = self.known().get(&peer)?.heard?;
        (boot == link.boot && at.elapsed() < IDLE_MAX).then_some(link)
    }

    /// A boot of a peer was heard.
    pub(super) fn heard(&self, peer: NodeId, boot: u64) {
        self.known().entry(peer).or_default().heard = Some((boot, Instant::now()));
    }

    /// A peer has answered from there. What an earlier boot of it said late counts no more.
    pub(super) fn connected(&self, peer: NodeId, link: Link) {
        self.links.send_if_modified(|links| {
            let is_newest = links.get(&peer).is_none_or(|known| known.boot <= link.boot);
            if is_newest {
                links.insert(peer, link);
            }
            is_newest
        });
    }

    /// Whether it is time to look for a peer again: however many wait for it, it is looked for once in `pause`.
    pub(super) fn seeks(&self, peer: NodeId, pause: Duration) -> bool {
        let mut known = self.known();
        let sought = &mut known.entry(peer).or_default().sought;
        let is_due = sought.is_none_or(|at| at.elapsed() >= pause);
        if is_due {
            *sought = Some(Instant::now());
        }
        is_due
    }

    /// The connection with a peer is over.
    pub(super) fn disconnected(&self, peer: NodeId) {
        self.links.send_if_modified(|links| links.remove(&peer).is_some());
    }

    /// From now on a removed peer is not heard.
    pub(super) fn part(&self, peer: NodeId) {
        self.parted.lock().unwrap().insert(peer);
    }

    /// Whether it is not.
    pub(super) fn has_parted(&self, peer: NodeId) -> bool {
        self.parted.lock().unwrap().contains(&peer)
    }

    /// Whether one more datagram may wait for a connection; it then does, until [`Self::has_waited`].
    pub(super) fn may_wait(&self, peer: NodeId) -> bool {
        let mut known = self.known();
        let waiting = &mut known.entry(peer).or_default().waiting;
        let may = *waiting < WAITING_MAX;
        *waiting += usize::from(may);
        may
    }

    /// A datagram waits no more.
    pub(super) fn has_waited(&self, peer: NodeId) {
        self.known().entry(peer).or_default().waiting -= 1;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.known.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    #[test]
    fn a_peer_is_looked_for_where_it_is_told_to_be_and_where_it_was_met() {
        let peers = Peers::default();
        assert!(peers.places(PEER).is_empty());
        assert!(peers.set(PEER, vec![7, 2]));
        peers.met(PEER, 9);
        peers.met(PEER, 2);
        assert_eq!(peers.places(PEER), [7, 2, 9]);
        assert!(!peers.set(PEER, vec![7]), "its best place is the same");
        assert!(peers.set(PEER, Vec::new()));
        assert!(peers.places(PEER).is_empty(), "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_boot_says_late_makes_no_connection() {
        let peers = Peers::default();
        let (old, new) = (Link { boot: 1, place: 2 }, Link { boot: 2, place: 9 });
        peers.connected(PEER, new);
        peers.heard(PEER, new.boot);
        peers.connected(PEER, old);
        assert_eq!(peers.lively_link(PEER), Some(new));
        peers.heard(PEER, old.boot);
        assert_eq!(peers.lively_link(PEER), None, "it is asked for anew");
        peers.heard(PEER, new.boot);
        tokio::time::advance(IDLE_MAX).await;
        assert_eq!((peers.lively_link(PEER), peers.link(PEER)), (None, Some(new)), "nothing was heard for long");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_wait_for_a_peer_it_is_sought_once_in_a_while() {
        let (peers, pause) = (Peers::default(), Duration::from_millis(150));
        assert!(peers.seeks(PEER, pause) && !peers.seeks(PEER, pause));
        tokio::time::advance(pause).await;
        assert!(peers.seeks(PEER, pause));
        let waiting = (0..20).filter(|_| peers.may_wait(PEER)).count();
        assert_eq!(waiting, WAITING_MAX);
        peers.has_waited(PEER);
        assert!(peers.may_wait(PEER));
    }
}
