//! What the cache believes, and what it throws out.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use super::*;
use crate::Tier;

fn key(name: &str) -> Key {
    Key::code(Digest::of(name.as_bytes()), Tier::Optimised)
}

fn open(dir: &Path) -> Cache {
    Cache::open(dir, "this release", 1 << 30).unwrap()
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
    let other = Cache::open(dir.path(), "another release", 1 << 30).unwrap();
    fs::copy(cache.path(key("a")), other.path(key("a"))).unwrap();
    assert!(other.find(key("a")).unwrap().is_none());
}

#[test]
fn what_was_not_used_for_longest_leaves_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), "this release", 45_000).unwrap();
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
    let cache = Cache::open(dir.path(), "this release", 25_000).unwrap();
    assert_eq!(cache.digests().unwrap(), ["b", "c", "a"].map(|name| Digest::of(name.as_bytes())));
    cache.evict(|_| false);
    assert_eq!(["a", "b", "c"].map(|name| cache.contains(key(name))), [false, true, true]);
}

#[test]
fn retaining_removes_other_modules_and_other_releases_and_nobody_elses_files() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, other) = (open(dir.path()), Cache::open(dir.path(), "another release", 1 << 30).unwrap());
    cache.store(key("a"), b"", b"").unwrap();
    cache.store(Key::source(Digest::of(b"a")), b"", b"").unwrap();
    cache.store(key("b"), b"", b"").unwrap();
    other.store(key("a"), b"", b"").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert_eq!(cache.retain(&HashSet::from([Digest::of(b"a")])).unwrap(), 2);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
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
