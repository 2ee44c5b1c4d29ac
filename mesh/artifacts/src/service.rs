//! Answering peers: has, get, put.

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, codec};
use skein_transport::{Caller, Duplex, Serve};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    Artifacts,
    exchange::STALL_MAX,
    metrics,
    wire::{self, Answer, Request, WHICH_MAX, WireError},
};

/// The service of one node's artifacts.
pub(crate) struct Service(pub(crate) Artifacts);

#[async_trait]
impl Serve for Service {
    async fn call(&self, from: Caller, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        check_peer(from)?;
        match codec::decode(&body)? {
            Request::Has { digest } => Ok(codec::encode(&self.0.has(digest))?),
            Request::Which { digests } if digests.len() > WHICH_MAX => {
                let message = format!("{} artifacts are asked about; at most {WHICH_MAX} may be", digests.len());
                Err(Failure::not_executed(ErrorCode::BadRequest, message))
            }
            Request::Which { digests } => Ok(codec::encode(&self.0.which(digests).await?)?),
            Request::Get { .. } | Request::Put { .. } => {
                Err(Failure::not_executed(ErrorCode::BadRequest, "artifacts travel on streams, not in calls"))
            }
        }
    }

    async fn stream(&self, from: Caller, mut stream: Box<dyn Duplex>) {
        if let Err(error) = self.serve(from, &mut *stream).await {
            debug!(?from, %error, "an exchange of an artifact broke off");
        }
    }
}

impl Service {
    async fn serve(&self, from: Caller, stream: &mut dyn Duplex) -> Result<(), WireError> {
        let request = wire::receive(stream, STALL_MAX).await?;
        let answered = match self.admit(from).await {
            Ok(_slot) => match request {
                Request::Get { digest } => self.give(stream, digest).await?,
                Request::Put { digest, size } => self.take(stream, digest, size).await?,
                Request::Has { .. } | Request::Which { .. } => {
                    Err(Failure::not_executed(ErrorCode::BadRequest, "what a node has is asked in a call"))
                }
            },
            Err(failure) => Err(failure),
        };
        if let Err(failure) = answered {
            wire::send(stream, &Answer::Failed(failure), STALL_MAX).await?;
        }
        Ok(stream.shutdown().await?)
    }

    /// A slot for one transfer, which bounds the memory that peers can make us use.
    async fn admit(&self, from: Caller) -> Result<tokio::sync::OwnedSemaphorePermit, Failure> {
        check_peer(from)?;
        let slot = timeout(STALL_MAX / 2, self.0.slots.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or_else(|| {
            let message = "this node gives and takes as many artifacts as it can at a time";
            Failure::not_executed(ErrorCode::Overloaded, message).retry_after(STALL_MAX)
        })
    }

    async fn give(&self, stream: &mut dyn Duplex, digest: Digest) -> Result<Result<(), Failure>, WireError> {
        let bytes = match self.0.get(digest).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let message = format!("artifact {digest} is not here");
                return Ok(Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, message)));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        wire::send(stream, &Answer::Bytes { size: bytes.len() as u64 }, STALL_MAX).await?;
        wire::send_bytes(stream, &bytes, STALL_MAX).await?;
        ::metrics::counter!(metrics::SENT_BYTES).increment(bytes.len() as u64);
        Ok(Ok(()))
    }

    async fn take(&self, stream: &mut dyn Duplex, digest: Digest, size: u64) -> Result<Result<(), Failure>, WireError> {
        if let Err(error) = wire::check_size(size) {
            return Ok(Err(Failure::not_executed(ErrorCode::TooLarge, error.to_string())));
        }
        if !matches!(self.0.claim(digest).await, Ok(Some(_))) {
            wire::send(stream, &Answer::Send, STALL_MAX).await?;
            let bytes = wire::receive_bytes(stream, size, STALL_MAX).await?;
            if let Err(error) = self.0.keep(Some(digest), bytes).await {
                return Ok(Err(error.into()));
            }
        }
        wire::send(stream, &Answer::Kept, STALL_MAX).await?;
        Ok(Ok(()))
    }
}

fn check_peer(from: Caller) -> Result<(), Failure> {
    match from {
        Caller::Peer(_) => Ok(()),
        Caller::Stranger => Err(Failure::not_executed(ErrorCode::Untrusted, "artifacts are for members of the mesh")),
    }
}
