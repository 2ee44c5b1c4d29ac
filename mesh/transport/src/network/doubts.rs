//! The peers this node has doubts about: it dialed them and got no answer, or it hears nothing from them any more. What
//! the mesh as a whole thinks of them is the membership's: a cut between two nodes that all others reach shows only here.

use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::Gauge;
use quinn::Connection;
use skein_proto::NodeId;
use tokio::time::{MissedTickBehavior, interval};

use crate::close::CLOSE_SILENT;

/// How bad the way to a peer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A sign of life is overdue. That is not enough to send calls elsewhere.
    Silent,
    /// Several are, or it did not answer a dial.
    Doubted,
}

/// The peers in doubt. Asked for every candidate of every call, so that the usual answer costs one load.
pub(super) struct Doubts {
    count: AtomicUsize,
    peers: RwLock<BTreeMap<NodeId, Doubt>>,
    gauge: Gauge,
}

impl Doubts {
    /// None yet; `gauge` shows how many there are that calls had better not go to.
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { count: AtomicUsize::new(0), peers: RwLock::default(), gauge }
    }

    /// What is thought of the way to `peer`; none if it is as it should be.
    pub(super) fn of(&self, peer: NodeId) -> Option<Doubt> {
        // A doubt that is a moment too late costs a retry, so nothing else need be ordered by this.
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }

    pub(super) fn set(&self, peer: NodeId, doubt: Option<Doubt>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let before = match doubt {
            Some(doubt) => peers.insert(peer, doubt),
            None => peers.remove(&peer),
        };
        self.count.store(peers.len(), Ordering::Relaxed);
        let is = |doubt| doubt == Some(Doubt::Doubted);
        if is(before) != is(doubt) {
            self.gauge.increment(if is(doubt) { 1.0 } else { -1.0 });
            tracing::debug!(%peer, is_doubted = is(doubt), "the way to a peer");
        }
    }
}

/// Listens whether anything arrives on a connection that shows its life every `keep_alive`: tells `doubt` when it falls
/// silent and when it speaks again, and closes it when that lasts. Ends with the connection.
///
/// Silence is counted in looks, not by the clock: when this whole process was held up, what came meanwhile is waiting
/// to be read, and the first look after it is one look.
pub(super) async fn listen(connection: Connection, keep_alive: Duration, doubt: impl Fn(Option<Doubt>)) {
    let mut looks = interval((keep_alive / 2).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut silent) = (0, 0);
    loop {
        tokio::select! {
            // What is said of a connection that was replaced must not be said of the next.
            biased;
            _ = connection.closed() => return,
            _ = looks.tick() => {}
        }
        let packets = connection.stats().udp_rx.datagrams;
        if packets == heard {
            silent += 1;
        } else {
            if silent >= SILENT_AFTER {
                doubt(None);
            }
            (heard, silent) = (packets, 0);
        }
        match silent {
            SILENT_AFTER => doubt(Some(Doubt::Silent)),
            DOUBTED_AFTER => doubt(Some(Doubt::Doubted)),
            GIVEN_UP_AFTER => {
                connection.close(CLOSE_SILENT, b"nothing is heard");
                return;
            }
            _ => {}
        }
    }
}

/// Looks, two for each sign of life, after which one is overdue for certain.
const SILENT_AFTER: u32 = 3;

/// Looks after which new calls go elsewhere: three signs are missing.
const DOUBTED_AFTER: u32 = 6;

/// Looks after which the calls under way are given up, too: five signs are missing.
const GIVEN_UP_AFTER: u32 = 10;
