//! The two halves of a QUIC stream: frames and bodies in, bytes out.

use std::{
    io,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    close::STREAM_DROPPED,
    frame::{FRAME_BYTES_MAX, Frame, FrameError, STRANGER_FRAME_BYTES_MAX},
};

/// Why reading from a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    #[error(transparent)]
    Bad(#[from] FrameError),
    #[error("stream was lost: {0}")]
    Lost(#[from] ReadError),
    #[error("body is over the limit of {0} bytes")]
    BodyTooLarge(usize),
    #[error("there is no room for the body")]
    NoRoom,
}

/// Frames from a stream, then perhaps a body.
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame; none when the stream ended between two. Can be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ReadFailure> {
        self.next_of(FRAME_BYTES_MAX, CHUNK_BYTES).await
    }

    /// The first frame of somebody who has shown nothing yet: a small one, behind which little more is read.
    pub(crate) async fn first_of_stranger(&mut self) -> Result<Option<Frame>, ReadFailure> {
        self.next_of(STRANGER_FRAME_BYTES_MAX, STRANGER_FRAME_BYTES_MAX).await
    }

    async fn next_of(&mut self, bytes_max: usize, chunk_bytes: usize) -> Result<Option<Frame>, ReadFailure> {
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer, bytes_max)? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(chunk_bytes, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Truncated.into()),
            }
        }
    }

    /// Everything up to the stream's end. Memory grows with what arrives, not with what is announced.
    pub(crate) async fn body(&mut self, bytes_max: usize) -> Result<Bytes, ReadFailure> {
        self.body_as_far_as(bytes_max, |_| true).await
    }

    /// The same, as long as `has_room` says of each piece, by its length, that there is room for it.
    pub(crate) async fn body_as_far_as(
        &mut self,
        bytes_max: usize,
        mut has_room: impl FnMut(usize) -> bool,
    ) -> Result<Bytes, ReadFailure> {
        let mut body = std::mem::take(&mut self.buffer);
        let mut is_room = has_room(body.len());
        while is_room && body.len() <= bytes_max {
            match self.stream.read_chunk(CHUNK_BYTES, true).await? {
                Some(chunk) => {
                    is_room = has_room(chunk.bytes.len());
                    body.extend_from_slice(&chunk.bytes);
                }
                None => return Ok(body.freeze()),
            }
        }
        Err(if is_room { ReadFailure::BodyTooLarge(bytes_max) } else { ReadFailure::NoRoom })
    }

    /// Tells the sender to stop.
    pub(crate) fn stop(&mut self, code: VarInt) {
        let _ = self.stream.stop(code);
    }
}

/// A sending half that is reset when it is dropped before [`finish`](Self::finish): quinn would end it in good
/// order, and half a message would look whole.
pub(crate) struct Sender {
    stream: SendStream,
    is_finished: bool,
}

impl Sender {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, is_finished: false }
    }

    /// Ends the stream in good order.
    pub(crate) fn finish(&mut self) {
        self.is_finished = true;
        let _ = self.stream.finish();
    }

    /// Ends it with a code.
    pub(crate) fn reset(&mut self, code: VarInt) {
        self.is_finished = true;
        let _ = self.stream.reset(code);
    }
}

impl Deref for Sender {
    type Target = SendStream;

    fn deref(&self) -> &SendStream {
        &self.stream
    }
}

impl DerefMut for Sender {
    fn deref_mut(&mut self) -> &mut SendStream {
        &mut self.stream
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.stream.reset(STREAM_DROPPED);
        }
    }
}

/// Both halves as one [`crate::Duplex`].
pub(crate) struct QuicDuplex {
    sender: Sender,
    reader: FrameReader,
}

impl QuicDuplex {
    pub(crate) fn new(sender: Sender, reader: FrameReader) -> Self {
        Self { sender, reader }
    }
}

impl AsyncRead for QuicDuplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let reader = &mut self.get_mut().reader;
        if reader.buffer.is_empty() {
            return AsyncRead::poll_read(Pin::new(&mut reader.stream), cx, buf);
        }
        let length = reader.buffer.len().min(buf.remaining());
        buf.put_slice(&reader.buffer[..length]);
        reader.buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicDuplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().sender.stream), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().sender.stream), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().sender.finish();
        Poll::Ready(Ok(()))
    }
}

/// Bytes taken from a stream at a time.
const CHUNK_BYTES: usize = 64 << 10;
