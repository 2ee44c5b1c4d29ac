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
    sync::{Notify, mpsc, oneshot},
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
    /// The other side is leaving, and no call waits for its answer any more.
    over: Notify,
}

/// The calls that have no answer yet.
#[derive(Default)]
struct Pending {
    calls: HashMap<u64, Call>,
    /// No call is begun any more.
    is_closed: bool,
    /// Cancels that found the queue full. At most one for each call that was written, of which there are `calls_max`:
    /// the writer takes them with whatever it takes next, and a full queue lets nothing new in.
    cancels: Vec<u64>,
}

impl Pending {
    fn is_over(&self) -> bool {
        self.is_closed && self.calls.is_empty()
    }
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
        (Arc::new(Self { queue, pending: Mutex::default(), calls_max, metrics, over: Notify::new() }), outgoing)
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
        let call = {
            let mut pending = self.lock();
            let call = pending.calls.remove(&id);
            self.look_whether_over(&pending);
            call
        };
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
        while !(self.is_over() && outgoing.is_empty()) {
            tokio::select! {
                biased;
                count = outgoing.recv_many(&mut batch, BATCH_FRAMES) => if count == 0 { break },
                () = self.over.notified() => continue,
            }
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
        // The other side waits for this end before it ends the lane itself.
        sender.finish();
        std::future::pending().await
    }

    /// Drops calls that were taken back before they were written, marks the others, and adds the cancels that were kept.
    fn mark_written(&self, batch: &mut Vec<Outgoing>) {
        let mut pending = self.lock();
        batch.extend(pending.cancels.drain(..).map(|id| Outgoing::Cancel { id }));
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
                Frame::Bye => self.leave(),
                Frame::Hello { .. } | Frame::Probe | Frame::Unknown => {}
                Frame::Call { .. } | Frame::Cancel { .. } | Frame::Open { .. } | Frame::Datagram { .. } => {
                    return Err(FrameError::Unexpected.into());
                }
            }
        }
        Ok(())
    }

    /// The other side is leaving: no new calls. What it was sent, it answers.
    fn leave(&self) {
        let mut pending = self.lock();
        pending.is_closed = true;
        self.look_whether_over(&pending);
    }

    fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    fn look_whether_over(&self, pending: &Pending) {
        if pending.is_over() {
            self.over.notify_one();
        }
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
        let mut pending = self.lock();
        let call = pending.calls.remove(&id)?;
        // Its handler runs for nobody: whatever else happens, the other side must hear of it.
        if call.is_written
            && let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(Outgoing::Cancel { id })
        {
            pending.cancels.push(id);
        }
        self.look_whether_over(&pending);
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// What the writer would put on the wire now.
    fn written(lane: &Lane, outgoing: &mut mpsc::Receiver<Outgoing>) -> Vec<Frame> {
        let mut batch: Vec<_> = std::iter::from_fn(|| outgoing.try_recv().ok()).collect();
        lane.mark_written(&mut batch);
        batch.into_iter().map(Outgoing::into_frame).collect()
    }

    #[tokio::test]
    async fn a_cancel_that_finds_the_queue_full_is_written_all_the_same() {
        let (lane, mut outgoing) = Lane::new(1, Metrics::new());
        let by = Instant::now() + LONG;
        let first = lane.begin(1, Service::Invoke, Bytes::new(), by).unwrap();
        assert!(matches!(written(&lane, &mut outgoing)[..], [Frame::Call { id: 1, .. }]));
        for id in [8, 9] {
            lane.queue.try_send(Outgoing::Cancel { id }).map_err(drop).unwrap();
        }
        drop(first);
        let frames = written(&lane, &mut outgoing);
        assert!(frames.contains(&Frame::Cancel { id: 1 }), "{frames:?}");
        assert!(written(&lane, &mut outgoing).is_empty());
    }

    #[tokio::test]
    async fn a_lane_whose_other_side_leaves_takes_no_call_and_is_over_when_the_last_has_its_answer() {
        let (lane, mut outgoing) = Lane::new(4, Metrics::new());
        let by = Instant::now() + LONG;
        let (first, second) = (
            lane.begin(1, Service::Invoke, Bytes::new(), by).unwrap(),
            lane.begin(2, Service::Invoke, Bytes::new(), by),
        );
        assert_eq!(written(&lane, &mut outgoing).len(), 2);
        lane.leave();
        let refused = lane.begin(3, Service::Invoke, Bytes::new(), by).err().unwrap();
        assert_eq!((refused.code, refused.progress), (ErrorCode::Unreachable, Progress::NotExecuted));
        lane.complete(1, Ok(Bytes::from_static(b"late, not lost")));
        assert_eq!(first.answer(by).await.unwrap(), "late, not lost");
        assert!(!lane.is_over(), "one still waits");
        drop(second);
        assert!(lane.is_over());
        lane.over.notified().await;
    }
}
