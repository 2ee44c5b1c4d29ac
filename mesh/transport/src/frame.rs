//! What goes over a stream: a length (u32, big-endian), then MessagePack with named fields.
//!
//! Pure: bytes in, frames out. A length over the limit is refused before anything is allocated for it; a kind of
//! frame that a newer peer knows is [`Frame::Unknown`] and skipped.

use std::{borrow::Cow, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer, value::StrDeserializer},
};
use skein_proto::Failure;

use crate::Service;

/// One message on a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// First on every lane, in both directions.
    Hello {
        /// The protocol version.
        version: u32,
        /// Drawn anew at each start of a node, so that its peers see that it restarted.
        boot: u64,
    },
    /// A request on a lane.
    Call { id: u64, service: Option<Service>, deadline_ms: u64, body: Bytes },
    /// The answer to the call `id`. On a stream of its own the body follows the frame.
    Reply { id: u64, body: Bytes },
    /// The call `id` failed.
    Fail { id: u64, failure: Failure },
    /// The caller takes the call `id` back.
    Cancel { id: u64 },
    /// First on a stream of its own: a request whose body follows until the stream's end, or a free stream. Clients show
    /// their key here, so that it is checked before anything of the body is read.
    Open { service: Option<Service>, deadline_ms: u64, is_stream: bool, key: Option<ShownKey> },
    /// A datagram; has no length before it.
    Datagram { service: Option<Service>, body: Bytes },
    /// The answering side is leaving: what has been sent is answered, and nothing new should be begun here.
    Bye,
    /// A datagram that only wants to be acknowledged, which QUIC does by itself: a sign of life on demand.
    Probe,
    /// A kind that this release does not know.
    Unknown,
}

/// What a client is believed for. Never shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ShownKey(pub(crate) Arc<str>);

impl std::fmt::Debug for ShownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownKey(..)")
    }
}

/// Bytes that are no frame. The stream they came on has ended; its calls are lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {length} bytes is over the limit of {max}")]
    TooLarge { length: usize, max: usize },
    #[error("frame is not MessagePack of its kind: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    #[error("frame lacks its {0}")]
    Lacks(&'static str),
    #[error("stream ended inside a frame")]
    Truncated,
    #[error("frame does not belong here")]
    Unexpected,
}

impl Frame {
    /// A failure cut to what a lane takes.
    pub(crate) fn fail(id: u64, mut failure: Failure) -> Self {
        cut_end(&mut failure.message);
        cut_start(&mut failure.log_tail);
        Self::Fail { id, failure }
    }

    /// Appends the frame with its length to `buffer`.
    pub(crate) fn write(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_u32(0);
        self.write_bare(buffer);
        let length = u32::try_from(buffer.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
        buffer[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// The frame with its length.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(128);
        self.write(&mut buffer);
        buffer.freeze()
    }

    /// Appends the frame without its length: a datagram has its own.
    pub(crate) fn write_bare(&self, buffer: &mut BytesMut) {
        let written = rmp_serde::encode::write_named(&mut buffer.writer(), &self.to_wire());
        debug_assert!(written.is_ok(), "frames hold nothing that MessagePack cannot");
    }

    /// The frame in `bytes`, which have no length before them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        rmp_serde::from_slice::<Wire<'_>>(bytes)?.into_frame()
    }

    /// Takes the next frame off the front of `buffer`; none if it is not all there yet.
    pub(crate) fn take(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Self>, FrameError> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > bytes_max {
            return Err(FrameError::TooLarge { length, max: bytes_max });
        }
        if buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let frame = Self::decode(&buffer[LENGTH_BYTES..LENGTH_BYTES + length])?;
        buffer.advance(LENGTH_BYTES + length);
        Ok(Some(frame))
    }

    fn to_wire(&self) -> Wire<'_> {
        let mut wire = Wire::default();
        match self {
            Self::Hello { version, boot } => {
                (wire.kind, wire.version, wire.boot) = (HELLO, Some(*version), Some(*boot));
            }
            Self::Call { id, service, deadline_ms, body } => {
                (wire.kind, wire.id, wire.service) = (CALL, Some(*id), *service);
                (wire.deadline_ms, wire.body) = (Some(*deadline_ms), Some(&body[..]));
            }
            Self::Reply { id, body } => (wire.kind, wire.id, wire.body) = (REPLY, Some(*id), Some(&body[..])),
            Self::Fail { id, failure } => {
                (wire.kind, wire.id, wire.failure) = (FAIL, Some(*id), Some(Cow::Borrowed(failure)));
            }
            Self::Cancel { id } => (wire.kind, wire.id) = (CANCEL, Some(*id)),
            Self::Open { service, deadline_ms, is_stream, key } => {
                (wire.kind, wire.service, wire.key) = (OPEN, *service, key.as_ref().map(|key| &*key.0));
                (wire.deadline_ms, wire.is_stream) = (Some(*deadline_ms), *is_stream);
            }
            Self::Datagram { service, body } => {
                (wire.kind, wire.service, wire.body) = (DATAGRAM, *service, Some(&body[..]));
            }
            Self::Bye => wire.kind = BYE,
            Self::Probe => wire.kind = PROBE,
            Self::Unknown => wire.kind = u8::MAX,
        }
        wire
    }
}

/// All fields of all kinds. One flat map decodes in one pass, and kinds may gain fields without a new version.
#[derive(Default, Serialize, Deserialize)]
struct Wire<'a> {
    kind: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_service")]
    service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(borrow, default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    body: Option<&'a [u8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Cow<'a, Failure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_stream: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl Wire<'_> {
    fn into_frame(self) -> Result<Frame, FrameError> {
        let id = || self.id.ok_or(FrameError::Lacks("id"));
        let body = || self.body.map(Bytes::copy_from_slice).ok_or(FrameError::Lacks("body"));
        let deadline_ms = || self.deadline_ms.ok_or(FrameError::Lacks("deadline"));
        Ok(match self.kind {
            HELLO => Frame::Hello {
                version: self.version.ok_or(FrameError::Lacks("version"))?,
                boot: self.boot.ok_or(FrameError::Lacks("boot"))?,
            },
            CALL => Frame::Call { id: id()?, service: self.service, deadline_ms: deadline_ms()?, body: body()? },
            REPLY => Frame::Reply { id: id()?, body: body()? },
            FAIL => {
                let id = id()?;
                Frame::Fail { id, failure: self.failure.ok_or(FrameError::Lacks("failure"))?.into_owned() }
            }
            CANCEL => Frame::Cancel { id: id()? },
            OPEN => Frame::Open {
                service: self.service,
                deadline_ms: deadline_ms()?,
                is_stream: self.is_stream,
                key: self.key.map(|key| ShownKey(key.into())),
            },
            DATAGRAM => Frame::Datagram { service: self.service, body: body()? },
            BYE => Frame::Bye,
            PROBE => Frame::Probe,
            _ => Frame::Unknown,
        })
    }
}

/// A service that only a newer peer knows becomes none, so that the call can be refused by itself.
fn known_service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Service>, D::Error> {
    let word = <&str>::deserialize(deserializer)?;
    let known: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
    Ok(Service::deserialize(known).ok())
}

fn cut_end(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
}

fn cut_start(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.drain(..text.ceil_char_boundary(text.len() - TEXT_BYTES_MAX));
    }
}

const HELLO: u8 = 1;
const CALL: u8 = 2;
const REPLY: u8 = 3;
const FAIL: u8 = 4;
const CANCEL: u8 = 5;
const OPEN: u8 = 6;
const DATAGRAM: u8 = 7;
const BYE: u8 = 8;
const PROBE: u8 = 9;

/// The version of the protocol that this release speaks. 2: a client's key is in the first frame.
pub(crate) const PROTOCOL_VERSION: u32 = 2;

/// Bodies up to this size travel in a lane's frames; larger ones would hold up the others.
pub(crate) const INLINE_BYTES_MAX: usize = 16 << 10;

/// The largest frame: an inline body or a failure's two texts, and their fields.
pub(crate) const FRAME_BYTES_MAX: usize = 48 << 10;

/// The largest first frame of somebody who has shown no key yet: a key has some 70 bytes, and the other fields as many.
pub(crate) const STRANGER_FRAME_BYTES_MAX: usize = 1 << 10;

/// A failure's message and log, each.
const TEXT_BYTES_MAX: usize = 16 << 10;

const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests;
