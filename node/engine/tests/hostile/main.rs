//! Guests that mean harm: each file beside this one says what it tries and how it must end.
//!
//! `cargo test -p skein-engine --test hostile -- --nocapture` prints what each of them took, and what a neighbour
//! noticed of it. On a machine that does nothing else, `SKEIN_STRICT=1` holds them to the promised times too.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod attack;
mod corpus;
mod neighbour;
mod process;

use std::time::Duration;

use attack::{Arena, Report};
use corpus::Hostile;
use neighbour::{Neighbour, Seen};
use process::Footprint;

/// Where the modules are, from the crate's folder.
const HOSTILE: &str = "tests/hostile";
/// How much longer than its limit a guest may take to end.
const GRACE: Duration = Duration::from_millis(200);
/// The same where others use the machine too: nothing that ends later ended by its limit.
const GRACE_BUSY: Duration = Duration::from_secs(10);
/// How long memory may take to come back.
const RETURNS_WITHIN: Duration = Duration::from_secs(5);

/// True if the machine does nothing else, so that times mean something.
fn is_strict() -> bool {
    std::env::var_os("SKEIN_STRICT").is_some()
}

#[test]
fn every_folder_has_its_modules_and_each_says_what_it_tries() {
    let corpus = corpus::read();
    assert!(corpus.len() >= 150, "{} modules", corpus.len());
    for folder in
        ["loops", "recursion", "memory", "data", "tables", "code", "features", "host", "escapes", "start", "traps"]
    {
        let count = corpus.iter().filter(|hostile| hostile.name.starts_with(&format!("{folder}/"))).count();
        assert!(count >= 8, "{folder} has {count} modules");
    }
    for hostile in &corpus {
        assert!(hostile.tries.ends_with('.') && hostile.tries.len() > 10, "{}: {}", hostile.name, hostile.tries);
    }
}

#[test]
fn each_ends_as_it_must_while_its_neighbour_goes_on() {
    let arena = Arena::open();
    // The corpus first: its bombs, written out, are many megabytes, which are not the engine's.
    let corpus = corpus::read();
    let neighbour = Neighbour::start(&arena.engine);
    neighbour.until_calls(1_000);
    let alone = neighbour.take();
    let mut wrong: Vec<String> = Vec::new();
    let mut all = Seen::default();
    let begin = Footprint::now();
    println!("neighbour alone: {alone}\n{begin}\n");
    for hostile in &corpus {
        let before = Footprint::now();
        let report = arena.attack(hostile);
        let after = Footprint::until(&before, RETURNS_WITHIN);
        let seen = neighbour.take();
        println!("{:34} {report}; neighbour {seen}; {after}", hostile.name);
        wrong.extend(complaint(hostile, &report).map(|what| format!("{}: {what}", hostile.name)));
        if !after.is_back_to(&before) {
            wrong.push(format!("{}: memory did not come back: {before} before, {after} after", hostile.name));
        }
        if seen.failed > 0 {
            wrong.push(format!("{}: {} calls of the neighbour failed", hostile.name, seen.failed));
        }
        all = all.and(&seen);
    }
    let end = Footprint::until(&begin, RETURNS_WITHIN);
    println!("{end} at the end; the neighbour all the while: {all}");
    if is_strict() && all.p99() > alone.p99() * 2 {
        wrong.push(format!("the neighbour's p99 is {:?}, and {:?} alone", all.p99(), alone.p99()));
    }
    if !end.is_back_to(&begin) {
        wrong.push(format!("all of them together keep memory: {begin} before, {end} after"));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
}

/// What is wrong with how a module ended, if something is.
fn complaint(hostile: &Hostile, report: &Report) -> Option<String> {
    if !hostile.may_end(&report.ending) {
        return Some(format!("must end by `{}`, but: {}", hostile.ends, report.ending));
    }
    if report.endings_differ {
        return Some("ends otherwise when it is called again".to_owned());
    }
    if let Some(canary) = &report.canary {
        return Some(format!("the call after it: {canary}"));
    }
    let grace = if is_strict() { GRACE } else { GRACE_BUSY };
    let most = hostile.limits.deadline_ms;
    (report.longest > Duration::from_millis(most) + grace).then(|| format!("took {:?} of {most} ms", report.longest))
}
