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

use super::{
    entrance::{INTRODUCTION_BYTES_MAX, Place, Share},
    host::{Asked, Host, draining},
    peers::Peers,
    serve_lane,
};
use crate::{
    Caller, Service,
    close::{STREAM_BAD_FRAME, STREAM_REFUSED},
    frame::{Frame, FrameError, ShownKey},
    metrics::Counted,
    quic,
    stream::{FrameReader, QuicDuplex, ReadFailure, Sender},
};

/// One accepted connection and who is at its other end.
#[derive(Clone)]
pub(super) struct Accepted {
    pub(super) host: Arc<Host>,
    pub(super) peers: Arc<Peers>,
    pub(super) connection: Connection,
    pub(super) caller: Caller,
    /// What a stranger may have under way, and whether it has shown a key.
    pub(super) share: Arc<Share>,
    pub(super) _counted: Arc<Counted>,
}

/// What the first frame of a request says.
struct Opened {
    service: Option<Service>,
    key: Option<ShownKey>,
    deadline: Instant,
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
        let first = async {
            match self.caller {
                Caller::Peer(_) => reader.next().await,
                Caller::Stranger => reader.first_of_stranger().await,
            }
        };
        let first = timeout(self.host.config.handshake_timeout, first).await;
        match first {
            Ok(Ok(Some(Frame::Hello { version, boot }))) => {
                serve_lane::serve(self, version, boot, sender, reader).await;
            }
            Ok(Ok(Some(Frame::Open { service, is_stream: true, .. }))) => {
                self.free_stream(service, sender, reader);
            }
            Ok(Ok(Some(Frame::Open { service, deadline_ms, is_stream: false, key }))) => {
                let opened = Opened { service, key, deadline: Host::deadline(deadline_ms) };
                self.request(opened, sender, reader).await;
            }
            Ok(Ok(Some(_))) => self.bad_frame(&FrameError::Unexpected, &mut sender, &mut reader),
            Ok(Err(ReadFailure::Bad(error))) => self.bad_frame(&error, &mut sender, &mut reader),
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }

    pub(super) fn bad_frame(&self, error: &FrameError, sender: &mut Sender, reader: &mut FrameReader) {
        self.host.complain(self.caller, error);
        sender.reset(STREAM_BAD_FRAME);
        reader.stop(STREAM_BAD_FRAME);
    }

    fn free_stream(&self, service: Option<Service>, mut sender: Sender, mut reader: FrameReader) {
        // No service has streams for strangers, and a stream outlives its connection here.
        let may_not = self.host.closing.is_cancelled() || self.caller == Caller::Stranger;
        let (Ok(handler), false) = (self.host.handler(self.caller, service), may_not) else {
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
    async fn request(self, opened: Opened, sender: Sender, reader: FrameReader) {
        // Taken before the request is answered and kept until the caller has the answer: shutdown waits for it.
        let token = self.host.requests.token();
        let (answer, mut sender) = self.read_and_answer(opened, sender, reader).await;
        let [head, body] = match answer {
            Ok(body) => [Frame::Reply { id: 0, body: Bytes::new() }.to_bytes(), body],
            Err(failure) => [Frame::fail(0, failure).to_bytes(), Bytes::new()],
        };
        let write = async {
            if sender.write_all_chunks(&mut [head, body]).await.is_ok() {
                sender.finish();
                let _ = sender.stopped().await;
            }
        };
        let _ = timeout(ANSWER_TIMEOUT, write).await;
        drop(token);
    }

    /// The stranger is a client, and may have as much under way as a client may.
    fn has_shown_a_key(&self) -> Result<(), Failure> {
        let Some(is_new) = self.share.has_shown_a_key() else {
            self.host.metrics.overloads.increment(1);
            return Err(crowded("this node has as many connections of clients as it takes"));
        };
        if is_new {
            quic::trust_with_streams(&self.connection, self.host.config.streams_per_client_max);
        }
        Ok(())
    }

    async fn read_and_answer(
        &self,
        opened: Opened,
        mut sender: Sender,
        mut reader: FrameReader,
    ) -> (Result<Bytes, Failure>, Sender) {
        let Opened { service, deadline, key } = opened;
        // Who may not ask is not listened to any further.
        let mut place = match self.may_ask(service, key.as_ref(), deadline).await {
            Ok(place) => place,
            Err(failure) => {
                reader.stop(STREAM_REFUSED);
                return (Err(failure), sender);
            }
        };
        let body = match self.read(service, deadline, &mut reader, place.as_mut()).await {
            Ok(body) => body,
            Err(failure) => {
                reader.stop(STREAM_REFUSED);
                return (Err(failure), sender);
            }
        };
        let _busy = self.share.busy();
        let (host, caller) = (self.host.clone(), self.caller);
        let key = key.filter(|_| caller == Caller::Stranger && service.is_some_and(Service::is_for_clients));
        let asked = Asked { service, key, body };
        let work = self.host.spawn(async move { host.answer(caller, asked, deadline).await });
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

    /// A stranger's request needs a key, unless it brings a token, and a place; peers are bounded by their connections.
    async fn may_ask(
        &self,
        service: Option<Service>,
        key: Option<&ShownKey>,
        deadline: Instant,
    ) -> Result<Option<Place>, Failure> {
        if self.caller != Caller::Stranger {
            return self.host.handler(self.caller, service).map(|_| None);
        }
        let patience = deadline.min(Instant::now() + ADMIT_TIMEOUT);
        let admitted = tokio::select! {
            admitted = tokio::time::timeout_at(patience, self.host.admit_key(service, key)) => admitted,
            () = self.host.closing.cancelled() => return Err(draining()),
        };
        admitted.unwrap_or_else(|_| Err(crate::exchange::late(skein_proto::Progress::NotExecuted)))?;
        if service.is_some_and(Service::is_for_clients) {
            self.has_shown_a_key()?;
        }
        let place = self.host.admit(&self.share, service);
        place.map(Some).ok_or_else(|| crowded("this node has as many requests of clients under way as it takes"))
    }

    /// The request's body. Nothing has run when it cannot be had.
    async fn read(
        &self,
        service: Option<Service>,
        deadline: Instant,
        reader: &mut FrameReader,
        place: Option<&mut Place>,
    ) -> Result<Bytes, Failure> {
        let of_strangers = match service.is_some_and(Service::is_introduction) {
            true => INTRODUCTION_BYTES_MAX,
            false => CLIENT_BODY_BYTES_MAX,
        };
        let (limit, patience) = match self.caller {
            Caller::Peer(_) => (self.host.config.body_bytes_max, deadline),
            Caller::Stranger => {
                (self.host.config.body_bytes_max.min(of_strangers), deadline.min(Instant::now() + CLIENT_BODY_TIMEOUT))
            }
        };
        let read = async {
            match place {
                Some(place) => reader.body_as_far_as(limit, |bytes| place.hold(bytes)).await,
                None => reader.body(limit).await,
            }
        };
        let read = tokio::select! {
            read = tokio::time::timeout_at(patience, read) => read,
            // What has not arrived by now would only be refused; shutdown does not wait for it.
            () = self.host.closing.cancelled() => return Err(draining()),
        };
        match read {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error @ ReadFailure::BodyTooLarge(_))) => {
                Err(Failure::not_executed(ErrorCode::TooLarge, format!("the request's {error}")))
            }
            Ok(Err(ReadFailure::NoRoom)) => {
                self.host.metrics.overloads.increment(1);
                Err(crowded("this node holds as many bytes of clients' requests as it may"))
            }
            Ok(Err(error)) => Err(Failure::not_executed(ErrorCode::Cancelled, error.to_string())),
            Err(_) => Err(crate::exchange::late(skein_proto::Progress::NotExecuted)),
        }
    }

    fn datagram(&self, bytes: &[u8]) {
        match (Frame::decode(bytes), self.caller) {
            (Ok(Frame::Datagram { service, body }), Caller::Peer(node)) => self.host.datagram(node, service, body),
            (Ok(Frame::Probe | Frame::Unknown), _) => {}
            _ => self.host.metrics.bad_frames.increment(1),
        }
    }
}

/// Refused at the node's door, whatever the call: another node may take it. Not `overloaded`, which is said of a function.
fn crowded(message: &str) -> Failure {
    Failure::not_executed(ErrorCode::Unavailable, message).retry_after(RETRY_AFTER)
}

/// How long a caller may take to fetch its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest request of a client: five times the default payload limit.
const CLIENT_BODY_BYTES_MAX: usize = 32 << 20;

/// How long a client may take to send its request.
const CLIENT_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to say whether a key is good: a node that starts waits until it knows its mesh's keys.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// When to try again after a refusal.
const RETRY_AFTER: Duration = Duration::from_millis(100);
