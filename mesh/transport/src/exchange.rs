//! One request on a stream of its own, from the side that asks.
//!
//! ```text
//! asker    Open frame, body ... FIN          answerer    Reply frame, body ... FIN   or   Fail frame, FIN
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, WriteError};
use skein_proto::{ErrorCode, Failure, Progress};
use tokio::time::{Instant, timeout_at};

use crate::{
    Service,
    close::STREAM_BAD_FRAME,
    frame::{Frame, ShownKey},
    stream::{FrameReader, QuicDuplex, ReadFailure, Sender},
};

/// Sends `body` on a stream of its own and waits for the answer. Dropping the future cancels at the other side.
pub(crate) async fn exchange(
    connection: &Connection,
    service: Service,
    body: Bytes,
    deadline: Instant,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    match timeout_at(deadline, connection.open_bi()).await {
        Ok(opened) => converse(opened, Request { service, key: None, body }, deadline, bytes_max).await?,
        Err(_) => Err(late(Progress::NotExecuted)),
    }
}

/// What is asked, and the key by which it may be.
pub(crate) struct Request {
    pub(crate) service: Service,
    pub(crate) key: Option<ShownKey>,
    pub(crate) body: Bytes,
}

/// What the other side says: the answer, or that it failed.
pub(crate) type Word = Result<Bytes, Failure>;

/// The same on a stream that has been opened for it, if it could be. A failure that the other side tells is its word; that
/// none came, or none that can be read, is this side's failure.
pub(crate) async fn converse(
    opened: Result<(SendStream, RecvStream), ConnectionError>,
    request: Request,
    deadline: Instant,
    bytes_max: usize,
) -> Result<Word, Failure> {
    // Nothing runs over there before the whole request has arrived, so until its end is sent nothing can have.
    let progress = Reached::default();
    let work = async {
        let (sender, receiver) = opened.map_err(|error| lost(&progress, &error))?;
        let (mut sender, mut reader) = (Sender::new(sender), FrameReader::new(receiver));
        let written = write(&mut sender, request, deadline).await;
        match written {
            Ok(()) => {
                progress.sent();
                sender.finish();
            }
            // The other side may have answered before it had read everything.
            Err(WriteError::Stopped(_)) => {}
            Err(error) => return Err(lost(&progress, &error)),
        }
        answer(&mut reader, bytes_max, &progress).await
    };
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late(progress.get())))
}

/// Opens a free stream.
pub(crate) async fn open(connection: &Connection, service: Service, deadline: Instant) -> Result<QuicDuplex, Failure> {
    let progress = Reached::default();
    let work = async {
        let (sender, receiver) = connection.open_bi().await.map_err(|error| lost(&progress, &error))?;
        let mut sender = Sender::new(sender);
        let frame =
            Frame::Open { service: Some(service), deadline_ms: remaining_ms(deadline), is_stream: true, key: None };
        sender.write_chunk(frame.to_bytes()).await.map_err(|error| lost(&progress, &error))?;
        Ok(QuicDuplex::new(sender, FrameReader::new(receiver)))
    };
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late(Progress::NotExecuted)))
}

async fn write(
    sender: &mut Sender,
    Request { service, key, body }: Request,
    deadline: Instant,
) -> Result<(), WriteError> {
    let frame = Frame::Open { service: Some(service), deadline_ms: remaining_ms(deadline), is_stream: false, key };
    sender.write_all_chunks(&mut [frame.to_bytes(), body]).await
}

async fn answer(reader: &mut FrameReader, bytes_max: usize, progress: &Reached) -> Result<Word, Failure> {
    match reader.next().await {
        Ok(Some(Frame::Reply { .. })) => reader.body(bytes_max).await.map(Ok).map_err(|error| unread(progress, &error)),
        Ok(Some(Frame::Fail { failure, .. })) => Ok(Err(failure)),
        Ok(Some(_)) => {
            reader.stop(STREAM_BAD_FRAME);
            Err(Failure { progress: progress.get(), ..Failure::maybe_executed(ErrorCode::Malformed, BAD_ANSWER) })
        }
        Ok(None) => Err(lost(progress, &"the answer is missing")),
        Err(error) => Err(unread(progress, &error)),
    }
}

fn unread(progress: &Reached, error: &ReadFailure) -> Failure {
    match error {
        ReadFailure::BodyTooLarge(_) => Failure::executed(ErrorCode::TooLarge, format!("the answer's {error}")),
        ReadFailure::Bad(_) => {
            Failure { progress: progress.get(), ..Failure::maybe_executed(ErrorCode::Malformed, error.to_string()) }
        }
        ReadFailure::Lost(_) | ReadFailure::NoRoom => lost(progress, error),
    }
}

/// How far a request got.
#[derive(Default)]
struct Reached(AtomicBool);

impl Reached {
    /// The whole request is on its way.
    fn sent(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> Progress {
        if self.0.load(Ordering::Relaxed) { Progress::MaybeExecuted } else { Progress::NotExecuted }
    }
}

/// The connection or stream broke.
fn lost(progress: &Reached, error: &impl std::fmt::Display) -> Failure {
    match progress.get() {
        Progress::NotExecuted => {
            Failure::not_executed(ErrorCode::Unreachable, format!("connection broke before the request left: {error}"))
        }
        _ => Failure::maybe_executed(ErrorCode::PeerLost, format!("connection broke before the answer: {error}")),
    }
}

/// The deadline passed.
pub(crate) fn late(progress: Progress) -> Failure {
    Failure { progress, ..Failure::maybe_executed(ErrorCode::DeadlineExceeded, "no answer came by the deadline") }
}

/// What is left until `deadline`, rounded up, for a peer whose clock is its own.
pub(crate) fn remaining_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

const BAD_ANSWER: &str = "the answer is not a reply";
