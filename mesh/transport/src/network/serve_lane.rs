//! A lane from the side that answers: reads calls, runs their handlers, writes what they say.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
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
    host::{Asked, Host, draining},
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
        let message = format!("the caller speaks protocol version {version}, this node {PROTOCOL_VERSION}");
        accepted.host.complain(accepted.caller, &message);
        sender.finish();
        // The hello tells it why; then the connection is of no use.
        let _ = timeout(accepted.host.config.handshake_timeout, sender.stopped()).await;
        accepted.connection.close(CLOSE_PROTOCOL, b"protocol version");
        return;
    }
    let Caller::Peer(node) = accepted.caller else {
        say_goodbye_to_a_stranger(&accepted.host, &mut sender).await;
        return;
    };
    let _ = sender.set_priority(LANE_PRIORITY);
    accepted.peers.heard_of(node, boot);
    let (answers, outgoing) = mpsc::channel(accepted.host.config.calls_per_lane_max.max(1));
    let lane = ServeLane { accepted, running: Arc::default(), answers: Some(answers) };
    lane.run(sender, &mut reader, outgoing).await;
}

/// Keeps a stranger's hello stream open to tell it when to go elsewhere.
async fn say_goodbye_to_a_stranger(host: &Host, sender: &mut Sender) {
    tokio::select! {
        () = host.farewell.cancelled() => {
            if sender.write_chunk(Frame::Bye.to_bytes()).await.is_ok() {
                sender.finish();
            }
        }
        // It does not listen.
        _ = sender.stopped() => sender.finish(),
    }
}

/// One frame to write; shutdown waits for its token.
type Answer = (Frame, TaskTrackerToken);

struct ServeLane {
    accepted: Accepted,
    running: Arc<Running>,
    /// None when no further call is taken.
    answers: Option<mpsc::Sender<Answer>>,
}

/// The handlers that run for this lane. Ended with it.
#[derive(Default)]
struct Running(Mutex<Handlers>);

#[derive(Default)]
struct Handlers {
    by_call: HashMap<u64, Handler>,
    started: u64,
}

/// One handler, and the how manieth of its lane it is: a caller may use an id again that it has cancelled.
struct Handler {
    serial: u64,
    task: AbortHandle,
}

impl ServeLane {
    async fn run(mut self, mut sender: Sender, reader: &mut FrameReader, mut outgoing: mpsc::Receiver<Answer>) {
        let _token = self.accepted.host.lanes.token();
        let ended = {
            let mut writing = pin!(write(&mut sender, &mut outgoing));
            let ended = tokio::select! {
                () = &mut writing => Err(None),
                ended = self.read(reader) => ended.map_err(Some),
            };
            // The caller has sent its last call, as it was told to: it gets what it still waits for.
            let is_told = ended.is_ok() && self.accepted.host.closing.is_cancelled();
            if is_told {
                self.answers = None;
                writing.await;
            }
            ended.map(|()| is_told)
        };
        match ended {
            Ok(true) => {
                sender.finish();
                let _ = sender.stopped().await;
            }
            Err(Some(ReadFailure::Bad(error))) => self.accepted.bad_frame(&error, &mut sender, reader),
            Ok(false) | Err(_) => {}
        }
    }

    /// Takes calls until the caller sends no more.
    async fn read(&self, reader: &mut FrameReader) -> Result<(), ReadFailure> {
        let mut closing = pin!(self.accepted.host.closing.cancelled());
        let mut has_said_goodbye = false;
        loop {
            let frame = tokio::select! {
                frame = reader.next() => frame?,
                () = &mut closing, if !has_said_goodbye => {
                    has_said_goodbye = true;
                    self.say(Frame::Bye).await;
                    continue;
                }
            };
            match frame {
                Some(frame) => self.take(frame).await?,
                None => return Ok(()),
            }
        }
    }

    async fn take(&self, frame: Frame) -> Result<(), ReadFailure> {
        match frame {
            Frame::Call { id, service, deadline_ms, body } => {
                self.call(id, service, Host::deadline(deadline_ms), body).await
            }
            Frame::Cancel { id } => {
                self.running.abort(id);
                Ok(())
            }
            Frame::Hello { .. } | Frame::Bye | Frame::Probe | Frame::Unknown => Ok(()),
            Frame::Reply { .. } | Frame::Fail { .. } | Frame::Open { .. } | Frame::Datagram { .. } => {
                Err(FrameError::Unexpected.into())
            }
        }
    }

    async fn call(&self, id: u64, service: Option<Service>, deadline: Instant, body: Bytes) -> Result<(), ReadFailure> {
        let host = &self.accepted.host;
        if host.closing.is_cancelled() {
            self.say(Frame::fail(id, draining())).await;
            return Ok(());
        }
        let Some(answers) = self.answers.clone() else { return Ok(()) };
        let started = self.running.start(id, host.config.calls_per_lane_max, |serial| {
            let (accepted, running) = (self.accepted.clone(), self.running.clone());
            let work = async move {
                // Made when the task first runs, not before: the table is locked until then.
                let _done = Done { running, id, serial };
                let answer = accepted.host.answer(accepted.caller, Asked { service, key: None, body }, deadline).await;
                accepted.reply(id, answer, deadline, &answers).await;
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
        if let Some(answers) = &self.answers {
            // An error means that the writer ended, and the lane with it.
            let _ = answers.send((frame, self.accepted.host.requests.token())).await;
        }
    }
}

impl Drop for ServeLane {
    /// However the lane ended: its task is dropped with the connection, too. Nobody waits for the answers any more.
    fn drop(&mut self) {
        self.running.abort_all();
    }
}

impl Accepted {
    /// Puts an answer on the lane, or on a stream of its own if it is large.
    async fn reply(&self, id: u64, answer: Result<Bytes, Failure>, deadline: Instant, answers: &mpsc::Sender<Answer>) {
        let frame = match answer {
            Ok(body) if body.len() > INLINE_BYTES_MAX => match timeout_at(deadline, self.large_reply(id, body)).await {
                Ok(None) => {
                    let message = "the answer is large and its stream broke before the caller had it";
                    Frame::fail(id, Failure::maybe_executed(ErrorCode::PeerLost, message))
                }
                // Late, the caller has given up by itself.
                Ok(Some(())) | Err(_) => return,
            },
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
        // None when the caller has it all; a code when it did not take it.
        sender.stopped().await.ok()?.is_none().then_some(())
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
    fn start(&self, id: u64, running_max: usize, spawn: impl FnOnce(u64) -> AbortHandle) -> Started {
        let mut handlers = self.lock();
        if handlers.by_call.contains_key(&id) {
            return Started::Twice;
        }
        if handlers.by_call.len() >= running_max {
            return Started::Crowded;
        }
        handlers.started += 1;
        let serial = handlers.started;
        handlers.by_call.insert(id, Handler { serial, task: spawn(serial) });
        Started::Running
    }

    fn abort(&self, id: u64) {
        let handler = self.lock().by_call.remove(&id);
        if let Some(handler) = handler {
            handler.task.abort();
        }
    }

    /// Takes out a handler that has ended, unless another one has its id by now.
    fn ended(&self, id: u64, serial: u64) {
        if let Entry::Occupied(entry) = self.lock().by_call.entry(id)
            && entry.get().serial == serial
        {
            entry.remove();
        }
    }

    fn abort_all(&self) {
        let handlers = std::mem::take(&mut self.lock().by_call);
        for handler in handlers.into_values() {
            handler.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handlers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a handler out of the table when it has ended, however it did.
struct Done {
    running: Arc<Running>,
    id: u64,
    serial: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.running.ended(self.id, self.serial);
    }
}

/// Lanes go before streams of their own on the same connection.
pub(super) const LANE_PRIORITY: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_handler_that_ends_late_leaves_the_next_one_of_its_id_alone() {
        let running = Running::default();
        let task = || tokio::spawn(std::future::pending::<()>()).abort_handle();
        assert!(matches!(running.start(7, 1, |_| task()), Started::Running));
        running.abort(7);
        assert!(matches!(running.start(7, 1, |_| task()), Started::Running));
        running.ended(7, 1);
        assert!(matches!(running.start(7, 2, |_| task()), Started::Twice), "the second one still runs");
        running.ended(7, 2);
        assert!(matches!(running.start(7, 1, |_| task()), Started::Running));
        running.abort_all();
    }
}
