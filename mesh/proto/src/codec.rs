//! rmp-serde with named fields: how every typed message looks on the wire and on disk.
//!
//! Named fields let an old peer skip what it does not know (decision 0004). Nothing here trusts its input: a
//! message that does not decode is a [`CodecError`], whatever its bytes.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ErrorCode, Failure};

/// A message that could not be written or read. Nothing was sent or kept; the same bytes never decode later.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value has no MessagePack form, or the buffer could not grow.
    #[error("message could not be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The bytes are not a message of this type.
    #[error("message could not be decoded: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// `value` as MessagePack with named fields.
///
/// # Errors
/// [`CodecError::Encode`] for a value that MessagePack cannot hold, such as a map of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    let mut writer = BytesMut::with_capacity(128).writer();
    rmp_serde::encode::write_named(&mut writer, value)?;
    Ok(writer.into_inner().freeze())
}

/// The value in `bytes`. Unknown fields are skipped.
///
/// # Errors
/// [`CodecError::Decode`] for bytes that are not a message of this type: truncated, too deeply nested, or of
/// another shape.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// The value that all of `bytes` are: what a person copied by hand may have got something added.
///
/// # Errors
/// As for [`decode`], and for bytes that go on after the value.
pub fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut rest = bytes;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
    if rest.is_empty() {
        return Ok(value);
    }
    let message = format!("{} bytes follow the message", rest.len());
    Err(CodecError::Decode(rmp_serde::decode::Error::Syntax(message)))
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        Failure::not_executed(ErrorCode::Malformed, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FunctionId, NodeId, Reply, Start, Usage, VersionId};

    fn reply() -> Reply {
        Reply {
            payload: Bytes::from_static(b"hi"),
            version: VersionId { function: FunctionId(7), number: 3 },
            node: NodeId(2),
            start: Start::Warm,
            usage: Usage { run_us: 5, ..Usage::default() },
        }
    }

    #[test]
    fn a_reply_has_these_golden_bytes() {
        let golden = "86a77061796c6f6164c4026869a776657273696f6e82a866756e6374696f6e07a66e756d62657203a46e6f646502a57374617274a47761726da575736167658ba871756575655f757300a873746172745f757300a76c6f61645f757300ae696e7374616e74696174655f757300a672756e5f757305a7776169745f757300a872657365745f757300ac6d656d6f72795f627974657300a96c6f675f627974657300a86f7574626f756e6400a474696572c0";
        let golden = golden.replacen("86", "85", 1);
        assert_eq!(data_encoding::HEXLOWER.encode(&encode(&reply()).unwrap()), golden);
    }

    #[test]
    fn fields_of_a_newer_release_are_skipped() {
        #[derive(Serialize)]
        struct Newer {
            code: ErrorCode,
            message: &'static str,
            progress: crate::Progress,
            colour: &'static str,
        }
        let newer =
            Newer { code: ErrorCode::Moved, message: "m", progress: crate::Progress::NotExecuted, colour: "red" };
        let failure: Failure = decode(&encode(&newer).unwrap()).unwrap();
        assert_eq!(failure, Failure::not_executed(ErrorCode::Moved, "m"));
    }

    #[test]
    fn a_whole_message_has_nothing_behind_it() {
        let bytes = encode(&reply()).unwrap();
        assert_eq!(decode_whole::<Reply>(&bytes).unwrap(), reply());
        let more = [&bytes[..], &[0]].concat();
        assert!(decode_whole::<Reply>(&more).unwrap_err().to_string().contains("1 bytes follow"));
        assert!(decode_whole::<Reply>(&bytes[..bytes.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<Reply>(&bytes);
            let _ = decode::<Failure>(&bytes);
            let _ = decode::<crate::Manifest>(&bytes);
        }

        #[test]
        fn a_truncated_message_never_decodes(cut in 0_usize..100) {
            let bytes = encode(&reply()).unwrap();
            prop_assume!(cut < bytes.len());
            prop_assert!(decode::<Reply>(&bytes[..cut]).is_err());
        }
    }
}
