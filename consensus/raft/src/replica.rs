//! openraft's view of the state machine: apply what is committed, publish it, take and install snapshots.
//!
//! The state lives in memory. What survives is the newest snapshot and the log behind it, from which openraft replays
//! up to the last known commit when the group starts.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use skein_proto::codec;
use tokio::sync::watch;

use crate::{
    StateMachine,
    disk::Disk,
    metrics,
    snapshot::Shelf,
    storage::decode,
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
    published: watch::Sender<Arc<M>>,
    /// The number of entries applied: one more than the last one's index.
    applied: watch::Sender<u64>,
}

/// Entries applied before they are published, when many are at hand.
const PUBLISH_EVERY: usize = 256;

impl<M: StateMachine> Replica<M> {
    pub(crate) fn new(shelf: Shelf, disk: Disk, published: watch::Sender<Arc<M>>, applied: watch::Sender<u64>) -> Self {
        let (state, last, membership) = (M::default(), None, StoredMembership::default());
        Self { state, last, membership, shelf, disk, published, applied }
    }

    /// Applies one entry and says what is to be answered.
    fn apply_entry(&mut self, entry: crate::types::Entry) -> io::Result<Payload> {
        let index = entry.log_id.index;
        let answer = match entry.payload {
            EntryPayload::Normal(payload) => {
                let outcome = self.state.apply(index, &decode::<M::Proposal>(&payload.0)?);
                Payload(codec::encode(&outcome).map_err(io::Error::other)?)
            }
            EntryPayload::Blank => {
                self.state.advance(index);
                Payload::default()
            }
            EntryPayload::Membership(membership) => {
                self.state.advance(index);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Payload::default()
            }
        };
        self.last = Some(entry.log_id);
        Ok(answer)
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
        // A snapshot that fails stops the group, and on a full disk it would; the log can wait for room.
        if !force && self.disk.is_full() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        Builder { state: self.state.clone(), meta, shelf: self.shelf.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let (shelf, stored) = (self.shelf.clone(), Snapshot { meta: meta.clone(), snapshot });
        let volume = shelf.volume();
        let installed = volume::run(&*volume, move || {
            let state =
                M::restore(&stored.snapshot).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
            shelf.put(&stored)?;
            Ok::<M, io::Error>(state)
        });
        self.state = installed.await??;
        (self.last, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.publish(&mut Vec::new());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let shelf = self.shelf.clone();
        volume::run(&*shelf.volume(), move || shelf.get()).await?
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
            let bytes = shelf.put(&snapshot)?;
            metrics::snapshot(bytes);
            Ok(snapshot)
        });
        built.await?
    }
}
