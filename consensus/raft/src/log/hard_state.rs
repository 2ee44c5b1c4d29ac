//! The few facts beside the log that must survive: the vote, and which part of the log is meant to be there.
//!
//! One small file, replaced as a whole: written aside, synced, renamed. Not a database: redb does not check its
//! checksums on an ordinary read, so a flipped bit in a vote would be served.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{NodeId, codec};

use crate::{
    StartError,
    volume::{Volume, replace_file},
};

/// What must survive beside the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HardState {
    /// Whose log this is.
    pub(super) node: NodeId,
    /// The vote, as its owner encodes it.
    pub(super) vote: Option<Bytes>,
    /// The first index that was not purged.
    pub(super) first: u64,
    /// The id of the last entry that was purged, as its owner encodes it.
    pub(super) purged: Option<Bytes>,
    /// The oldest segment that must be there.
    pub(super) oldest: u64,
    /// The newest segment that must be there; 0 while there is none. One more may be there, just begun.
    pub(super) newest: u64,
    /// Up to where the log was on the disk when this was written. A log that ends before has lost something since.
    #[serde(default)]
    pub(super) synced: Option<Place>,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The segment.
    pub(super) segment: u64,
    /// The byte in it.
    pub(super) offset: u64,
}

const FILE: &str = "hard-state";
const MAGIC: [u8; 8] = *b"skeinhs\0";
const VERSION: u32 = 1;

impl HardState {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, oldest: 1, ..Self::default() }
    }

    /// The state in this directory, if one was ever saved there.
    pub(super) fn load(volume: &dyn Volume, dir: &Path) -> Result<Option<Self>, StartError> {
        let path = Self::path(dir);
        let bytes = match volume.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::io("read", path)(error)),
        };
        Self::parse(&bytes).map(Some).map_err(|damage| damage(path))
    }

    /// Replaces what is in this directory. When it returns, the state is on the disk.
    pub(super) fn save(&self, volume: &dyn Volume, dir: &Path) -> io::Result<()> {
        let payload = codec::encode(self).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        replace_file(volume, dir, &Self::path(dir), &bytes)
    }

    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Up to which byte this segment was on the disk, as far as is known here.
    pub(super) fn synced_in(&self, segment: u64) -> u64 {
        self.synced.filter(|place| place.segment == segment).map_or(0, |place| place.offset)
    }

    fn parse(bytes: &[u8]) -> Result<Self, impl FnOnce(PathBuf) -> StartError + use<>> {
        let corrupt = |offset, what: &'static str| Err((offset, what, None));
        let parsed = match bytes.split_at_checked(16) {
            None => corrupt(bytes.len() as u64, "the file is cut"),
            Some((head, _)) if head[..8] != MAGIC => corrupt(0, "not the hard state of a log"),
            Some((head, payload)) => {
                let version = head[8..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                if version > VERSION {
                    Err((0, "", Some(version)))
                } else if head[12..16] != crc32fast::hash(payload).to_le_bytes() {
                    corrupt(16, "the content does not match its checksum")
                } else {
                    codec::decode(payload).map_err(|_| (16, "the content is not a hard state", None))
                }
            }
        };
        parsed.map_err(|(offset, what, version)| {
            move |file: PathBuf| match version {
                Some(version) => StartError::TooNew { file, version, known: VERSION },
                None => StartError::corrupt(file, offset, what),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::volume::FileSystem;

    fn state() -> HardState {
        HardState { vote: Some(Bytes::from_static(b"vote")), first: 9, newest: 2, ..HardState::new(NodeId(3)) }
    }

    #[test]
    fn what_was_saved_is_loaded_and_an_empty_directory_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(HardState::load(&FileSystem, dir.path()).unwrap(), None);
        state().save(&FileSystem, dir.path()).unwrap();
        assert_eq!(HardState::load(&FileSystem, dir.path()).unwrap(), Some(state()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        state().save(&FileSystem, dir.path()).unwrap();
        let path = HardState::path(dir.path());
        let sound = fs::read(&path).unwrap();
        for byte in 0..sound.len() {
            for bytes in [sound[..byte].to_vec(), [&sound[..byte], &[sound[byte] ^ 4], &sound[byte + 1..]].concat()] {
                fs::write(&path, bytes).unwrap();
                assert!(HardState::load(&FileSystem, dir.path()).is_err(), "at {byte}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        state().save(&FileSystem, dir.path()).unwrap();
        let path = HardState::path(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(
            HardState::load(&FileSystem, dir.path()),
            Err(StartError::TooNew { version: 2, known: 1, .. })
        ));
    }
}
