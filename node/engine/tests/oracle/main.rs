//! The state of an instance, against another engine: generated modules, each called many times in every mode that a
//! version can be called in, must do what a new instance of wasmi does, or, where instances are reused, one that is kept.
//!
//! A finding prints the seed and what to run to see it again. `SKEIN_ORACLE_SEED` is the first seed,
//! `SKEIN_ORACLE_MODULES` how many there are: 2,000 take some minutes. `fuzz/` runs it for as long as one likes.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod modules;
mod oracle;
mod parts;
mod reference;

use std::{sync::Mutex, thread};

use oracle::Oracle;

/// As many as fit a minute of two cores. The seeds are always the same, so that they have all constructs.
const MODULES: u64 = 200;
/// Threads, each with engines of its own, unless `SKEIN_ORACLE_THREADS` says otherwise.
const THREADS: u64 = 2;

#[test]
fn every_call_finds_the_state_that_a_new_instance_of_another_engine_has() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("SKEIN_ORACLE_SEED").unwrap_or(0);
    let count = number("SKEIN_ORACLE_MODULES").unwrap_or(MODULES);
    let threads = number("SKEIN_ORACLE_THREADS").unwrap_or(THREADS).clamp(1, count.max(1));
    let (all, findings) = (Mutex::new(Oracle::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for part in 0..threads {
            let (all, findings) = (&all, &findings);
            scope.spawn(move || {
                let mut oracle = Oracle::open();
                for seed in (first + part..first + count).step_by(threads as usize) {
                    if let Err(finding) = oracle.replay(seed) {
                        findings.lock().unwrap().push(finding);
                    }
                }
                all.lock().unwrap().add(&oracle);
            });
        }
    });
    let (all, findings) = (all.into_inner().unwrap(), findings.into_inner().unwrap());
    println!("{all}");
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    if count >= MODULES {
        assert_eq!(all.missing(), Vec::<&str>::new(), "never occurred");
    }
}
