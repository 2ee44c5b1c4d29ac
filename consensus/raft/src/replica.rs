//! openraft's view of the state machine: apply what is committed, publish it, take and install snapshots.
//!
//! The state lives in memory. What survives is the newest snapshot and the log behind it, from which openraft replays
//! up to the last known commit when the group starts.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use skein_proto::{NodeId, codec};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    StartError, StateMachine,
    compare::Prints,
    disk::Disk,
    metrics,
    planted::{self, Planted},
    snapshot::Shelf,
    types::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types},
    volume,
};

/// The state machine with its place in the log.
pub(crate) struct Replica<M: StateMachine> {
    state: M,
    last: Option<LogId>,
    membership: StoredMembership,
    shelf: Shelf,
    disk: Disk,
    prints: Prints,
    published: watch::Sender<Arc<M>>,
    /// The number of entries applied: one more than the last one's index.
    applied: watch::Sender<u64>,
    closing: CancellationToken,
}

/// What a replica is made of.
pub(crate) struct Parts<M: StateMachine> {
    pub(crate) shelf: Shelf,
    /// The state in the newest snapshot on the shelf.
    pub(crate) restored: Option<(M, SnapshotMeta)>,
    pub(crate) disk: Disk,
    pub(crate) prints: Prints,
    pub(crate) published: watch::Sender<Arc<M>>,
    pub(crate) applied: watch::Sender<u64>,
    /// Ends what waits for room.
    pub(crate) closing: CancellationToken,
}

/// Entries applied before they are published, when many are at hand.
const PUBLISH_EVERY: usize = 256;

/// How often a snapshot from the leader is tried again on a disk that is full, and for how long before the group gives
/// up on this node.
const FULL_DISK_RETRY: Duration = Duration::from_millis(200);
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(600);

impl<M: StateMachine> Replica<M> {
    pub(crate) fn new(parts: Parts<M>) -> Self {
        let Parts { shelf, restored, disk, prints, published, applied, closing } = parts;
        let (state, meta) = restored.unwrap_or_default();
        let (last, membership) = (meta.last_log_id, meta.last_membership);
        let replica = Self { state, last, membership, shelf, disk, prints, published, applied, closing };
        replica.begin_prints();
        replica.publish(&mut Vec::new());
        replica
    }

    /// Applies one entry and says what is to be answered.
    fn apply_entry(&mut self, entry: crate::types::Entry) -> io::Result<Payload> {
        let index = entry.log_id.index;
        let answer = match entry.payload {
            EntryPayload::Normal(payload) => self.apply_proposal(index, &payload.0)?,
            EntryPayload::Blank => {
                self.state.advance(index);
                Payload::default()
            }
            EntryPayload::Membership(membership) => {
                let voters = membership.voter_ids().map(NodeId).collect();
                match planted::is(Planted::UnweighedRemoval) {
                    true => self.state.advance(index),
                    false => self.state.set_voters(index, &voters),
                }
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Payload::default()
            }
        };
        self.prints.note(index, self.state.fingerprint());
        self.last = Some(entry.log_id);
        Ok(answer)
    }

    /// Applies the proposal in `bytes`. Bytes that are none change nothing, here and on every other replica: nobody can take
    /// them out of the log any more.
    fn apply_proposal(&mut self, index: u64, bytes: &[u8]) -> io::Result<Payload> {
        match codec::decode(bytes) {
            Ok(proposal) => {
                let outcome = self.state.apply(index, &proposal);
                // Without a byte form, its proposer is told nothing; what was done is done.
                Ok(Payload(codec::encode(&outcome).unwrap_or_default()))
            }
            Err(error) if M::is_of_newer_release(bytes) => {
                let what = format!(
                    "a newer release wrote entry {index} of the log ({error}): start this node with that release"
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
            Err(error) => {
                tracing::error!(index, %error, "an entry of the log is no proposal and is passed over");
                self.state.advance(index);
                Ok(Payload::default())
            }
        }
    }

    /// The state came from a snapshot.
    fn begin_prints(&self) {
        if let Some(last) = self.last {
            self.prints.begin(last.index, self.state.fingerprint());
        }
    }

    /// Shows the state to those who watch, then answers those who waited for it.
    fn publish(&self, answers: &mut Vec<(ApplyResponder<Types>, Payload)>) {
        self.published.send_replace(Arc::new(self.state.clone()));
        self.applied.send_replace(self.last.map_or(0, |last| last.index + 1));
        for (responder, answer) in answers.drain(..) {
            responder.send(answer);
        }
    }
}

impl<M: StateMachine> RaftStateMachine<Types> for Replica<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let (mut answers, mut unpublished) = (Vec::new(), 0);
        while let Some((entry, responder)) = entries.try_next().await? {
            let answer = self.apply_entry(entry)?;
            answers.extend(responder.map(|responder| (responder, answer)));
            unpublished += 1;
            if unpublished == PUBLISH_EVERY {
                self.publish(&mut answers);
                metrics::applied(unpublished);
                unpublished = 0;
            }
        }
        self.publish(&mut answers);
        metrics::applied(unpublished);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder<M>> {
        // The state is about as large as it was last; what it has grown to is known when it was written out.
        if !force && !self.disk.has_room_for(self.shelf.bytes()) {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        Builder { state: self.state.clone(), meta, shelf: self.shelf.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let stored = Arc::new(Snapshot { meta: meta.clone(), snapshot });
        let (started, volume) = (Instant::now(), self.shelf.volume());
        let state = loop {
            let (shelf, stored) = (self.shelf.clone(), stored.clone());
            let installed = volume::run(&*volume, move || {
                let state =
                    M::restore(&stored.snapshot).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
                shelf.put(&stored)?;
                Ok::<M, io::Error>(state)
            });
            match installed.await? {
                Err(error) if volume::is_passing(&error) && started.elapsed() < FULL_DISK_PATIENCE => {
                    tracing::warn!(%error, "a snapshot from the leader waits for room on the disk");
                    tokio::select! {
                        biased;
                        () = self.closing.cancelled() => return Err(error),
                        () = sleep(FULL_DISK_RETRY) => {}
                    }
                }
                installed => break installed?,
            }
        };
        self.state = state;
        (self.last, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.begin_prints();
        self.publish(&mut Vec::new());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let shelf = self.shelf.clone();
        match volume::run(&*shelf.volume(), move || shelf.get()).await? {
            Ok(snapshot) => Ok(snapshot),
            // The state in memory holds all that the snapshot did, once it was restored from it.
            Err(error) if self.last.is_some() => self.snapshot_anew(error).await.map(Some),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl<M: StateMachine> Replica<M> {
    /// A snapshot of the state in memory, in place of one that cannot be read.
    async fn snapshot_anew(&mut self, error: StartError) -> io::Result<Snapshot> {
        tracing::error!(%error, "the snapshot cannot be read; the state in memory takes its place");
        let is_damaged = !matches!(error, StartError::Io { .. });
        let Builder { state, meta, shelf } = self.get_snapshot_builder().await;
        let volume = shelf.volume();
        let taken = volume::run(&*volume, move || {
            let snapshot = Snapshot { meta, snapshot: state.snapshot().map_err(io::Error::other)? };
            if is_damaged && let Err(error) = shelf.put_anew(&snapshot) {
                tracing::error!(%error, "the damaged snapshot cannot be replaced; without it this node cannot restart");
            }
            Ok(snapshot)
        });
        taken.await?
    }
}

/// A state that is being written as a snapshot, off the async threads, while the replica goes on.
pub(crate) struct Builder<M> {
    state: M,
    meta: SnapshotMeta,
    shelf: Shelf,
}

impl<M: StateMachine> RaftSnapshotBuilder<Types> for Builder<M> {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (state, meta, shelf) = (self.state.clone(), self.meta.clone(), self.shelf.clone());
        let volume = shelf.volume();
        let built = volume::run(&*volume, move || {
            let snapshot = Snapshot { meta, snapshot: state.snapshot().map_err(io::Error::other)? };
            shelf.put(&snapshot)?;
            Ok::<_, io::Error>(snapshot)
        });
        match built.await? {
            Ok(snapshot) => Ok(snapshot),
            // Nothing is lost without it but the time to replay the log, so that it is no reason to stop: the log stays,
            // and the compactor asks again. A snapshot of nothing says that there is no newer one than before.
            Err(error) => {
                tracing::warn!(%error, "no snapshot could be taken; the log is kept until one can");
                Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: Bytes::new() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
