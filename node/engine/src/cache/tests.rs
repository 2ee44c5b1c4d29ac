//! What the cache believes, and what it throws out.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use super::*;
use crate::Tier;

fn key(name: &str) -> Key {
    Key::code(Digest::of(name.as_bytes()), Tier::Optimised)
}

fn open(dir: &Path) -> Cache {
    open_as(dir, "this release", 1 << 30)
}

/// The cache of a release, and of this size.
fn open_as(dir: &Path, release: &str, bytes_max: u64) -> Cache {
    // Beside the files, under a name that is none of theirs.
    Cache::open(dir, &dir.join("key"), release, bytes_max).unwrap()
}

#[test]
fn what_is_stored_is_found_with_what_was_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).store(key("a"), b"payload", b"meta").unwrap();
    let entry = open(dir.path()).find(key("a")).unwrap().unwrap();
    assert_eq!((entry.payload_bytes, &entry.meta[..]), (7, &b"meta"[..]));
    assert!(fs::read(&entry.path).unwrap().starts_with(b"payload"));
    assert!(open(dir.path()).find(key("b")).unwrap().is_none());
}

#[test]
fn a_payload_with_holes_is_kept_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key { digest: Digest::of(b"a"), kind: Kind::Image([7; 32]) };
    let fill = |file: &mut File| file.set_len(1 << 20).map(|()| 1 << 20);
    open(dir.path()).store_with(key, b"globals", fill).unwrap();
    let entry = open(dir.path()).find(key).unwrap().unwrap();
    assert_eq!((entry.payload_bytes, &entry.meta[..]), (1 << 20, &b"globals"[..]));
    let other = Key { digest: Digest::of(b"a"), kind: Kind::Image([8; 32]) };
    assert!(open(dir.path()).find(other).unwrap().is_none());
}

#[test]
fn no_damaged_file_is_found_whatever_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.store(key("a"), &[5; 3_000], b"meta").unwrap();
    let path = cache.path(key("a"));
    let sound = fs::read(&path).unwrap();
    let length = sound.len();
    let cuts = (0..length).step_by(211).map(|at| sound[..at].to_vec());
    let flips = (0..length).step_by(97).chain(length - 140..length).map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    });
    for bytes in cuts.chain(flips).chain([[&sound[..], b"more"].concat()]) {
        // The memo must not hide it: another file has another stamp.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(cache.find(key("a")).unwrap().is_none());
        assert!(!path.exists(), "it is thrown out");
        fs::write(&path, &sound).unwrap();
        assert!(cache.find(key("a")).unwrap().is_some());
    }
}

#[test]
fn a_file_that_changes_in_place_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.store(key("a"), &[5; 3_000], b"").unwrap();
    assert!(cache.find(key("a")).unwrap().is_some());
    let file = fs::OpenOptions::new().write(true).open(cache.path(key("a"))).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"X", 1_000).unwrap();
    assert!(cache.find(key("a")).unwrap().is_none());
}

#[test]
fn a_file_of_another_module_kind_or_release_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.store(key("a"), b"payload", b"").unwrap();
    let baseline = Key::code(Digest::of(b"a"), Tier::Baseline);
    for foreign in [key("b"), baseline] {
        fs::copy(cache.path(key("a")), cache.path(foreign)).unwrap();
        assert!(cache.find(foreign).unwrap().is_none());
    }
    let other = open_as(dir.path(), "another release", 1 << 30);
    fs::copy(cache.path(key("a")), other.path(key("a"))).unwrap();
    assert!(other.find(key("a")).unwrap().is_none());
}

#[test]
fn what_was_not_used_for_longest_leaves_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_as(dir.path(), "this release", 46_000);
    for name in ["a", "b", "c", "d"] {
        cache.store(key(name), &[0; 10_000], b"").unwrap();
    }
    cache.evict(|_| false);
    assert!(cache.contains(key("a")), "all fit");
    cache.find(key("a")).unwrap().unwrap();
    cache.store(key("e"), &[0; 10_000], b"").unwrap();
    // `b` is the one used least recently, but in use; `c` comes next.
    cache.evict(|digest| digest == Digest::of(b"b"));
    let left: Vec<bool> = ["a", "b", "c", "d", "e"].map(|name| cache.contains(key(name))).to_vec();
    assert_eq!(left, [true, true, false, true, true]);
}

#[test]
fn the_order_of_use_survives_in_the_files_ages() {
    let dir = tempfile::tempdir().unwrap();
    for (age, name) in [(30, "a"), (10, "b"), (20, "c")] {
        let cache = open(dir.path());
        cache.store(key(name), &[0; 10_000], b"").unwrap();
        let file = File::open(cache.path(key(name))).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    let cache = open_as(dir.path(), "this release", 25_000);
    assert_eq!(cache.digests().unwrap(), ["b", "c", "a"].map(|name| Digest::of(name.as_bytes())));
    cache.evict(|_| false);
    assert_eq!(["a", "b", "c"].map(|name| cache.contains(key(name))), [false, true, true]);
}

#[test]
fn retaining_removes_other_modules_and_other_releases_and_nobody_elses_files() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, other) = (open(dir.path()), open_as(dir.path(), "another release", 1 << 30));
    cache.store(key("a"), b"", b"").unwrap();
    cache.store(Key::source(Digest::of(b"a")), b"", b"").unwrap();
    cache.store(key("b"), b"", b"").unwrap();
    other.store(key("a"), b"", b"").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert_eq!(cache.retain(&HashSet::from([Digest::of(b"a")])).unwrap(), 2);
    // And the key.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    assert!(cache.contains(key("a")) && cache.contains(Key::source(Digest::of(b"a"))));
}

#[test]
fn what_a_process_left_when_it_died_is_removed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join(".a-1-0.tmp"), dir.path().join(".a-2-0.tmp"));
    fs::write(&old, "").unwrap();
    fs::write(&new, "").unwrap();
    File::open(&old).unwrap().set_modified(std::time::SystemTime::now() - ABANDONED_AFTER * 2).unwrap();
    open(dir.path());
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_file_of_another_key_is_not_taken() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Whole, and with every label right: what a forger makes who has this program and not the key.
    open(other.path()).store(key("a"), b"forged", b"meta").unwrap();
    let cache = open(dir.path());
    fs::copy(open(other.path()).path(key("a")), cache.path(key("a"))).unwrap();
    assert!(cache.find(key("a")).unwrap().is_none());
    assert!(!cache.contains(key("a")), "it is thrown out");
    // With the key, it is as good as ours: a directory may move.
    open(other.path()).store(key("a"), b"moved", b"meta").unwrap();
    fs::copy(open(other.path()).path(key("a")), cache.path(key("a"))).unwrap();
    fs::copy(other.path().join("key"), dir.path().join("key")).unwrap();
    assert!(open(dir.path()).find(key("a")).unwrap().is_some());
}

#[test]
fn no_link_is_followed_and_nothing_but_a_file_is_read() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cache, target) = (open(dir.path()), elsewhere.path().join("target"));
    cache.store(key("a"), b"payload", b"").unwrap();
    let path = cache.path(key("a"));
    fs::rename(&path, &target).unwrap();
    let before = fs::read(&target).unwrap();
    let plant: [&dyn Fn(); 3] = [
        // To a sound file, so that nothing but the link is wrong.
        &|| std::os::unix::fs::symlink(&target, &path).unwrap(),
        &|| std::os::unix::fs::symlink("nowhere", &path).unwrap(),
        // Whoever opened it to read would wait for a writer.
        &|| rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
    ];
    for plant in plant {
        plant();
        assert!(!cache.contains(key("a")));
        assert!(cache.find(key("a")).unwrap().is_none());
        assert!(fs::symlink_metadata(&path).is_err(), "it is thrown out");
    }
    assert_eq!(fs::read(&target).unwrap(), before, "what a link points to is left alone");
}

#[test]
fn a_file_that_takes_the_place_of_a_sound_one_is_not_opened_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.store(key("a"), b"payload", b"").unwrap();
    let entry = cache.find(key("a")).unwrap().unwrap();
    assert!(entry.open().is_ok() && !entry.is_gone());
    let sound = fs::read(&entry.path).unwrap();
    fs::remove_file(&entry.path).unwrap();
    assert!(entry.is_gone());
    fs::write(&entry.path, sound).unwrap();
    assert_eq!(entry.open().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(entry.is_gone());
}
