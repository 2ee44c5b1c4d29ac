//! A lane: many calls on one long-lived stream, from the side that asks.
//!
//! ```text
//! begin -> pending table, bounded queue -> writer: drains the queue into one write
//! wait  <- pending table <------------------ reader: replies and failures by call id
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use skein_proto::{ErrorCode, Failure, Progress};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    Service,
    close::STREAM_BAD_FRAME,
    exchange::{late, remaining_ms},
    frame::{Frame, FrameError},
    metrics::Metrics,
    stream::{FrameReader, ReadFailure, Sender},
};

/// The asking end of a lane.
pub(crate) struct Lane {
    queue: mpsc::Sender<Outgoing>,
    pending: Mutex<Pending>,
    calls_max: usize,
    metrics: Metrics,
}

/// The calls that have no answer yet.
#[derive(Default)]
struct Pending {
    calls: HashMap<u64, Call>,
    is_closed: bool,
}

struct Call {
    answer: oneshot::Sender<Result<Bytes, Failure>>,
    is_written: bool,
}

/// What the writer is to send.
pub(crate) enum Outgoing {
    Call { id: u64, service: Service, deadline: Instant, body: Bytes },
    Cancel { id: u64 },
}

/// A call under way. Dropped before its answer, it cancels the call at the other side.
pub(crate) struct Waiting {
    lane: Arc<Lane>,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, Failure>>,
}

impl Lane {
    /// A lane and the queue that its [`run`](Self::run) drains.
    pub(crate) fn new(calls_max: usize, metrics: Metrics) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        // Twice the calls: each may be followed by its cancel.
        let (queue, outgoing) = mpsc::channel(calls_max.saturating_mul(2).max(1));
        (Arc::new(Self { queue, pending: Mutex::default(), calls_max, metrics }), outgoing)
    }

    /// Queues a call.
    pub(crate) fn begin(
        self: &Arc<Self>,
        id: u64,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Waiting, Failure> {
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.lock();
            if pending.is_closed {
                return Err(unsent());
            }
            if pending.calls.len() >= self.calls_max {
                self.metrics.overloads.increment(1);
                return Err(crowded());
            }
            pending.calls.insert(id, Call { answer: sender, is_written: false });
        }
        let waiting = Waiting { lane: self.clone(), id, answer };
        self.queue.try_send(Outgoing::Call { id, service, deadline, body }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => crowded(),
            mpsc::error::TrySendError::Closed(_) => unsent(),
        })?;
        Ok(waiting)
    }

    /// Whether the lane has ended, so that it takes no further calls.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Whether `id` still waits for its answer.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        self.lock().calls.contains_key(&id)
    }

    /// Hands a call its answer; one that nobody waits for any more is dropped.
    pub(crate) fn complete(&self, id: u64, answer: Result<Bytes, Failure>) {
        let call = self.lock().calls.remove(&id);
        if let Some(call) = call {
            let _ = call.answer.send(answer);
        }
    }

    /// Writes and reads until either ends, then fails what still waits.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut sender: Sender,
        mut reader: FrameReader,
        mut outgoing: mpsc::Receiver<Outgoing>,
    ) {
        let _closed = Closed(&self);
        let ended = tokio::select! {
            () = self.write(&mut sender, &mut outgoing) => Ok(()),
            ended = self.read(&mut reader) => ended,
        };
        if let Err(ReadFailure::Bad(error)) = &ended {
            self.metrics.bad_frames.increment(1);
            tracing::warn!(%error, "peer sent a bad frame on a lane");
            sender.reset(STREAM_BAD_FRAME);
            reader.stop(STREAM_BAD_FRAME);
        }
    }

    async fn write(&self, sender: &mut Sender, outgoing: &mut mpsc::Receiver<Outgoing>) {
        let mut batch = Vec::with_capacity(BATCH_FRAMES);
        let mut buffer = BytesMut::with_capacity(BATCH_BYTES);
        while outgoing.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
            self.mark_written(&mut batch);
            for item in batch.drain(..) {
                item.into_frame().write(&mut buffer);
                if buffer.len() >= BATCH_BYTES && sender.write_chunk(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            if !buffer.is_empty() && sender.write_chunk(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    }

    /// Drops calls that were taken back before they were written, and marks the others.
    fn mark_written(&self, batch: &mut Vec<Outgoing>) {
        let mut pending = self.lock();
        batch.retain(|item| match item {
            Outgoing::Call { id, .. } => pending.calls.get_mut(id).map(|call| call.is_written = true).is_some(),
            Outgoing::Cancel { .. } => true,
        });
    }

    async fn read(&self, reader: &mut FrameReader) -> Result<(), ReadFailure> {
        while let Some(frame) = reader.next().await? {
            match frame {
                Frame::Reply { id, body } => self.complete(id, Ok(body)),
                Frame::Fail { id, failure } => self.complete(id, Err(failure)),
                Frame::Hello { .. } | Frame::Unknown => {}
                Frame::Call { .. } | Frame::Cancel { .. } | Frame::Open { .. } | Frame::Datagram { .. } => {
                    return Err(FrameError::Unexpected.into());
                }
            }
        }
        Ok(())
    }

    fn close(&self) {
        let calls = {
            let mut pending = self.lock();
            pending.is_closed = true;
            std::mem::take(&mut pending.calls)
        };
        for call in calls.into_values() {
            let failure = if call.is_written { lost() } else { unsent() };
            let _ = call.answer.send(Err(failure));
        }
    }

    /// Takes a call back; whether it was written by then, if it was still waiting.
    fn take_back(&self, id: u64) -> Option<bool> {
        let call = self.lock().calls.remove(&id)?;
        if call.is_written {
            // With a full queue the other side learns it from the deadline.
            let _ = self.queue.try_send(Outgoing::Cancel { id });
        }
        Some(call.is_written)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the lane even when the task is dropped, with the runtime it ran on.
struct Closed<'a>(&'a Lane);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Waiting {
    /// The answer, or the failure that stands for it.
    pub(crate) async fn answer(mut self, deadline: Instant) -> Result<Bytes, Failure> {
        match timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(match self.lane.take_back(self.id) {
                Some(true) => late(Progress::MaybeExecuted),
                Some(false) => late(Progress::NotExecuted),
                // The answer came at this very moment.
                None => return self.answer.try_recv().unwrap_or_else(|_| Err(late(Progress::MaybeExecuted))),
            }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lane.take_back(self.id);
    }
}

impl Outgoing {
    fn into_frame(self) -> Frame {
        match self {
            Self::Call { id, service, deadline, body } => {
                Frame::Call { id, service: Some(service), deadline_ms: remaining_ms(deadline), body }
            }
            Self::Cancel { id } => Frame::Cancel { id },
        }
    }
}

fn crowded() -> Failure {
    Failure::not_executed(ErrorCode::Overloaded, "too many calls to this node are under way").retry_after(RETRY_AFTER)
}

fn unsent() -> Failure {
    Failure::not_executed(ErrorCode::Unreachable, "connection broke before the request was sent")
}

fn lost() -> Failure {
    Failure::maybe_executed(ErrorCode::PeerLost, "connection broke before the answer")
}

/// Frames drained into one write, at most.
pub(crate) const BATCH_FRAMES: usize = 128;

/// Bytes after which a batch is written even if more frames wait.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// When to try again after a full lane: about what a few hundred calls take.
const RETRY_AFTER: Duration = Duration::from_millis(20);
