//! A lane from the side that answers: reads calls, runs their handlers, writes what they say.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use skein_proto::{ErrorCode, Failure};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    host::{Host, draining},
    serve::Accepted,
};
use crate::{
    Caller, Service,
    close::{CLOSE_PROTOCOL, STREAM_REFUSED},
    frame::{Frame, FrameError, INLINE_BYTES_MAX, PROTOCOL_VERSION},
    lane::{BATCH_BYTES, BATCH_FRAMES},
    stream::{FrameReader, ReadFailure, Sender},
};

/// Answers the hello and then serves calls until the lane ends.
pub(super) async fn serve(accepted: Accepted, version: u32, boot: u64, mut sender: Sender, mut reader: FrameReader) {
    let hello = Frame::Hello { version: PROTOCOL_VERSION, boot: accepted.host.boot };
    if sender.write_chunk(hello.to_bytes()).await.is_err() {
        return;
    }
    if version != PROTOCOL_VERSION {
        tracing::warn!(caller = ?accepted.caller, version, "caller speaks another protocol version");
        sender.finish();
        // The hello tells it why; then the connection is of no use.
        let _ = timeout(accepted.host.config.handshake_timeout, sender.stopped()).await;
        accepted.connection.close(CLOSE_PROTOCOL, b"protocol version");
        return;
    }
    let Caller::Peer(node) = accepted.caller else {
        // A stranger only wanted to know whether it is understood.
        sender.finish();
        return;
    };
    let _ = sender.set_priority(LANE_PRIORITY);
    accepted.peers.heard_of(node, boot);
    let (answers, outgoing) = mpsc::channel(accepted.host.config.calls_per_lane_max.max(1));
    let lane = ServeLane { accepted, running: Arc::default(), answers };
    lane.run(sender, &mut reader, outgoing).await;
}

/// One frame to write; shutdown waits for its token.
type Answer = (Frame, TaskTrackerToken);

struct ServeLane {
    accepted: Accepted,
    running: Arc<Running>,
    answers: mpsc::Sender<Answer>,
}

/// The handlers that run for this lane. Ended with it.
#[derive(Default)]
struct Running(Mutex<HashMap<u64, AbortHandle>>);

impl ServeLane {
    async fn run(self, mut sender: Sender, reader: &mut FrameReader, mut outgoing: mpsc::Receiver<Answer>) {
        let answered = self.accepted.host.answered.clone();
        let _token = self.accepted.host.lanes.token();
        let ended = tokio::select! {
            () = write(&mut sender, &mut outgoing) => Ok(()),
            ended = self.read(reader) => ended,
            () = answered.cancelled() => {
                sender.finish();
                let _ = sender.stopped().await;
                Ok(())
            }
        };
        if let Err(ReadFailure::Bad(error)) = ended {
            self.accepted.bad_frame(&error, &mut sender, reader);
        }
        self.running.abort_all();
    }

    async fn read(&self, reader: &mut FrameReader) -> Result<(), ReadFailure> {
        while let Some(frame) = reader.next().await? {
            match frame {
                Frame::Call { id, service, deadline_ms, body } => {
                    self.call(id, service, Host::deadline(deadline_ms), body).await?;
                }
                Frame::Cancel { id } => self.running.abort(id),
                Frame::Hello { .. } | Frame::Unknown => {}
                Frame::Reply { .. } | Frame::Fail { .. } | Frame::Open { .. } | Frame::Datagram { .. } => {
                    return Err(FrameError::Unexpected.into());
                }
            }
        }
        Ok(())
    }

    async fn call(&self, id: u64, service: Option<Service>, deadline: Instant, body: Bytes) -> Result<(), ReadFailure> {
        let host = &self.accepted.host;
        if host.closing.is_cancelled() {
            self.say(Frame::fail(id, draining())).await;
            return Ok(());
        }
        let started = self.running.start(id, host.config.calls_per_lane_max, || {
            let (accepted, answers) = (self.accepted.clone(), self.answers.clone());
            let done = Done { running: self.running.clone(), id };
            let work = async move {
                let answer = accepted.host.answer(accepted.caller, service, body, deadline).await;
                accepted.reply(id, answer, deadline, &answers).await;
                drop(done);
            };
            host.spawn(work).abort_handle()
        });
        match started {
            Started::Running => {}
            Started::Crowded => {
                host.metrics.overloads.increment(1);
                let failure = Failure::not_executed(ErrorCode::Overloaded, "this node serves too many calls of yours");
                self.say(Frame::fail(id, failure)).await;
            }
            Started::Twice => return Err(FrameError::Unexpected.into()),
        }
        Ok(())
    }

    async fn say(&self, frame: Frame) {
        // An error means that the writer ended, and the lane with it.
        let _ = self.answers.send((frame, self.accepted.host.requests.token())).await;
    }
}

impl Accepted {
    /// Puts an answer on the lane, or on a stream of its own if it is large.
    async fn reply(&self, id: u64, answer: Result<Bytes, Failure>, deadline: Instant, answers: &mpsc::Sender<Answer>) {
        let frame = match answer {
            Ok(body) if body.len() > INLINE_BYTES_MAX => {
                // Late or lost, the caller has given up by itself.
                let _ = timeout_at(deadline, self.large_reply(id, body)).await;
                return;
            }
            Ok(body) => Frame::Reply { id, body },
            Err(failure) => Frame::fail(id, failure),
        };
        let _ = answers.send((frame, self.host.requests.token())).await;
    }

    async fn large_reply(&self, id: u64, body: Bytes) -> Option<()> {
        let mut sender = Sender::new(self.connection.open_uni().await.ok()?);
        let head = Frame::Reply { id, body: Bytes::new() }.to_bytes();
        sender.write_all_chunks(&mut [head, body]).await.ok()?;
        sender.finish();
        let _ = sender.stopped().await;
        Some(())
    }
}

/// Writes answers, as many as are ready in one go.
async fn write(sender: &mut Sender, outgoing: &mut mpsc::Receiver<Answer>) {
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    let mut buffer = BytesMut::with_capacity(BATCH_BYTES);
    while outgoing.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
        let mut tokens = Vec::with_capacity(batch.len());
        for (frame, token) in batch.drain(..) {
            frame.write(&mut buffer);
            tokens.push(token);
            if buffer.len() >= BATCH_BYTES && sender.write_chunk(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
        if !buffer.is_empty() && sender.write_chunk(buffer.split().freeze()).await.is_err() {
            sender.reset(STREAM_REFUSED);
            return;
        }
    }
}

enum Started {
    Running,
    Crowded,
    Twice,
}

impl Running {
    /// Starts a handler unless there are too many, or one of this id. It cannot end before it is in the table: its
    /// end waits for the lock.
    fn start(&self, id: u64, running_max: usize, spawn: impl FnOnce() -> AbortHandle) -> Started {
        let mut running = self.lock();
        if running.contains_key(&id) {
            return Started::Twice;
        }
        if running.len() >= running_max {
            return Started::Crowded;
        }
        running.insert(id, spawn());
        Started::Running
    }

    fn abort(&self, id: u64) {
        let handle = self.lock().remove(&id);
        if let Some(handle) = handle {
            handle.abort();
        }
    }

    fn abort_all(&self) {
        let handles = std::mem::take(&mut *self.lock());
        for handle in handles.into_values() {
            handle.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a handler out of the table when it has ended, however it did.
struct Done {
    running: Arc<Running>,
    id: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

/// Lanes go before streams of their own on the same connection.
pub(super) const LANE_PRIORITY: i32 = 1;
