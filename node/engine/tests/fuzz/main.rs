//! Modules that nobody wrote: changed hostile ones and grown random ones, published and called with tight limits.
//!
//! A short run is part of the tests; `fuzz/` at the top of the repository runs for as long as one likes. A finding
//! prints what to run to see it again: `SKEIN_FUZZ_SEED` and `SKEIN_FUZZ_CASE`. `SKEIN_FUZZ_SECONDS` makes it longer.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod campaign;
mod cases;
#[path = "../hostile/corpus.rs"]
#[allow(dead_code, reason = "only their code is of use here")]
mod corpus;

use std::time::Duration;

use campaign::Campaign;

/// Where the hostile modules are, from the crate's folder.
const HOSTILE: &str = "tests/hostile";

#[test]
fn whatever_is_published_ends_in_time_and_leaves_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("SKEIN_FUZZ_SEED").unwrap_or_else(rand::random);
    let mut campaign = Campaign::open(seed, None);
    let findings = match number("SKEIN_FUZZ_CASE") {
        Some(case) => campaign.replay(case),
        None => campaign.run(Duration::from_secs(number("SKEIN_FUZZ_SECONDS").unwrap_or(20))),
    };
    println!("{campaign}");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
