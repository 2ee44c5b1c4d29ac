//! An accepted connection: its streams and datagrams, from the side that answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use skein_proto::{ErrorCode, Failure};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{host::Host, peers::Peers, serve_lane};
use crate::{
    Caller, Service,
    close::{STREAM_BAD_FRAME, STREAM_REFUSED},
    frame::{Frame, FrameError},
    stream::{FrameReader, QuicDuplex, ReadFailure, Sender},
};

/// One accepted connection and who is at its other end.
#[derive(Clone)]
pub(super) struct Accepted {
    pub(super) host: Arc<Host>,
    pub(super) peers: Arc<Peers>,
    pub(super) connection: Connection,
    pub(super) caller: Caller,
}

impl Accepted {
    /// Serves streams and datagrams until the connection ends.
    pub(super) async fn run(self) {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_bi() => match stream {
                    Ok((sender, receiver)) => {
                        streams.spawn(self.clone().stream(sender, receiver));
                    }
                    Err(_) => return,
                },
                datagram = self.connection.read_datagram() => match datagram {
                    Ok(bytes) => self.datagram(&bytes),
                    Err(_) => return,
                },
                Some(_) = streams.join_next() => {}
            }
        }
    }

    /// One stream: what it is, its first frame says.
    async fn stream(self, sender: SendStream, receiver: RecvStream) {
        let (mut sender, mut reader) = (Sender::new(sender), FrameReader::new(receiver));
        let first = timeout(self.host.config.handshake_timeout, reader.next()).await;
        match first {
            Ok(Ok(Some(Frame::Hello { version, boot }))) => {
                serve_lane::serve(self, version, boot, sender, reader).await;
            }
            Ok(Ok(Some(Frame::Open { service, is_stream: true, .. }))) => {
                self.free_stream(service, sender, reader);
            }
            Ok(Ok(Some(Frame::Open { service, deadline_ms, is_stream: false }))) => {
                self.request(service, Host::deadline(deadline_ms), sender, reader).await;
            }
            Ok(Ok(Some(_))) => self.bad_frame(&FrameError::Unexpected, &mut sender, &mut reader),
            Ok(Err(ReadFailure::Bad(error))) => self.bad_frame(&error, &mut sender, &mut reader),
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }

    pub(super) fn bad_frame(&self, error: &FrameError, sender: &mut Sender, reader: &mut FrameReader) {
        self.host.metrics.bad_frames.increment(1);
        tracing::warn!(caller = ?self.caller, %error, "bad frame ends its stream");
        sender.reset(STREAM_BAD_FRAME);
        reader.stop(STREAM_BAD_FRAME);
    }

    fn free_stream(&self, service: Option<Service>, mut sender: Sender, mut reader: FrameReader) {
        let is_closing = self.host.closing.is_cancelled();
        let (Ok(handler), false) = (self.host.handler(self.caller, service), is_closing) else {
            sender.reset(STREAM_REFUSED);
            reader.stop(STREAM_REFUSED);
            return;
        };
        let (host, caller) = (self.host.clone(), self.caller);
        host.metrics.served.increment(1);
        // Not dropped with the connection: its stream fails then, and the handler sees that.
        drop(host.spawn(async move {
            handler.stream(caller, Box::new(QuicDuplex::new(sender, reader))).await;
        }));
    }

    /// A request with a stream of its own.
    async fn request(self, service: Option<Service>, deadline: Instant, sender: Sender, reader: FrameReader) {
        let is_stranger = self.caller == Caller::Stranger;
        let permit = is_stranger.then(|| self.host.stranger_requests.clone().try_acquire_owned());
        let work = async {
            if let Some(Err(_)) = &permit {
                self.host.metrics.overloads.increment(1);
                let message = "this node serves too many outside requests";
                let failure = Failure::not_executed(ErrorCode::Overloaded, message);
                return (Err(failure.retry_after(RETRY_AFTER)), sender);
            }
            self.read_and_answer(service, deadline, sender, reader).await
        };
        let (answer, mut sender) = work.await;
        let token = self.host.requests.token();
        let frames = match answer {
            Ok(body) => [Frame::Reply { id: 0, body: Bytes::new() }.to_bytes(), body],
            Err(failure) => [Frame::fail(0, failure).to_bytes(), Bytes::new()],
        };
        let [head, body] = frames;
        let write = async {
            if sender.write_all_chunks(&mut [head, body]).await.is_ok() {
                sender.finish();
                // Until the other side has it all, shutdown may not close the connection.
                let _ = sender.stopped().await;
            }
        };
        let _ = timeout(ANSWER_TIMEOUT, write).await;
        drop(token);
    }

    async fn read_and_answer(
        &self,
        service: Option<Service>,
        deadline: Instant,
        mut sender: Sender,
        mut reader: FrameReader,
    ) -> (Result<Bytes, Failure>, Sender) {
        // Who may not ask is not listened to any further.
        if let Err(failure) = self.host.handler(self.caller, service) {
            reader.stop(STREAM_REFUSED);
            return (Err(failure), sender);
        }
        let limit = match self.caller {
            Caller::Peer(_) => self.host.config.body_bytes_max,
            Caller::Stranger => self.host.config.body_bytes_max.min(STRANGER_BODY_BYTES_MAX),
        };
        let patience = match self.caller {
            Caller::Peer(_) => deadline,
            Caller::Stranger => deadline.min(Instant::now() + STRANGER_BODY_TIMEOUT),
        };
        let body = match tokio::time::timeout_at(patience, reader.body(limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error @ ReadFailure::BodyTooLarge(_))) => {
                reader.stop(STREAM_REFUSED);
                let message = format!("the request's {error}");
                return (Err(Failure::not_executed(ErrorCode::TooLarge, message)), sender);
            }
            Ok(Err(error)) => {
                return (Err(Failure::not_executed(ErrorCode::Cancelled, error.to_string())), sender);
            }
            Err(_) => return (Err(crate::exchange::late(skein_proto::Progress::NotExecuted)), sender),
        };
        let (host, caller) = (self.host.clone(), self.caller);
        let work = self.host.spawn(async move { host.answer(caller, service, body, deadline).await });
        let work = AbortOnDropHandle::new(work);
        let answer = tokio::select! {
            answer = work => answer.unwrap_or_else(|_| {
                Err(Failure::maybe_executed(ErrorCode::Internal, "the handler was stopped"))
            }),
            // The caller takes no answer any more: it cancelled.
            _ = sender.stopped() => {
                sender.reset(STREAM_REFUSED);
                Err(Failure::maybe_executed(ErrorCode::Cancelled, "the caller took the call back"))
            }
        };
        (answer, sender)
    }

    fn datagram(&self, bytes: &[u8]) {
        match (Frame::decode(bytes), self.caller) {
            (Ok(Frame::Datagram { service, body }), Caller::Peer(node)) => self.host.datagram(node, service, body),
            (Ok(Frame::Unknown), _) => {}
            _ => self.host.metrics.bad_frames.increment(1),
        }
    }
}

/// How long a caller may take to fetch its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest request of a stranger: five times the default payload limit.
const STRANGER_BODY_BYTES_MAX: usize = 32 << 20;

/// How long a stranger may take to send its request.
const STRANGER_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// When to try again after a refusal.
const RETRY_AFTER: Duration = Duration::from_millis(100);
