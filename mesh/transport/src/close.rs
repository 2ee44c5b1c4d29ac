//! Why connections and streams end, as codes on the wire and as failures.

use quinn::{Connection, ConnectionError, VarInt};
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
/// The dialing node was removed from the mesh for good. The reason is [`removal_proof`].
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
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_REMOVED => {
            return Failure::not_executed(ErrorCode::Untrusted, format!("{whom} says that this node was removed"));
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_PROTOCOL => ErrorCode::ProtocolMismatch,
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_BUSY => ErrorCode::Overloaded,
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_LEAVING => ErrorCode::Draining,
        ConnectionError::VersionMismatch => ErrorCode::ProtocolMismatch,
        _ => ErrorCode::Unreachable,
    };
    Failure::not_executed(code, format!("{whom} cannot be reached: {error}"))
}

/// Whether the other side of `connection` has closed it because this node was removed for good, and has proved in the
/// handshake to be who was dialed. The code alone proves nothing: until the handshake is confirmed, quinn believes what
/// anybody on the way has put into a packet that is as good as in clear text.
pub(crate) fn is_removal(connection: &Connection) -> bool {
    let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason() else { return false };
    let proof = removal_proof(connection);
    close.error_code == CLOSE_REMOVED && proof.is_some_and(|proof| close.reason == proof[..])
}

/// What only the two ends of this connection can know (RFC 8446, section 7.5).
pub(crate) fn removal_proof(connection: &Connection) -> Option<[u8; 32]> {
    let mut proof = [0; 32];
    connection.export_keying_material(&mut proof, b"EXPORTER-skein-removed", b"").ok()?;
    Some(proof)
}

/// What a TLS alert inside a QUIC error (RFC 9001, section 4.8) means here.
fn crypto_code(code: u64) -> ErrorCode {
    match code.checked_sub(CRYPTO_ERRORS) {
        Some(ALERT_NO_APPLICATION_PROTOCOL) => ErrorCode::ProtocolMismatch,
        Some(0..=255) => ErrorCode::Untrusted,
        _ => ErrorCode::Unreachable,
    }
}

/// Whether a certificate is signed by nobody this side knows: by another key, or in another name.
pub(crate) fn is_foreign(code: u64) -> bool {
    matches!(code.checked_sub(CRYPTO_ERRORS), Some(ALERT_UNKNOWN_CA | ALERT_DECRYPT_ERROR))
}

const CRYPTO_ERRORS: u64 = 0x100;
const ALERT_UNKNOWN_CA: u64 = 48;
const ALERT_DECRYPT_ERROR: u64 = 51;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
