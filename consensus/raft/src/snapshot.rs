//! Snapshots on the disk: one file each, checked as a whole, replaced atomically.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use skein_proto::codec;

use crate::{
    StartError,
    types::{Snapshot, SnapshotMeta},
    volume::{Volume, replace_file},
};

/// Where a node keeps its snapshots: the newest, and for a moment the one before.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    volume: Arc<dyn Volume>,
    dir: PathBuf,
    /// Held while the shelf is changed: one may be built here while another arrives from the leader.
    changing: Arc<Mutex<()>>,
}

const MAGIC: [u8; 8] = *b"skeinsnp";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;

/// What a file holds behind its head: magic, version, checksum of the rest.
#[derive(Serialize, Deserialize)]
struct Content {
    meta: SnapshotMeta,
    state: Bytes,
}

impl Shelf {
    /// The shelf in `dir`, which is made as needed, and the newest snapshot on it. What a crash left behind is removed.
    pub(crate) fn open(volume: Arc<dyn Volume>, dir: PathBuf) -> Result<(Self, Option<Snapshot>), StartError> {
        volume.create_dir_all(&dir).map_err(StartError::io("create", &dir))?;
        let shelf = Self { volume, dir, changing: Arc::default() };
        let newest = shelf.newest().map_err(StartError::io("list", &shelf.dir))?;
        let snapshot = match &newest {
            Some(path) => Some(shelf.read(path)?),
            None => None,
        };
        if let Some(path) = &newest {
            shelf.remove_others(path).map_err(StartError::io("clear", &shelf.dir))?;
        }
        Ok((shelf, snapshot))
    }

    /// What it stands on.
    pub(crate) fn volume(&self) -> Arc<dyn Volume> {
        self.volume.clone()
    }

    /// Puts a snapshot on the shelf and takes older ones off; next to a newer one it is not needed. When it returns, it is
    /// on the disk.
    pub(crate) fn put(&self, snapshot: &Snapshot) -> io::Result<u64> {
        let content = Content { meta: snapshot.meta.clone(), state: snapshot.snapshot.clone() };
        let payload = codec::encode(&content).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let next = snapshot.meta.last_log_id.map_or(0, |last| last.index + 1);
        let path = self.dir.join(format!("{next:020}.snapshot"));
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest()?.is_none_or(|newest| newest <= path) {
            replace_file(&*self.volume, &self.dir, &path, &bytes)?;
            self.remove_others(&path)?;
        }
        Ok(bytes.len() as u64)
    }

    /// The newest snapshot, read and checked anew.
    pub(crate) fn get(&self) -> io::Result<Option<Snapshot>> {
        let newest = self.newest()?;
        newest.map(|path| self.read(&path).map_err(io::Error::other)).transpose()
    }

    fn newest(&self) -> io::Result<Option<PathBuf>> {
        let mut newest = None;
        for path in self.volume.list(&self.dir)? {
            if path.extension().is_some_and(|extension| extension == "snapshot") {
                newest = newest.max(Some(path));
            }
        }
        Ok(newest)
    }

    fn remove_others(&self, kept: &Path) -> io::Result<()> {
        for path in self.volume.list(&self.dir)? {
            if path != kept {
                self.volume.remove(&path)?;
            }
        }
        self.volume.sync_dir(&self.dir)
    }

    fn read(&self, path: &Path) -> Result<Snapshot, StartError> {
        let mut bytes = Bytes::from(self.volume.read(path).map_err(StartError::io("read", path))?);
        if bytes.len() < HEAD_BYTES {
            return Err(StartError::corrupt(path, bytes.len() as u64, "the snapshot is cut"));
        }
        let head = bytes.split_to(HEAD_BYTES);
        if head[..8] != MAGIC {
            return Err(StartError::corrupt(path, 0, "not a snapshot"));
        }
        let (version, crc) = ((&head[8..]).get_u32_le(), (&head[12..]).get_u32_le());
        if version > VERSION {
            return Err(StartError::TooNew { file: path.to_owned(), version, known: VERSION });
        }
        if crc != crc32fast::hash(&bytes) {
            return Err(StartError::corrupt(path, HEAD_BYTES as u64, "the snapshot does not match its checksum"));
        }
        let content: Content =
            codec::decode(&bytes).map_err(|error| StartError::corrupt(path, HEAD_BYTES as u64, error))?;
        Ok(Snapshot { meta: content.meta, snapshot: content.state })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{types::LogId, volume::FileSystem};

    fn open(dir: &tempfile::TempDir) -> Result<(Shelf, Option<Snapshot>), StartError> {
        Shelf::open(Arc::new(FileSystem), dir.path().to_owned())
    }

    fn snapshot(index: u64) -> Snapshot {
        let leader = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 };
        let meta = SnapshotMeta { last_log_id: Some(LogId::new(leader, index)), ..SnapshotMeta::default() };
        Snapshot { meta, snapshot: Bytes::from(format!("state at {index}")) }
    }

    fn index(found: &Option<Snapshot>) -> Option<u64> {
        found.as_ref().and_then(|snapshot| snapshot.meta.last_log_id).map(|last| last.index)
    }

    #[test]
    fn only_the_newest_snapshot_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, none) = open(&dir).unwrap();
        assert!(none.is_none());
        for at in [9, 10, 200] {
            shelf.put(&snapshot(at)).unwrap();
            assert_eq!(index(&shelf.get().unwrap()), Some(at));
        }
        shelf.put(&snapshot(150)).unwrap();
        assert_eq!(index(&shelf.get().unwrap()), Some(200), "an older one does not replace it");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join("x.tmp"), b"left over").unwrap();
        let (_, found) = open(&dir).unwrap();
        assert_eq!(index(&found), Some(200));
        assert_eq!(found.unwrap().snapshot, Bytes::from_static(b"state at 200"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = open(&dir).unwrap();
        shelf.put(&snapshot(3)).unwrap();
        let path = shelf.newest().unwrap().unwrap();
        let sound = fs::read(&path).unwrap();
        for byte in 0..sound.len() {
            for bytes in [sound[..byte].to_vec(), [&sound[..byte], &[sound[byte] ^ 4], &sound[byte + 1..]].concat()] {
                fs::write(&path, bytes).unwrap();
                let refused = open(&dir).unwrap_err();
                assert!(refused.to_string().contains(".snapshot"), "{refused}");
            }
        }
    }
}
