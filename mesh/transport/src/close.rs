//! Why connections and streams end, as codes on the wire and as failures.

use quinn::{ConnectionError, VarInt};
use skein_proto::{ErrorCode, Failure};

/// The node shuts down or needs the connection no more.
pub(crate) const CLOSE_DONE: VarInt = VarInt::from_u32(0);
/// No certificate was shown where one is needed.
pub(crate) const CLOSE_UNTRUSTED: VarInt = VarInt::from_u32(1);
/// The other side broke the protocol.
pub(crate) const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(2);
/// There are too many connections.
pub(crate) const CLOSE_BUSY: VarInt = VarInt::from_u32(3);
/// The peer moved, restarted or was removed.
pub(crate) const CLOSE_REPLACED: VarInt = VarInt::from_u32(4);
/// Nothing was heard for too long.
pub(crate) const CLOSE_SILENT: VarInt = VarInt::from_u32(5);

/// The node is leaving and takes no new clients.
pub(crate) const CLOSE_LEAVING: VarInt = VarInt::from_u32(6);
/// The dialing node was removed from the mesh for good.
pub(crate) const CLOSE_REMOVED: VarInt = VarInt::from_u32(7);

/// Whoever used the stream went away.
pub(crate) const STREAM_DROPPED: VarInt = VarInt::from_u32(16);
/// A frame could not be read.
pub(crate) const STREAM_BAD_FRAME: VarInt = VarInt::from_u32(17);
/// The service is not offered to this caller.
pub(crate) const STREAM_REFUSED: VarInt = VarInt::from_u32(18);

/// Why no connection came about: nothing was sent, so nothing ran.
pub(crate) fn dial_failure(whom: &str, error: &ConnectionError) -> Failure {
    let code = match error {
        ConnectionError::TransportError(error) => crypto_code(u64::from(error.code)),
        ConnectionError::ConnectionClosed(close) => crypto_code(u64::from(close.error_code)),
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_UNTRUSTED => ErrorCode::Untrusted,
        error if is_removal(error) => ErrorCode::Untrusted,
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_PROTOCOL => ErrorCode::ProtocolMismatch,
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_BUSY => ErrorCode::Overloaded,
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_LEAVING => ErrorCode::Draining,
        ConnectionError::VersionMismatch => ErrorCode::ProtocolMismatch,
        _ => ErrorCode::Unreachable,
    };
    Failure::not_executed(code, format!("{whom} cannot be reached: {error}"))
}

/// Whether the other side says that this node was removed for good. It said so by the keys of the handshake, in which it
/// has proved to be who was dialed.
pub(crate) fn is_removal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_REMOVED)
}

/// What a TLS alert inside a QUIC error (RFC 9001, section 4.8) means here.
fn crypto_code(code: u64) -> ErrorCode {
    match code.checked_sub(CRYPTO_ERRORS) {
        Some(ALERT_NO_APPLICATION_PROTOCOL) => ErrorCode::ProtocolMismatch,
        Some(0..=255) => ErrorCode::Untrusted,
        _ => ErrorCode::Unreachable,
    }
}

const CRYPTO_ERRORS: u64 = 0x100;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
