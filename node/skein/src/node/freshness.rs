//! Whether this node's catalogue is as new as its peers': only then is anything served by it.
//!
//! A node that has just started, or was stopped for a while, has missed what was decided meanwhile: a key that was
//! revoked, a version that was moved on. It asks the leader what was committed, applies that, and serves then. What is
//! committed after the leader answered is not waited for: a node that is a little behind all the time serves, too.
//!
//! Where no majority answers for a while it serves what it has, and says so. Where one does answer, and what was committed
//! does not get here, the node serves nothing for as long as a leader can be asked: it knows that what it has is old, and
//! callers find others that are not. Once no leader can be asked any more, it serves what it has as any other node does.
//!
//! A node that was removed while it was down or cut off is told so by the first peer that it reaches. It closes at once, asks
//! whether a leader still knows it, and ends when none does: the peer that told it may have been removed itself.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::Propose as _;
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_raft::Consensus;
use skein_transport::{Caller, Duplex, Serve};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Between two signs that this process runs.
const BEAT: Duration = Duration::from_millis(100);

/// Without a sign for so long it was stopped: as long as it takes its peers to suspect it. A busy machine that keeps a
/// process waiting for as long costs it one question to the leader.
const STOPPED_AFTER: Duration = Duration::from_secs(1);

/// Longest one question to the leader. Asking ends by itself when there is no majority.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// Pause before the leader is asked again that has not answered.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long what a leader named may take to be applied here before this node counts as one that lags; and how often it is
/// looked then whether a leader can be asked.
const APPLY_PATIENCE: Duration = Duration::from_secs(2);

/// How long a request waits at an entrance that is about to open, before its caller is told to come back.
const ENTRANCE_PATIENCE: Duration = Duration::from_secs(1);

/// When the caller is told to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How new the catalogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may lack what was decided while this node did not run.
    Behind,
    /// It does: a leader has answered, and what was committed then is not all applied here.
    Lagging,
    /// It holds all that was committed when a leader last answered this node.
    Current,
    /// Nobody could be asked for as long as this node waits: what it has is served.
    Alone,
    /// This node was removed, says a peer, and no leader has said otherwise. Nothing follows it.
    Removed(NodeId),
}

/// What is asked of the consensus.
#[async_trait]
pub(super) trait Group: Send + Sync {
    /// Asks the leader, whoever it is, up to which entry of the log everything was committed before this call.
    async fn committed(&self, deadline: Instant) -> Result<u64, Failure>;

    /// Ends when the entry at `index` is applied here.
    async fn applied(&self, index: u64);

    /// Whether there is a catalogue that could be served.
    fn has_catalog(&self) -> bool;
}

#[async_trait]
impl Group for Consensus {
    async fn committed(&self, deadline: Instant) -> Result<u64, Failure> {
        self.ask_read_index(deadline).await
    }

    async fn applied(&self, index: u64) {
        self.until_applied(index).await;
    }

    fn has_catalog(&self) -> bool {
        self.catalog().mesh().is_some()
    }
}

/// How new this node's catalogue is.
pub(super) struct Freshness {
    state: watch::Sender<State>,
    started: Instant,
    /// When this process last showed that it runs, in milliseconds since it started.
    beat: AtomicU64,
    catch_up: Duration,
    is_new: bool,
    /// What peers say of this node's removal, and what was said first of what no leader has refuted.
    removal: watch::Receiver<Option<NodeId>>,
    told_removed: Mutex<Option<Word>>,
}

/// A peer's word that this node was removed.
#[derive(Debug, Clone, Copy)]
struct Word {
    by: NodeId,
    /// When it came.
    came: Instant,
    /// Since when no leader has answered.
    since: Instant,
}

impl Freshness {
    /// One that is behind. Where nobody answers for `catch_up`, it serves what it has; a node that is new to the mesh has
    /// nothing, and waits until it was current once. `removal` tells of each peer that says that this node was removed.
    pub(super) fn new(catch_up: Duration, is_new: bool, removal: watch::Receiver<Option<NodeId>>) -> Self {
        let (state, beat, told_removed) = (watch::Sender::new(State::Behind), AtomicU64::new(0), Mutex::default());
        Self { state, started: Instant::now(), beat, catch_up, is_new, removal, told_removed }
    }

    /// Whether requests may be answered by the catalogue as it is. Costs two loads.
    pub(super) fn is_serving(&self) -> bool {
        match *self.state.borrow() {
            State::Behind | State::Lagging | State::Removed(_) => false,
            State::Current => self.silence() < STOPPED_AFTER,
            // It serves what it has since before it was stopped.
            State::Alone => true,
        }
    }

    /// Waits until they may, for a moment.
    ///
    /// # Errors
    /// `unavailable`, `not-executed`, with when to come back.
    pub(super) async fn until_serving(&self) -> Result<(), Failure> {
        if self.is_serving() {
            return Ok(());
        }
        let opened = async {
            let mut state = self.state.subscribe();
            // A process that was stopped learns of it at its next beat, and not by this watch.
            while !self.is_serving() {
                let _ = timeout(BEAT, state.changed()).await;
            }
        };
        timeout(ENTRANCE_PATIENCE, opened).await.map_err(|_| self.behind())
    }

    /// Whether requests may be answered now.
    ///
    /// # Errors
    /// As [`Freshness::until_serving`], at once.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_serving() { Ok(()) } else { Err(self.behind()) }
    }

    /// Waits until the first question is settled, one way or the other. A node that comes back waits for as long as a
    /// leader answers and what it has is on its way: to end and start again would begin the way anew.
    ///
    /// # Errors
    /// `no-quorum` when the node is new and it is not by the deadline.
    pub(super) async fn settled(&self, deadline: Instant) -> Result<(), Failure> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| matches!(state, State::Current | State::Alone));
        if !self.is_new {
            let _ = settled.await;
            return Ok(());
        }
        timeout_at(deadline, settled).await.map(|_| ()).map_err(|_| {
            let message = "this node was let in, but could not catch up with the mesh in time: start it again to go on";
            Failure::not_executed(ErrorCode::NoQuorum, message)
        })
    }

    /// Ends when this node was removed; says who has told it.
    pub(super) async fn removed(&self) -> NodeId {
        let mut state = self.state.subscribe();
        loop {
            if let State::Removed(by) = *state.borrow_and_update() {
                return by;
            }
            // It cannot end: this side of it is ours.
            let _ = state.changed().await;
        }
    }

    fn behind(&self) -> Failure {
        let message = match (*self.state.borrow(), *self.told_removed()) {
            (State::Removed(by), _) | (_, Some(Word { by, .. })) => {
                format!("this node was removed from the mesh, says node {by}")
            }
            (State::Lagging, _) => {
                "this node knows that it lacks what the mesh has decided, and waits for it: see this node's log, and its disk"
                    .to_owned()
            }
            _ => "this node is catching up with the mesh, after a start or a stop".to_owned(),
        };
        Failure::not_executed(ErrorCode::Unavailable, message).retry_after(RETRY_AFTER)
    }

    /// Keeps it: asks at once, and again when this process was stopped.
    pub(super) async fn keep(&self, group: &dyn Group, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(group) => {}
        }
    }

    async fn follow(&self, group: &dyn Group) {
        // What a new node lacks it has once it was current: from then on it is as any other.
        let mut has_something = !self.is_new;
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.beat();
        let mut removal = self.removal.clone();
        loop {
            let asking = self.ask(group, has_something.then_some(self.catch_up));
            tokio::pin!(asking);
            let mut is_asking = true;
            loop {
                tokio::select! {
                    biased;
                    _ = beats.tick() => if self.was_stopped() {
                        // What was answered before the stop says nothing about what came during it.
                        break;
                    },
                    // An error: the network has ended, and this with it.
                    Ok(()) = removal.changed() => if self.heed(*removal.borrow_and_update()) && !is_asking {
                        break;
                    },
                    state = &mut asking, if is_asking => {
                        let before = self.state.send_replace(state);
                        has_something = true;
                        if let State::Removed(by) = state {
                            tracing::warn!(%by, "was removed from the mesh while it was away, says a peer");
                            return;
                        }
                        if state == State::Alone {
                            // Asked on, so that it is known when it is as new as the others' again.
                            if before != State::Alone {
                                tracing::warn!("no majority answers: this node serves by the catalogue it has");
                            }
                            break;
                        }
                        is_asking = false;
                    }
                }
            }
        }
    }

    /// Gives a sign of life. When the last one is too old, the gate is closed before: who looks must not find this process
    /// awake and the gate open.
    fn was_stopped(&self) -> bool {
        let was_stopped = self.silence() >= STOPPED_AFTER;
        if was_stopped {
            tracing::info!(silent_ms = self.silence().as_millis(), "was stopped for a while: asks what it missed");
            self.wait_anew();
            self.state.send_if_modified(|state| {
                let is_closed = *state == State::Current;
                if is_closed {
                    *state = State::Behind;
                }
                is_closed
            });
        }
        self.beat();
        was_stopped
    }

    /// Takes a peer's word that this node was removed: the gate is closed until a leader has been asked. Says whether it has
    /// to be asked because of that: whoever says so again changes nothing.
    fn heed(&self, by: Option<NodeId>) -> bool {
        let Some(by) = by else { return false };
        let is_news = {
            let mut told = self.told_removed();
            let is_news = told.is_none();
            let now = Instant::now();
            told.get_or_insert(Word { by, came: now, since: now });
            is_news
        };
        if is_news {
            tracing::warn!(%by, "was removed from the mesh, says a peer: serves nothing and asks whether a leader knows this node");
            self.state.send_if_modified(|state| {
                let is_closed = matches!(state, State::Current | State::Alone);
                if is_closed {
                    *state = State::Behind;
                }
                is_closed
            });
        }
        is_news
    }

    /// Has a leader be waited for from now on, before a peer's word that this node was removed counts.
    fn wait_anew(&self) {
        if let Some(word) = &mut *self.told_removed() {
            word.since = Instant::now();
        }
    }

    fn told_removed(&self) -> MutexGuard<'_, Option<Word>> {
        self.told_removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all applied that was committed when a leader first answered; gives up when none has answered for `patience`. What
    /// is said of its removal after the leader answered, only another answer refutes.
    async fn ask(&self, group: &dyn Group, patience: Option<Duration>) -> State {
        loop {
            let Some(index) = self.named(group, patience).await else { return self.unasked() };
            tokio::select! {
                biased;
                () = group.applied(index) => if self.told_removed().is_none() {
                    return State::Current;
                },
                () = self.lag(index, group, patience) => return self.unasked(),
            }
        }
    }

    /// What this node is that can ask nobody.
    fn unasked(&self) -> State {
        self.told_removed().map_or(State::Alone, |word| State::Removed(word.by))
    }

    /// After a moment, notes that this node is known to be behind: it serves nothing until it is not, and a person may have
    /// to see to it. Ends when no leader has answered for `patience`.
    async fn lag(&self, index: u64, group: &dyn Group, patience: Option<Duration>) {
        tokio::time::sleep(APPLY_PATIENCE).await;
        let before = self.state.send_replace(State::Lagging);
        if before != State::Lagging {
            tracing::warn!(
                index,
                "the mesh answers, but what it has decided is not here yet: nothing is served until it is. A long log or \
                 a large snapshot takes its time; a full disk takes nothing"
            );
        }
        while self.named(group, patience).await.is_some() {
            tokio::time::sleep(APPLY_PATIENCE).await;
        }
    }

    /// Asks until a leader says up to where the log was committed; `None` when none has for `patience`, and there is something
    /// to serve; or for as long as a leader is waited for since a peer said that this node was removed. A leader that answers
    /// what it was asked after that refutes it.
    async fn named(&self, group: &dyn Group, patience: Option<Duration>) -> Option<u64> {
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            match group.committed(asked + ASK_DEADLINE).await {
                Ok(index) => {
                    self.told_removed().take_if(|word| word.came <= asked);
                    return Some(index);
                }
                Err(failure) => tracing::debug!(%failure, "it is not known yet what was committed"),
            }
            let is_over = match *self.told_removed() {
                Some(word) => word.since.elapsed() >= self.catch_up.max(ASK_DEADLINE),
                None => group.has_catalog() && patience.is_some_and(|patience| began.elapsed() >= patience),
            };
            if is_over {
                return None;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    fn beat(&self) {
        self.beat.store(self.now_ms(), Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.beat.load(Ordering::Relaxed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A service that answers nobody while the catalogue is behind.
pub(super) struct WhenFresh {
    pub(super) freshness: std::sync::Arc<Freshness>,
    pub(super) service: std::sync::Arc<dyn Serve>,
}

#[async_trait]
impl Serve for WhenFresh {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.freshness.until_serving().await?;
        self.service.call(from, body, deadline).await
    }

    /// A key that the node does not know yet may be good.
    async fn admit(&self, key: &str) -> Result<(), Failure> {
        self.freshness.until_serving().await?;
        self.service.admit(key).await
    }

    async fn call_with_key(&self, key: &str, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.freshness.until_serving().await?;
        self.service.call_with_key(key, body, deadline).await
    }

    async fn stream(&self, from: Caller, stream: Box<dyn Duplex>) {
        if self.freshness.until_serving().await.is_ok() {
            self.service.stream(from, stream).await;
        }
    }
}

#[cfg(test)]
mod tests;
