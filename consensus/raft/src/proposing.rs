//! A proposal's way to the leader and back, and a read's.
//!
//! ```text
//! propose ──> leader here?  ──> openraft: append, sync, replicate, commit, apply ──> outcome
//!    ^   └──> known elsewhere ──> Service::Propose ──> the same there ──────────────> outcome
//!    └─────── unknown, changed, gone: wait a little, ask again until the deadline
//!                                              outcome ──> wait until applied here ──> caller
//! ```
//! Asking again is safe since the state machine knows the request by its id. Once a leader may have taken a proposal on,
//! no later failure says that it was not executed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use openraft::{
    LinearizerOption,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
};
use skein_catalog::{Applied, Catalog, Command, Proposal, Propose, RequestId, Watch};
use skein_proto::{ErrorCode, Failure, NodeId, Progress, codec};
use skein_transport::Service;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Consensus, Group, StateMachine, metrics,
    types::Payload,
    wire::{Answer, Ask},
};

/// Pause before the leader is asked again, unless another one shows up first.
const PAUSE: Duration = Duration::from_millis(40);

impl<M: StateMachine> Group<M> {
    /// Has a proposal committed, wherever the leader is, and applied here; says at which index, and what became of it.
    ///
    /// # Errors
    /// `no-quorum` when no majority answered by the deadline, `maybe-executed` if the proposal was handed to a leader;
    /// `disk-full` when the leader has no room for it; `bad-request` when it is larger than any may be.
    pub async fn submit(&self, proposal: &M::Proposal, deadline: Instant) -> Result<(u64, M::Outcome), Failure> {
        let payload = codec::encode(proposal)?;
        self.check_size(&payload)?;
        let Answer::Applied { index, outcome } = self.ask_leader(Ask::Propose(Payload(payload)), deadline).await?
        else {
            return Err(Failure::maybe_executed(ErrorCode::Malformed, "the leader answered something else"));
        };
        let unread = |error| Failure::executed(ErrorCode::Malformed, format!("the outcome cannot be read: {error}"));
        let outcome = codec::decode(&outcome.0).map_err(unread)?;
        let applied = self.await_applied(index, deadline).await;
        // What was refused changed nothing that could be waited for.
        if M::refusal(&outcome).is_none() {
            applied?;
        }
        Ok((index, outcome))
    }

    /// Waits until what was committed anywhere before this call is applied here, and says up to which index.
    ///
    /// # Errors
    /// `no-quorum` when that cannot be known by the deadline, or when no majority has answered for a while;
    /// `unavailable`, `executed`, when it is known, and not all of it is applied here yet.
    pub async fn await_read_index(&self, deadline: Instant) -> Result<u64, Failure> {
        let index = self.ask_read_index(deadline).await?;
        self.await_applied(index, deadline).await?;
        Ok(index)
    }

    /// Asks the leader, whoever it is, up to which index everything was committed before this call. Waits for nothing here;
    /// see [`Group::until_applied`].
    ///
    /// # Errors
    /// `no-quorum` when that cannot be known by the deadline, or when no majority has answered for a while.
    pub async fn ask_read_index(&self, deadline: Instant) -> Result<u64, Failure> {
        read_index(&self.ask_leader(Ask::ReadIndex, deadline).await?)
    }

    /// Ends when the entry at `index` is applied here: never, if raft stops on this node before.
    pub async fn until_applied(&self, index: u64) {
        let mut applied = self.inner.applied.clone();
        if applied.wait_for(|next| *next > index).await.is_err() {
            std::future::pending().await
        }
    }

    /// Ends when no majority has answered for as long as an election takes and once more: who waits for one gives up then,
    /// and says so, whatever its own deadline. Never while there is a majority.
    pub async fn quorum_lost(&self) {
        let mut status = self.inner.status.clone();
        let patience = self.inner.timings.lease() * 2;
        loop {
            // An error: the group was shut down, of which its callers hear otherwise.
            if status.wait_for(|status| !status.is_quorum_alive).await.is_err() {
                std::future::pending::<()>().await;
            }
            let back = timeout(patience, status.wait_for(|status| status.is_quorum_alive)).await;
            if back.is_err() {
                return;
            }
        }
    }

    /// Asks the leader, whoever it is, until it answers, the deadline passes, or no majority has answered for a while.
    async fn ask_leader(&self, ask: Ask, deadline: Instant) -> Result<Answer, Failure> {
        let mut is_handed = false;
        let answered = self.ask_again(&ask, deadline, &mut is_handed).await;
        answered.map_err(|failure| match (&ask, is_handed) {
            (Ask::Propose(_), true) if failure.progress == Progress::NotExecuted => {
                Failure::maybe_executed(failure.code, failure.message)
            }
            (Ask::ReadIndex, _) => Failure::not_executed(failure.code, failure.message),
            _ => failure,
        })
    }

    /// The same; notes in `is_handed` whether a leader may have taken on what was asked. A failure that is returned says
    /// what the last leader made of it.
    async fn ask_again(&self, ask: &Ask, deadline: Instant, is_handed: &mut bool) -> Result<Answer, Failure> {
        let body = codec::encode(ask)?;
        let metrics = self.inner.raft.metrics();
        let mut last = None;
        let lost = self.quorum_lost();
        tokio::pin!(lost);
        while Instant::now() < deadline {
            if self.inner.closing.is_cancelled() {
                return Err(Failure::not_executed(ErrorCode::Unavailable, "this node is shutting down"));
            }
            let leader = metrics.borrow_watched().current_leader.map(NodeId);
            let answer = async {
                match leader {
                    Some(node) if node == self.inner.node => self.answer(ask, deadline).await,
                    Some(node) => self.ask_peer(node, body.clone(), deadline).await,
                    None => Ok(Answer::NotLeader),
                }
            };
            let answered = tokio::select! {
                biased;
                answered = answer => answered,
                () = &mut lost => {
                    // The leader that was asked may have taken it and be the one who is cut off.
                    *is_handed |= leader.is_some();
                    break;
                }
            };
            match answered {
                Ok(Answer::NotLeader) => {}
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    *is_handed |= failure.progress != Progress::NotExecuted;
                    if !is_passing(&failure) {
                        return Err(failure);
                    }
                    last = Some(failure.message);
                }
            }
            // Not for any change: a leader that cannot take it now, as while it hands over, changes with every refusal.
            tokio::select! {
                biased;
                _ = timeout_at(deadline.min(Instant::now() + PAUSE), self.leads_no_more(leader)) => {}
                () = &mut lost => break,
            }
        }
        let reason = last.unwrap_or_else(|| "there is no leader".to_owned());
        let message = format!("no majority of the voters answered in time: {reason}");
        Err(Failure::not_executed(ErrorCode::NoQuorum, message))
    }

    /// Ends when the group has another leader than `leader`, as far as this node knows.
    async fn leads_no_more(&self, leader: Option<NodeId>) {
        let mut metrics = self.inner.raft.metrics();
        while metrics.borrow_watched().current_leader.map(NodeId) == leader {
            // An error: the group was shut down, of which its callers hear otherwise.
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks a peer that should lead. Gives up when another leader turns up meanwhile.
    async fn ask_peer(&self, node: NodeId, body: bytes::Bytes, deadline: Instant) -> Result<Answer, Failure> {
        metrics::proposed("forwarded");
        tokio::select! {
            biased;
            answer = self.inner.transport.call(node, Service::Propose, body, deadline) => {
                let unread = |error| {
                    let message = format!("the answer of node {node} cannot be read: {error}");
                    Failure::maybe_executed(ErrorCode::Malformed, message)
                };
                codec::decode(&answer?).map_err(unread)
            }
            () = self.leads_no_more(Some(node)) => {
                Err(Failure::maybe_executed(ErrorCode::PeerLost, format!("node {node} led until a moment ago")))
            }
        }
    }

    /// Answers a member as the leader, if this node is it.
    pub(crate) async fn answer_peer(&self, from: NodeId, ask: &Ask, deadline: Instant) -> Result<Answer, Failure> {
        let Ask::Compare { index, fingerprint } = ask else { return self.answer(ask, deadline).await };
        let (is_leader, last) = {
            let seen = self.inner.raft.metrics();
            let seen = seen.borrow_watched();
            (seen.state.is_leader(), seen.last_log_index.unwrap_or_default())
        };
        if !is_leader {
            return Ok(Answer::NotLeader);
        }
        // A leader's log has all that was ever committed. What goes on behind its end was committed without it.
        let is_beyond = *index > last;
        let is_equal = self.inner.prints.is_equal(*index, *fingerprint).or(is_beyond.then_some(false));
        if let Some(is_equal) = is_equal {
            self.inner.findings.other_compared(from, *index, is_equal);
        }
        Ok(Answer::Compared { is_equal })
    }

    /// Answers as the leader, if this node is it.
    pub(crate) async fn answer(&self, ask: &Ask, deadline: Instant) -> Result<Answer, Failure> {
        let answered = match ask {
            // Asked by peers only.
            Ask::Compare { .. } => return Ok(Answer::NotLeader),
            Ask::Propose(payload) => timeout_at(deadline, self.commit(payload)).await,
            Ask::ReadIndex => timeout_at(deadline, self.confirm(deadline)).await,
        };
        answered.unwrap_or_else(|_| {
            Err(Failure::maybe_executed(ErrorCode::NoQuorum, "the leader got no answer from a majority"))
        })
    }

    /// Has a proposal appended, replicated and applied, if this node leads. Whoever sent it, it is read first: what is in
    /// the log is in it for good.
    async fn commit(&self, payload: &Payload) -> Result<Answer, Failure> {
        metrics::proposed("leader");
        self.check_size(&payload.0)?;
        let unread = |error| Failure::not_executed(ErrorCode::BadRequest, format!("this is no proposal: {error}"));
        let proposal: M::Proposal = codec::decode(&payload.0).map_err(unread)?;
        // The permit is held until it is applied.
        let permit = self.inner.proposals.acquire().await;
        let _permit =
            permit.map_err(|_| Failure::not_executed(ErrorCode::Unavailable, "this node is shutting down"))?;
        if self.inner.disk.is_full() {
            // Another leader may have committed it, and be gone before it could say so.
            if let Some((index, outcome)) = self.state().remembered(&proposal) {
                return Ok(Answer::Applied { index, outcome: Payload(codec::encode(&outcome)?) });
            }
            let message = format!("the disk of the leader, node {}, has no room for the log", self.inner.node);
            return Err(Failure::not_executed(ErrorCode::DiskFull, message));
        }
        match self.inner.raft.client_write(payload.clone()).await {
            Ok(written) => Ok(Answer::Applied { index: written.log_id.index, outcome: written.data }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Ok(Answer::NotLeader),
            Err(RaftError::APIError(error)) => {
                Err(Failure::maybe_executed(ErrorCode::NoQuorum, format!("the leader changed: {error}")))
            }
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    fn check_size(&self, payload: &[u8]) -> Result<(), Failure> {
        let most = self.inner.limits.entry_bytes_max;
        if payload.len() <= most {
            return Ok(());
        }
        let message = format!("the proposal has {} bytes; at most {most} are taken", payload.len());
        Err(Failure::not_executed(ErrorCode::BadRequest, message))
    }

    /// Confirms with a majority that this node still leads, and that it has applied what it says was committed: a new
    /// leader counts an entry of its own to that, which nobody may be able to write.
    async fn confirm(&self, deadline: Instant) -> Result<Answer, Failure> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(patience);
        match self.inner.raft.get_read_linearizer(option).await {
            Ok(linearizer) => {
                let index = linearizer.read_log_id().log_id().index;
                self.await_applied(index, deadline).await.map_err(|failure| {
                    let message = format!("the leader has not applied its own entries: {}", failure.message);
                    Failure::not_executed(ErrorCode::NoQuorum, message)
                })?;
                Ok(Answer::ReadIndex { index })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Ok(Answer::NotLeader),
            Err(RaftError::APIError(error)) => Err(Failure::not_executed(ErrorCode::NoQuorum, error.to_string())),
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    /// Waits until the entry at `index` is applied here.
    async fn await_applied(&self, index: u64, deadline: Instant) -> Result<(), Failure> {
        let mut applied = self.inner.applied.clone();
        let is_applied = timeout_at(deadline, applied.wait_for(|next| *next > index)).await;
        match is_applied {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Failure::executed(ErrorCode::Unavailable, "raft stopped on this node")),
            Err(_) => {
                let message = format!("committed at index {index}, which this node has not applied yet");
                Err(Failure::executed(ErrorCode::Unavailable, message))
            }
        }
    }
}

/// The index in a leader's answer.
fn read_index(answer: &Answer) -> Result<u64, Failure> {
    match answer {
        Answer::ReadIndex { index } => Ok(*index),
        _ => Err(Failure::not_executed(ErrorCode::Malformed, "the leader answered something else")),
    }
}

/// Whether asking again may help.
fn is_passing(failure: &Failure) -> bool {
    use ErrorCode::{DeadlineExceeded, NoQuorum, PeerLost, Unavailable, Unreachable};
    matches!(failure.code, DeadlineExceeded | NoQuorum | PeerLost | Unavailable | Unreachable)
}

#[async_trait]
impl Propose for Consensus {
    async fn propose(&self, request: RequestId, command: Command, deadline: Instant) -> Result<Applied, Failure> {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let at_ms = since_epoch.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let (index, outcome) = self.submit(&Proposal { request, at_ms, command }, deadline).await?;
        match Catalog::refusal(&outcome) {
            Some(refusal) => Err(refusal),
            None => Ok(Applied { index, outcome }),
        }
    }

    async fn read_index(&self, deadline: Instant) -> Result<u64, Failure> {
        self.await_read_index(deadline).await
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.state()
    }

    fn watch(&self) -> Watch {
        self.watch_state()
    }
}
