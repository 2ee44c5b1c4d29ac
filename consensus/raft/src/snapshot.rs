//! Snapshots on the disk: one file each, checked as a whole, replaced atomically.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use skein_proto::codec;

use crate::{
    StartError,
    disk::Disk,
    metrics,
    types::{Snapshot, SnapshotMeta},
    volume::{Volume, settle_dir, write_aside},
};

/// Where a node keeps its snapshots: the newest, and for a moment the one before.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    volume: Arc<dyn Volume>,
    dir: PathBuf,
    disk: Disk,
    /// Held while a snapshot is written: one may be built here while another arrives from the leader.
    writing: Arc<Mutex<()>>,
    /// Held while a file is exchanged for another, and while one is looked up and read.
    changing: Arc<Mutex<()>>,
    /// Bytes of the newest snapshot.
    bytes: Arc<AtomicU64>,
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
    pub(crate) fn open(
        volume: Arc<dyn Volume>,
        dir: PathBuf,
        disk: Disk,
    ) -> Result<(Self, Option<Snapshot>), StartError> {
        volume.create_dir_all(&dir).map_err(StartError::io("create", &dir))?;
        // A snapshot is synced before it has its name; the process may have ended before the name was.
        settle_dir(&*volume, &dir).map_err(StartError::io("sync", &dir))?;
        let shelf =
            Self { volume, dir, disk, writing: Arc::default(), changing: Arc::default(), bytes: Arc::default() };
        let newest = shelf.newest().map_err(StartError::io("list", &shelf.dir))?;
        let snapshot = match &newest {
            Some(path) => Some(shelf.read(path)?),
            None => None,
        };
        shelf.remove_others(newest.as_deref());
        Ok((shelf, snapshot))
    }

    /// Whether there is anything on the shelf in `dir`, which need not be there.
    pub(crate) fn is_used(volume: &dyn Volume, dir: &Path) -> io::Result<bool> {
        match volume.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            paths => Ok(paths?.iter().any(|path| is_snapshot(path))),
        }
    }

    /// What it stands on.
    pub(crate) fn volume(&self) -> Arc<dyn Volume> {
        self.volume.clone()
    }

    /// Bytes of the newest snapshot that was put or read; 0 while there is none.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Puts a snapshot on the shelf and takes older ones off; next to a newer one, or to itself, it is not needed. When
    /// it returns, it is on the disk.
    ///
    /// An error of kind [`io::ErrorKind::StorageFull`] says that it does not fit beside the disk's reserve.
    pub(crate) fn put(&self, snapshot: &Snapshot) -> io::Result<()> {
        let path = self.path_of(snapshot);
        let _writing = lock(&self.writing);
        if let Some(newest) = self.newest()?.filter(|newest| *newest >= path) {
            // It may be there by an attempt whose last step failed: who asks again must not purge the log for a name that
            // a power cut still takes away.
            let _changing = lock(&self.changing);
            self.volume.sync_dir(&self.dir)?;
            self.remove_others(Some(&newest));
            return Ok(());
        }
        self.write(snapshot, &path)
    }

    /// Puts a snapshot on the shelf in place of one that is damaged, unless a newer one is there by now.
    pub(crate) fn put_anew(&self, snapshot: &Snapshot) -> io::Result<()> {
        let path = self.path_of(snapshot);
        let _writing = lock(&self.writing);
        if self.newest()?.is_some_and(|newest| newest > path) {
            return Ok(());
        }
        self.write(snapshot, &path)
    }

    fn path_of(&self, snapshot: &Snapshot) -> PathBuf {
        let next = snapshot.meta.last_log_id.map_or(0, |last| last.index + 1);
        self.dir.join(format!("{next:020}.snapshot"))
    }

    fn write(&self, snapshot: &Snapshot, path: &Path) -> io::Result<()> {
        let content = Content { meta: snapshot.meta.clone(), state: snapshot.snapshot.clone() };
        let payload = codec::encode(&content).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let written = bytes.len() as u64;
        if !self.disk.has_room_for(written) {
            return Err(Disk::full(written));
        }
        let aside = write_aside(&*self.volume, path, &bytes)?;
        let _changing = lock(&self.changing);
        self.volume.rename(&aside, path)?;
        self.volume.sync_dir(&self.dir)?;
        self.bytes.store(written, Ordering::Relaxed);
        metrics::snapshot(written);
        self.remove_others(Some(path));
        Ok(())
    }

    /// The newest snapshot, read and checked anew.
    pub(crate) fn get(&self) -> Result<Option<Snapshot>, StartError> {
        let _changing = lock(&self.changing);
        let newest = self.newest().map_err(StartError::io("list", &self.dir))?;
        newest.map(|path| self.read(&path)).transpose()
    }

    fn newest(&self) -> io::Result<Option<PathBuf>> {
        let mut newest = None;
        for path in self.volume.list(&self.dir)? {
            if is_snapshot(&path) {
                newest = newest.max(Some(path));
            }
        }
        Ok(newest)
    }

    /// Removes what is not needed. What stays takes room, and is met again by the next snapshot and the next start.
    fn remove_others(&self, kept: Option<&Path>) {
        let remove = || -> io::Result<()> {
            for path in self.volume.list(&self.dir)? {
                if Some(&*path) != kept {
                    self.volume.remove(&path)?;
                }
            }
            Ok(())
        };
        if let Err(error) = remove() {
            tracing::warn!(dir = %self.dir.display(), %error, "an old snapshot cannot be removed");
        }
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
        self.bytes.store((HEAD_BYTES + bytes.len()) as u64, Ordering::Relaxed);
        let content: Content =
            codec::decode(&bytes).map_err(|error| StartError::corrupt(path, HEAD_BYTES as u64, error))?;
        Ok(Snapshot { meta: content.meta, snapshot: content.state })
    }
}

fn is_snapshot(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "snapshot")
}

/// Nothing that is done under the locks here can leave anything half-changed in memory.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        types::LogId,
        volume::{
            FileSystem,
            test_disk::{Faults, TestDisk},
        },
    };

    fn open(dir: &tempfile::TempDir) -> Result<(Shelf, Option<Snapshot>), StartError> {
        let disk = Disk::new(Arc::new(FileSystem), dir.path().to_owned(), 0);
        Shelf::open(Arc::new(FileSystem), dir.path().to_owned(), disk)
    }

    /// A shelf on a disk that keeps a reserve of 100 bytes.
    fn open_on(disk: &TestDisk) -> Result<(Shelf, Option<Snapshot>), StartError> {
        let (dir, volume) = (PathBuf::from("/snapshots"), Arc::new(disk.clone()));
        Shelf::open(volume.clone(), dir.clone(), Disk::new(volume, dir, 100))
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

    #[test]
    fn what_is_read_beside_a_put_is_the_old_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = open(&dir).unwrap();
        shelf.put(&snapshot(1)).unwrap();
        std::thread::scope(|scope| {
            let putting = scope.spawn(|| (2..200).for_each(|at| shelf.put(&snapshot(at)).unwrap()));
            let mut newest = 0;
            while !putting.is_finished() {
                let found = index(&shelf.get().unwrap()).unwrap();
                assert!(found >= newest);
                newest = found;
            }
        });
    }

    #[test]
    fn a_snapshot_that_does_not_fit_beside_the_reserve_leaves_the_one_before_and_no_bytes() {
        let disk = TestDisk::default();
        let (shelf, _) = open_on(&disk).unwrap();
        shelf.put(&snapshot(3)).unwrap();
        let before = disk.names(Path::new("/snapshots"));
        let needed = usize::try_from(shelf.bytes()).unwrap() + 100;
        disk.fail(Faults { room: Some(needed - 1), ..Faults::default() });
        let refused = shelf.put(&snapshot(4)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!((disk.names(Path::new("/snapshots")), index(&shelf.get().unwrap())), (before, Some(3)));
        disk.fail(Faults { room: Some(needed), ..Faults::default() });
        shelf.put(&snapshot(4)).unwrap();
        assert_eq!(index(&shelf.get().unwrap()), Some(4));
    }

    #[test]
    fn a_snapshot_counts_when_its_name_is_durable_and_not_before() {
        let disk = TestDisk::default();
        let (volume, dir) = (Arc::new(disk.clone()), PathBuf::from("/snapshots"));
        let (shelf, _) = Shelf::open(volume, dir, Disk::new(Arc::new(TestDisk::default()), "/".into(), 0)).unwrap();
        disk.fail(Faults { cannot_sync_names: true, ..Faults::default() });
        // The second attempt finds the file of the first.
        shelf.put(&snapshot(4)).unwrap_err();
        shelf.put(&snapshot(4)).unwrap_err();
        disk.fail(Faults::default());
        shelf.put(&snapshot(4)).unwrap();
        disk.cut_power(|_| 0);
        assert_eq!(disk.names(Path::new("/snapshots")).len(), 1);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_no_bytes() {
        let disk = TestDisk::default();
        let (volume, dir) = (Arc::new(disk.clone()), PathBuf::from("/snapshots"));
        // A disk that says that it has room, and has none.
        let (shelf, _) = Shelf::open(volume, dir, Disk::new(Arc::new(TestDisk::default()), "/".into(), 0)).unwrap();
        disk.fail(Faults { room: Some(20), ..Faults::default() });
        assert_eq!(shelf.put(&snapshot(4)).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.names(Path::new("/snapshots")).is_empty());
    }

    #[test]
    fn a_snapshot_that_is_on_the_shelf_already_is_not_written_again() {
        let disk = TestDisk::default();
        let (shelf, _) = open_on(&disk).unwrap();
        shelf.put(&snapshot(3)).unwrap();
        disk.fail(Faults { room: Some(0), ..Faults::default() });
        shelf.put(&snapshot(3)).unwrap();
        assert_eq!(index(&open_on(&disk).unwrap().1), Some(3), "a full disk does not keep a node from starting");
    }

    #[test]
    fn a_damaged_snapshot_is_named_and_replaced_by_one_of_the_same_index_or_a_later_one() {
        for later in [3, 5] {
            let disk = TestDisk::default();
            let (shelf, _) = open_on(&disk).unwrap();
            shelf.put(&snapshot(3)).unwrap();
            disk.damage(&shelf.newest().unwrap().unwrap(), |bytes| bytes[30] ^= 1);
            assert!(matches!(shelf.get(), Err(StartError::Corrupt { .. })));
            shelf.put_anew(&snapshot(later)).unwrap();
            assert_eq!(index(&open_on(&disk).unwrap().1), Some(later));
        }
    }

    #[test]
    fn what_a_crash_left_is_removed_and_what_cannot_be_removed_does_not_matter() {
        let disk = TestDisk::default();
        let (shelf, _) = open_on(&disk).unwrap();
        disk.create(Path::new("/snapshots/00000000000000000009.tmp")).unwrap();
        assert_eq!(index(&open_on(&disk).unwrap().1), None);
        assert!(disk.names(Path::new("/snapshots")).is_empty(), "also where there is no snapshot yet");
        disk.fail(Faults { cannot_remove: true, ..Faults::default() });
        [3, 4].iter().for_each(|at| shelf.put(&snapshot(*at)).unwrap());
        assert_eq!((index(&shelf.get().unwrap()), disk.names(Path::new("/snapshots")).len()), (Some(4), 2));
        assert_eq!(index(&open_on(&disk).unwrap().1), Some(4));
    }

    #[test]
    fn a_snapshot_survives_a_cut_once_it_was_put() {
        for kept in [0, 1] {
            let disk = TestDisk::default();
            let (shelf, _) = open_on(&disk).unwrap();
            for at in 3..6 {
                shelf.put(&snapshot(at)).unwrap();
                disk.cut_power(|changes| changes * kept);
                assert_eq!(index(&open_on(&disk).unwrap().1), Some(at));
            }
        }
    }
}
