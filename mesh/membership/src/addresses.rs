//! Where the members are reached: the newest signed record of each, and how it gets to all of them.
//!
//! ```text
//! this node signs its own at each start --.
//! peers' records, checked ----------------+--> newest of each --> watch --> the transport's address book
//!                                                    `--> exchange with a peer: "I have these", "here are newer ones"
//! ```
//! Records are told at once to every peer when they are new, and once a second one peer is asked for what is missing
//! here. Neither needs a leader, so that a majority that moved finds itself. The catalogue's addresses come behind them.

mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure, NodeId, codec};
use skein_transport::{Caller, Identity, ReachedAt, Serve, Service, Transport, Trust};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use records::Records;

use records::Learnt;

/// Whose book it is, and what it begins with.
pub struct Addressed {
    /// Signs this node's own record, and knows the CA by which others' are checked.
    pub identity: Identity,
    /// Where this node is reached now.
    pub reached_at: ReachedAt,
    /// Larger than the number of every record that this node signed before: its clock in milliseconds will do. Where the
    /// clock went back, the records of before and the peers know better.
    pub sequence: u64,
    /// Records kept from before.
    pub kept: Vec<Bytes>,
    /// Who is a member: records of others are of no interest.
    pub trust: Arc<dyn Trust>,
}

/// Where the members are reached, as far as this node has heard. Clone it freely, all clones are the same.
#[derive(Clone)]
pub struct AddressBook {
    inner: Arc<Inner>,
}

struct Inner {
    book: Arc<Book>,
    peers: watch::Sender<BTreeSet<NodeId>>,
    met: mpsc::Sender<NodeId>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What the task and the service share.
struct Book {
    identity: Identity,
    trust: Arc<dyn Trust>,
    records: watch::Sender<Arc<Records>>,
}

/// What one side has and the other may lack.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Exchange {
    /// The number of the newest record of each node that the sender has.
    #[serde(default)]
    has: BTreeMap<NodeId, u64>,
    /// Records that are newer than what the receiver has, as far as the sender knows.
    #[serde(default)]
    news: Vec<Bytes>,
}

/// How often one peer is asked what it has, by which a telling that failed is made good.
const PERIOD: Duration = Duration::from_secs(1);

/// How long one exchange may take: a dial and a round trip, on a machine that does much else.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(3);

/// Most exchanges under way at once; who is left out is asked in its turn.
const EXCHANGES_MAX: usize = 64;

/// Most records that are taken from one message: twice the members that a mesh may have. Those of nodes that were removed
/// are forgotten, so that there are no more.
const NEWS_MAX: usize = 2_048;

/// Peers that were met and wait to be talked to. More are found in their turn.
const MET_MAX: usize = 64;

impl AddressBook {
    /// Signs this node's record and starts to tell it. It talks to nobody until [`AddressBook::follow`] or
    /// [`AddressBook::meet`]. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// `internal` when the key cannot sign.
    pub fn spawn(own: Addressed, transport: Arc<dyn Transport>) -> Result<Self, Failure> {
        let Addressed { identity, reached_at, sequence, kept, trust } = own;
        let mut records = Records::default();
        for bytes in kept {
            // Trust is asked when they are used: a catalogue that is not there yet knows nobody.
            let _ = records.learn(bytes, &identity, |_, _| true);
        }
        records
            .sign_own(&identity, sequence, reached_at)
            .map_err(|error| Failure::not_executed(ErrorCode::Internal, error.to_string()))?;
        let book = Arc::new(Book { identity, trust, records: watch::Sender::new(Arc::new(records)) });
        let (peers, following) = watch::channel(BTreeSet::new());
        let (met, meetings) = mpsc::channel(MET_MAX);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let task = Task {
            book: book.clone(),
            transport,
            following,
            meetings,
            told: BTreeMap::new(),
            exchanges: JoinSet::new(),
            busy: BTreeSet::new(),
            turn: 0,
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run() => {}
            }
        });
        tasks.close();
        Ok(Self { inner: Arc::new(Inner { book, peers, met, stop, tasks }) })
    }

    /// What answers the peers; to be registered for [`Service::Address`].
    pub fn service(&self) -> Arc<dyn Serve> {
        self.inner.book.clone()
    }

    /// Whom to talk to from now on: the members.
    pub fn follow(&self, peers: BTreeSet<NodeId>) {
        self.inner.peers.send_if_modified(|known| {
            let is_changed = *known != peers;
            *known = peers;
            is_changed
        });
    }

    /// Drops what is known of nodes that were members and are none any more, so that it is neither kept nor told. Not of
    /// whoever is missing among the members now: a catalogue that is old, or not there yet, knows few. Theirs is not taken
    /// again as long as they are not trusted.
    pub fn forget(&self, is_gone: impl Fn(NodeId) -> bool) {
        let me = self.inner.book.identity.node();
        self.inner.book.records.send_if_modified(|known| {
            let rest = known.without(|node| node != me && is_gone(node));
            rest.map(|rest| *known = Arc::new(rest)).is_some()
        });
    }

    /// `node` was met just now: it is talked to at once.
    pub fn meet(&self, node: NodeId) {
        // Full: it has its turn anyway.
        let _ = self.inner.met.try_send(node);
    }

    /// The records as known now.
    pub fn records(&self) -> Arc<Records> {
        self.inner.book.records.borrow().clone()
    }

    /// The records, and each change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<Records>> {
        self.inner.book.records.subscribe()
    }

    /// Ends the talking and waits for that. What is known stays readable.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.wait().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Book {
    /// Takes what is new of what a peer tells.
    fn learn(&self, news: Vec<Bytes>) {
        let known = self.records.borrow().clone();
        let mut records = (*known).clone();
        let mut is_changed = false;
        for bytes in news.into_iter().take(NEWS_MAX) {
            match records.learn(bytes, &self.identity, |node, key| self.trust.is_trusted(node, key)) {
                Ok(Learnt::New) => is_changed = true,
                Ok(Learnt::Known) => {}
                Err(error) => tracing::debug!(%error, "an address record is not believed"),
            }
        }
        if is_changed {
            // Another message may have been read meanwhile: what it brought stays.
            self.records.send_modify(|now| *now = Arc::new(records.merge(now)));
        }
    }

    /// What is here that somebody lacks who has these.
    fn newer_than(&self, has: &BTreeMap<NodeId, u64>) -> Vec<Bytes> {
        self.records.borrow().newer_than(has)
    }
}

#[async_trait]
impl Serve for Book {
    async fn call(&self, _: Caller, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        let asked: Exchange = codec::decode(&body)?;
        self.learn(asked.news);
        let news = self.newer_than(&asked.has);
        let has = self.records.borrow().numbers();
        Ok(codec::encode(&Exchange { has, news })?)
    }
}

/// An exchange that ended.
struct Exchanged {
    node: NodeId,
    /// It told what the one before it showed to be missing there.
    is_second: bool,
    /// What this node had when it began.
    had: BTreeMap<NodeId, u64>,
    answer: Result<Bytes, Failure>,
}

/// Talks to the peers.
struct Task {
    book: Arc<Book>,
    transport: Arc<dyn Transport>,
    following: watch::Receiver<BTreeSet<NodeId>>,
    meetings: mpsc::Receiver<NodeId>,
    /// What was told to everybody, as far as they were reached then.
    told: BTreeMap<NodeId, u64>,
    exchanges: JoinSet<Exchanged>,
    busy: BTreeSet<NodeId>,
    turn: usize,
}

impl Task {
    async fn run(mut self) {
        let mut records = self.book.records.subscribe();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        records.mark_changed();
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.exchanges.join_next(), if !self.exchanges.is_empty() => self.end(ended),
                Some(node) = self.meetings.recv() => self.begin(node, self.book.newer_than(&BTreeMap::new()), false),
                Ok(()) = records.changed() => self.tell(),
                Ok(()) = self.following.changed() => {
                    // Whoever is new here is told all.
                    self.told.clear();
                    self.tell();
                }
                _ = ticks.tick() => self.ask_next(),
            }
        }
    }

    /// Tells all peers what they were not told yet.
    fn tell(&mut self) {
        let now = self.book.records.borrow().numbers();
        let news = self.book.newer_than(&std::mem::replace(&mut self.told, now));
        for node in self.peers() {
            self.begin(node, news.clone(), false);
        }
    }

    /// Has one peer, each in its turn, say what it has: what is missing on either side goes there.
    fn ask_next(&mut self) {
        let peers = self.peers();
        self.turn = self.turn.wrapping_add(1);
        if let Some(node) = peers.get(self.turn.checked_rem(peers.len()).unwrap_or(0)) {
            self.begin(*node, Vec::new(), false);
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        let me = self.transport.local();
        self.following.borrow().iter().copied().filter(|node| *node != me).collect()
    }

    fn begin(&mut self, node: NodeId, news: Vec<Bytes>, is_second: bool) {
        if node == self.transport.local() || self.exchanges.len() >= EXCHANGES_MAX || !self.busy.insert(node) {
            return;
        }
        let transport = self.transport.clone();
        let had = self.book.records.borrow().numbers();
        let exchange = Exchange { has: had.clone(), news };
        self.exchanges.spawn(async move {
            let answer = async {
                let deadline = Instant::now() + EXCHANGE_DEADLINE;
                transport.call(node, Service::Address, codec::encode(&exchange)?, deadline).await
            };
            Exchanged { node, is_second, had, answer: answer.await }
        });
    }

    fn end(&mut self, ended: Result<Exchanged, tokio::task::JoinError>) {
        let Ok(Exchanged { node, is_second, had, answer }) = ended else {
            // Which one ended badly is not told: all that still run are found busy once more at worst.
            self.busy.clear();
            return;
        };
        self.busy.remove(&node);
        match answer.and_then(|body| Ok(codec::decode::<Exchange>(&body)?)) {
            Ok(exchange) => {
                self.book.learn(exchange.news);
                let lacking = self.book.newer_than(&exchange.has);
                // What it lacks still when it was told it does not want: it trusts those less than this node does. Telling
                // it again at once would never end.
                let is_told = is_second && self.book.newer_than(&had).is_empty();
                if !lacking.is_empty() && !is_told {
                    self.begin(node, lacking, true);
                }
            }
            Err(failure) => tracing::debug!(peer = %node, %failure, "addresses were not exchanged"),
        }
    }
}

#[cfg(test)]
mod tests;
