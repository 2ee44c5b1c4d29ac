//! What a compiler's process is asked and what it answers: a header in MessagePack, then bytes.
//!
//! ```text
//! header length 4 | header | code or artefact
//! ```

use std::io::{self, Read};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Failed;
use crate::Tier;

/// Longest header: a fingerprint or a message.
pub(super) const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Longest artefact that is taken from a compiler: several times that of the largest module.
pub(super) const ARTEFACT_BYTES_MAX: u64 = 1 << 30;

/// The header of what is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// That of who asks: the process must be of the same build, or its code would be kept under a wrong name.
    pub(super) fingerprint: String,
    pub(super) tier: Tier,
    pub(super) threads: usize,
    pub(super) time_ms: u64,
    pub(super) cpu_ms: u64,
    pub(super) memory_bytes: u64,
    pub(super) nice: i32,
    /// Length of the code that follows.
    pub(super) code_bytes: u64,
}

/// The header of the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The artefact follows, in so many bytes. Of the sandbox, this is `missing`.
    Compiled { artefact_bytes: u64, missing: Vec<String> },
    /// There is none.
    Failed(Failed),
}

/// The header with its length before it.
pub(super) fn encode<T: Serialize>(header: &T) -> io::Result<Vec<u8>> {
    let header = rmp_serde::to_vec_named(header).map_err(io::Error::other)?;
    let length = u32::try_from(header.len()).ok().filter(|length| *length <= HEADER_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("the header is too long"))?;
    Ok([&length.to_le_bytes()[..], &header].concat())
}

/// Reads a header; what follows it stays in `source`.
pub(super) fn read<T: DeserializeOwned>(source: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    source.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > HEADER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the header is too long"));
    }
    let mut header = vec![0; length as usize];
    source.read_exact(&mut header)?;
    rmp_serde::from_slice(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
