//! One exchange with one peer, seen from the node that asks.

use std::time::Duration;

use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, NodeId, codec};
use skein_transport::{Service, Transport};
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::wire::{self, Answer, Request, WireError};

/// Why a peer did not give or take an artifact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// It could not be reached, or said no.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The exchange broke off.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It answered what was not asked.
    #[error("the peer answered what was not asked")]
    Unexpected,
}

impl ExchangeError {
    /// Whether more patience might have brought the artifact.
    pub(crate) fn is_for_want_of_time(&self) -> bool {
        match self {
            Self::Refused(failure) => failure.code == ErrorCode::DeadlineExceeded,
            Self::Wire(error) => matches!(error, WireError::Stalled(_)),
            Self::Unexpected => false,
        }
    }
}

/// How long an exchange goes on without a byte moving, whatever the deadline: a peer that dies in the middle is left
/// for the next.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(5);
/// How long one may wait for an answer that takes work: a peer reads and hashes, or hashes, writes and syncs, 64 MiB.
pub(crate) const ANSWER_STALL_MAX: Duration = Duration::from_secs(15);

/// How patient an exchange is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    /// Longest time without a byte while bytes are under way.
    pub(crate) stall: Duration,
    /// Longest wait for an answer.
    pub(crate) answer: Duration,
}

impl Patience {
    /// Leaves the same share of what is left until `deadline` to each of `peers` that are still to be asked.
    pub(crate) fn share(deadline: Instant, peers: usize) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(peers.max(1)).unwrap_or(u32::MAX);
        Self { deadline, stall: share.min(STALL_MAX), answer: share.min(ANSWER_STALL_MAX) }
    }
}

/// Asks `peer` for an artifact. The bytes are not verified yet.
pub(crate) async fn pull(
    transport: &dyn Transport,
    peer: NodeId,
    digest: Digest,
    patience: Patience,
) -> Result<Bytes, ExchangeError> {
    let connect_by = patience.deadline.min(Instant::now() + patience.stall);
    let mut stream = transport.open(peer, Service::Artifact, connect_by).await?;
    wire::send(&mut *stream, &Request::Get { digest }, patience.stall).await?;
    let bytes = match wire::receive(&mut *stream, patience.answer).await? {
        Answer::Bytes { size } => wire::receive_bytes(&mut *stream, size, patience.stall).await?,
        Answer::Failed(failure) => return Err(failure.into()),
        Answer::Send | Answer::Kept => return Err(ExchangeError::Unexpected),
    };
    // Everything is here: how the stream ends does not matter any more.
    let _ = stream.shutdown().await;
    Ok(bytes)
}

/// Has `peer` keep an artifact; when this returns, it does so durably.
pub(crate) async fn push(
    transport: &dyn Transport,
    peer: NodeId,
    (digest, bytes): (Digest, &Bytes),
    patience: Patience,
) -> Result<(), ExchangeError> {
    let connect_by = patience.deadline.min(Instant::now() + patience.stall);
    let mut stream = transport.open(peer, Service::Artifact, connect_by).await?;
    wire::send(&mut *stream, &Request::Put { digest, size: bytes.len() as u64 }, patience.stall).await?;
    let mut answer = wire::receive(&mut *stream, patience.answer).await?;
    if answer == Answer::Send {
        wire::send_bytes(&mut *stream, bytes, patience.stall).await?;
        answer = wire::receive(&mut *stream, patience.answer).await?;
    }
    let _ = stream.shutdown().await;
    match answer {
        Answer::Kept => Ok(()),
        Answer::Failed(failure) => Err(failure.into()),
        Answer::Bytes { .. } | Answer::Send => Err(ExchangeError::Unexpected),
    }
}

/// Which of these artifacts `peer` says that it has, a truth value for each.
pub(crate) async fn ask_which(
    transport: &dyn Transport,
    peer: NodeId,
    digests: &[Digest],
    deadline: Instant,
) -> Result<Vec<bool>, Failure> {
    let body = codec::encode(&Request::Which { digests: digests.to_vec() })?;
    let answer = transport.call(peer, Service::Artifact, body, deadline).await?;
    let malformed = |message: String| Failure::executed(ErrorCode::Malformed, message);
    let has: Vec<bool> = codec::decode(&answer).map_err(|error| malformed(error.to_string()))?;
    if has.len() != digests.len() {
        return Err(malformed(format!(
            "node {peer} was asked for {} artifacts and told of {}",
            digests.len(),
            has.len()
        )));
    }
    Ok(has)
}

/// Whether `peer` says that it has the artifact.
pub(crate) async fn ask(
    transport: &dyn Transport,
    peer: NodeId,
    digest: Digest,
    deadline: Instant,
) -> Result<bool, Failure> {
    let body = codec::encode(&Request::Has { digest })?;
    let answer = transport.call(peer, Service::Artifact, body, deadline).await?;
    codec::decode(&answer).map_err(|error| Failure::executed(ErrorCode::Malformed, error.to_string()))
}
