//! Loaded code: one copy for all programs of a module, and none when the last has gone.

use std::path::Path;

use skein_engine::{Engine, Tier, Tiering};
use skein_proto::Digest;

use crate::support::{config, exit_code, exits_with, large, load, prepare, wait_until, worker};

/// Pieces of this process's memory that are files of `dir`.
fn mappings(dir: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
}

#[test]
fn programs_of_one_module_share_its_code_and_the_last_one_releases_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let code = exits_with(61);
    let first = load(&engine, &code);
    let once = mappings(dir.path());
    assert!(once > 0);
    let more: Vec<_> = (0..20).map(|_| load(&engine, &code)).collect();
    assert_eq!(mappings(dir.path()), once);
    drop(first);
    assert_eq!(exit_code(&more[7]), 61);
    drop(more);
    assert_eq!(mappings(dir.path()), 0);
    // And again, from the file.
    assert_eq!(exit_code(&load(&engine, &code)), 61);
    assert_eq!(mappings(dir.path()), 0);
    engine.shutdown();
}

#[test]
fn versions_that_come_and_go_leave_no_memory_behind() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let modules: Vec<_> = (70..80).map(exits_with).collect();
    let all: Vec<_> = modules.iter().map(|code| load(&engine, code)).collect();
    assert!(mappings(dir.path()) >= modules.len());
    drop(all);
    for _ in 0..30 {
        modules.iter().for_each(|code| drop(load(&engine, code)));
        assert_eq!(mappings(dir.path()), 0);
    }
    engine.shutdown();
}

#[test]
fn code_that_was_replaced_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    (config.tiering, config.worker) = (Tiering::Both { baseline_from_bytes: 0 }, Some(worker()));
    let engine = Engine::open(config).unwrap();
    let code = large(20);
    let program = load(&engine, &code);
    wait_until("the optimised code is in place", || program.tier() == Tier::Optimised);
    wait_until("the baseline code is gone", || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        !maps.lines().any(|line| line.contains(dir.path().to_str().unwrap()) && line.contains(".baseline"))
    });
    drop(program);
    // The thread that swapped it may hold it for a moment longer.
    wait_until("the optimised code is gone", || mappings(dir.path()) == 0);
    engine.shutdown();
}

#[test]
fn the_cache_is_held_to_its_size_and_what_is_loaded_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.cache_bytes_max = 64 << 10;
    let engine = Engine::open(config).unwrap();
    let loaded = exits_with(90);
    let program = load(&engine, &loaded);
    let others: Vec<_> = (91..111).map(exits_with).collect();
    for code in &others {
        prepare(&engine, code).unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "key");
    let bytes: u64 = files.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(bytes <= 64 << 10, "{bytes}");
    assert!(engine.is_cached(Digest::of(&loaded)) && !engine.is_cached(Digest::of(&others[0])));
    assert!(engine.is_cached(Digest::of(others.last().unwrap())));
    assert_eq!(exit_code(&program), 90);
    // What has left is compiled again when it is wanted.
    assert_eq!(exit_code(&load(&engine, &others[0])), 91);
    engine.shutdown();
}
