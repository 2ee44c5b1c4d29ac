//! The disk: what is kept, what is set aside, what is refused.

use std::process::Command;

use tempfile::TempDir;

use super::*;

const PLENTY: u64 = 1 << 30;

fn store(bytes_max: u64) -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("artifacts"), bytes_max).unwrap();
    (dir, store)
}

fn sound(bytes: &'static [u8]) -> Found {
    Found::Sound(Bytes::from_static(bytes))
}

/// The names of all files below, temporary ones too.
fn names(store: &Store) -> Vec<String> {
    let shards = fs::read_dir(&store.dir).unwrap().map(|shard| shard.unwrap().path());
    let files = shards.flat_map(|shard| fs::read_dir(shard).unwrap());
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let (_dir, store) = store(PLENTY);
    let (digest, _) = store.put(None, b"code").unwrap();
    assert_eq!(digest, Digest::of(b"code"));
    assert_eq!(store.put(Some(digest), b"code").unwrap(), (digest, false));
    assert_eq!(names(&store), [digest.to_hex()]);
    let store = Store::open(store.dir.clone(), PLENTY).unwrap();
    assert!(store.has(digest));
    assert_eq!(store.read(digest).unwrap(), sound(b"code"));
    assert_eq!(store.used_bytes(), 4);
    assert_eq!(store.read(Digest::of(b"other")).unwrap(), Found::Absent);
}

#[test]
fn interrupted_writes_are_cleaned_at_the_start_and_strange_files_left_alone() {
    let (_dir, store) = store(PLENTY);
    let (digest, _) = store.put(None, b"code").unwrap();
    fs::write(store.dir.join(TEMP).join("0"), b"half").unwrap();
    fs::write(store.shard(digest).join("README"), b"mine").unwrap();
    let store = Store::open(store.dir.clone(), PLENTY).unwrap();
    let mut names = names(&store);
    names.sort();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"README".into()) && names.contains(&digest.to_hex()));
    assert!(store.put(None, b"more").is_ok());
}

#[test]
fn altered_truncated_and_lengthened_files_are_set_aside_and_healed_by_a_put() {
    for altered in [&b"cOde"[..], b"cod", b"code!", b""] {
        let (_dir, store) = store(PLENTY);
        let (digest, _) = store.put(None, b"code").unwrap();
        fs::write(store.path(digest), altered).unwrap();
        assert_eq!(store.read(digest).unwrap(), Found::Corrupt);
        assert!(!store.has(digest));
        assert_eq!(store.read(digest).unwrap(), Found::Absent);
        assert_eq!(names(&store), [format!("{}.corrupt", digest.to_hex())]);

        fs::write(store.path(digest), altered).unwrap();
        assert_eq!(store.put(None, b"code").unwrap(), (digest, true));
        assert_eq!(store.read(digest).unwrap(), sound(b"code"));
    }
}

#[test]
fn bytes_of_another_digest_and_too_many_are_refused() {
    let (_dir, store) = store(PLENTY);
    let error = store.put(Some(Digest::of(b"a")), b"b").unwrap_err();
    assert!(matches!(error, PutError::Mismatch { .. }), "{error}");
    let zeros = vec![0; usize::try_from(Limits::ARTIFACT_BYTES_MAX).unwrap() + 1];
    let error = store.put(None, &zeros).unwrap_err();
    assert!(matches!(error, PutError::TooLarge(_)), "{error}");
    assert!(names(&store).is_empty());
}

#[test]
fn beyond_its_share_of_the_disk_nothing_is_kept_and_room_comes_back() {
    let (_dir, store) = store(10);
    let (digest, _) = store.put(None, b"123456").unwrap();
    let error = store.put(None, b"abcdef").unwrap_err();
    assert!(matches!(error, PutError::NoRoom(6)), "{error}");
    assert_eq!(names(&store), [digest.to_hex()]);
    store.put(None, b"123456").unwrap();
    let report = store.collect(&HashSet::new(), Duration::ZERO).unwrap();
    assert_eq!(report, CollectReport { kept: 0, removed: 1, freed_bytes: 6 });
    store.put(None, b"abcdef").unwrap();
    assert_eq!(store.used_bytes(), 6);
}

#[test]
fn the_live_and_the_young_are_not_collected() {
    let (_dir, store) = store(PLENTY);
    let (live, _) = store.put(None, b"live").unwrap();
    let (dead, _) = store.put(None, b"dead").unwrap();
    let (broken, _) = store.put(None, b"broken").unwrap();
    fs::write(store.path(broken), b"x").unwrap();
    assert_eq!(store.read(broken).unwrap(), Found::Corrupt);
    let hour = Duration::from_secs(3_600);
    let report = store.collect(&HashSet::from([live]), hour).unwrap();
    assert_eq!(report, CollectReport { kept: 2, removed: 0, freed_bytes: 0 });

    let long_ago = SystemTime::now() - 2 * hour;
    for path in names(&store) {
        let shard = store.dir.join(&path[..2]);
        File::options().append(true).open(shard.join(path)).unwrap().set_modified(long_ago).unwrap();
    }
    // Whoever puts it again relies on it: it is young again.
    store.put(None, b"dead").unwrap();
    let report = store.collect(&HashSet::from([live]), hour).unwrap();
    assert_eq!(report, CollectReport { kept: 2, removed: 1, freed_bytes: 1 });
    let report = store.collect(&HashSet::from([live]), Duration::ZERO).unwrap();
    assert_eq!((report.kept, report.removed, store.has(live), store.has(dead)), (1, 1, true, false));
}

#[test]
fn a_full_disk_refuses_and_leaves_no_partial_file() {
    let dir = TempDir::new().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path()).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: a small file system cannot be mounted here: {mounted:?}");
        return;
    }
    let _mount = Mount(dir.path().to_path_buf());
    let store = Store::open(dir.path().join("artifacts"), PLENTY).unwrap();
    let (small, _) = store.put(None, &[1; 8_000]).unwrap();
    let error = store.put(None, &[2; 80_000]).unwrap_err();
    assert!(matches!(error, PutError::NoRoom(80_000)), "{error}");
    assert_eq!(names(&store), [small.to_hex()]);
    assert_eq!(store.used_bytes(), 8_000);
    store.put(None, &[3; 8_000]).unwrap();
}

/// Unmounted at the end, whatever happens.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_is_kept_is_its_owners_alone() {
    let (dir, store) = store(PLENTY);
    let (digest, _) = store.put(None, b"code").unwrap();
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(mode(&store.path(digest)), 0o600);
    for made in [dir.path().join("artifacts"), store.shard(digest), dir.path().join("artifacts/tmp")] {
        assert_eq!(mode(&made), 0o700, "{}", made.display());
    }
}
