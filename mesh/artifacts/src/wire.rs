//! What two nodes say to each other about artifacts, on a stream.
//!
//! ```text
//! asker                       holder        asker                       keeper
//!   Get{digest} ----------------->            Put{digest, size} ----------->
//!   <------- Bytes{size}, then bytes          <------ Send, or Kept at once
//!                                             bytes ---------------------->
//!                                             <------ Kept, once it is durable
//! ```
//! Either answer may be `Failed` instead. A message is its length (u32, little endian) and MessagePack.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use skein_proto::{
    Digest, Failure, Limits,
    codec::{self, CodecError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// What a node asks of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Whether it has the artifact; a call, not a stream.
    Has { digest: Digest },
    /// Which of these artifacts it has, at most [`WHICH_MAX`]; a call. The answer is a truth value for each.
    Which { digests: Vec<Digest> },
    /// The artifact's bytes.
    Get { digest: Digest },
    /// To keep the artifact.
    Put { digest: Digest, size: u64 },
}

/// What the peer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The bytes follow.
    Bytes { size: u64 },
    /// Go on: send the bytes.
    Send,
    /// The artifact is kept, durably.
    Kept,
    /// No.
    Failed(Failure),
}

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// Nothing moved for too long.
    #[error("nothing moved for {} ms", .0.as_millis())]
    Stalled(Duration),
    /// A message is longer than any that is meant.
    #[error("a message of {0} bytes was announced")]
    MessageTooLong(u32),
    /// An artifact is larger than any may be.
    #[error("an artifact of {0} bytes was announced; at most {max} may be", max = Limits::ARTIFACT_BYTES_MAX)]
    TooLarge(u64),
    /// A message is not one.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Most artifacts asked about in one call: a look at the disk for each, some 20 ms in all.
pub(crate) const WHICH_MAX: usize = 4_096;
/// Longest message: a failure with its text.
const MESSAGE_BYTES_MAX: u32 = 64 << 10;
/// Bytes that must move within one stall time.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes one message, in at most `stall`.
pub(crate) async fn send<T, S>(stream: &mut S, message: &T, stall: Duration) -> Result<(), WireError>
where
    T: Serialize,
    S: AsyncWrite + Unpin + ?Sized,
{
    let body = codec::encode(message)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(WireError::MessageTooLong(length));
    }
    let mut framed = BytesMut::with_capacity(4 + body.len());
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(&body);
    within(stall, stream.write_all(&framed)).await?;
    within(stall, stream.flush()).await
}

/// Reads one message, in at most `stall`.
pub(crate) async fn receive<T, S>(stream: &mut S, stall: Duration) -> Result<T, WireError>
where
    T: DeserializeOwned,
    S: AsyncRead + Unpin + ?Sized,
{
    let length = within(stall, stream.read_u32_le()).await?;
    if length > MESSAGE_BYTES_MAX {
        return Err(WireError::MessageTooLong(length));
    }
    let mut body = vec![0; length as usize];
    within(stall, stream.read_exact(&mut body)).await?;
    Ok(codec::decode(&body)?)
}

/// Writes an artifact's bytes; each chunk in at most `stall`.
pub(crate) async fn send_bytes<S>(stream: &mut S, bytes: &Bytes, stall: Duration) -> Result<(), WireError>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    for chunk in bytes.chunks(CHUNK_BYTES) {
        within(stall, stream.write_all(chunk)).await?;
    }
    within(stall, stream.flush()).await
}

/// Reads the `size` bytes of an artifact, none before the size is known to be allowed; each chunk in at most `stall`.
pub(crate) async fn receive_bytes<S>(stream: &mut S, size: u64, stall: Duration) -> Result<Bytes, WireError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let total = check_size(size)?;
    // Room is made as bytes come: an announcement alone costs nothing.
    let mut bytes = BytesMut::new();
    while bytes.len() < total {
        let start = bytes.len();
        bytes.resize(start + CHUNK_BYTES.min(total - start), 0);
        within(stall, stream.read_exact(&mut bytes[start..])).await?;
    }
    Ok(bytes.freeze())
}

/// Refuses the announcement of an artifact that is too large.
pub(crate) fn check_size(size: u64) -> Result<usize, WireError> {
    if size > Limits::ARTIFACT_BYTES_MAX {
        return Err(WireError::TooLarge(size));
    }
    usize::try_from(size).map_err(|_| WireError::TooLarge(size))
}

async fn within<T>(stall: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, WireError> {
    match timeout(stall, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(WireError::Stalled(stall)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STALL: Duration = Duration::from_secs(5);

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn announcements_over_a_limit_are_refused_before_anything_is_read() {
        let length = (MESSAGE_BYTES_MAX + 1).to_le_bytes();
        let error = run(receive::<Request, _>(&mut &length[..], STALL)).unwrap_err();
        assert!(matches!(error, WireError::MessageTooLong(_)));
        let error = run(receive_bytes(&mut &[][..], Limits::ARTIFACT_BYTES_MAX + 1, STALL)).unwrap_err();
        assert!(matches!(error, WireError::TooLarge(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn garbage_is_an_error_or_a_message(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(receive::<Request, _>(&mut &garbage[..], STALL));
            let mut framed = u32::try_from(garbage.len()).unwrap().to_le_bytes().to_vec();
            framed.extend_from_slice(&garbage);
            let _ = run(receive::<Answer, _>(&mut &framed[..], STALL));
        }
    }
}
