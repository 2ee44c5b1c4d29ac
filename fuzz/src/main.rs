//! Runs the engine's fuzz campaign for as long as one likes, with mutations that keep modules valid.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml -- --seconds 3600`; README.md says the rest.

#![allow(clippy::unwrap_used, reason = "what fails here fails the run, which is its job")]

#[path = "../../node/engine/tests/fuzz/campaign.rs"]
mod campaign;
#[path = "../../node/engine/tests/fuzz/cases.rs"]
mod cases;
#[path = "../../node/engine/tests/hostile/corpus.rs"]
#[allow(dead_code, reason = "only their code is of use here")]
mod corpus;

use std::{process::ExitCode, time::Duration};

use campaign::Campaign;
use wasm_mutate::WasmMutate;

/// Where the hostile modules are, from this folder.
const HOSTILE: &str = "../node/engine/tests/hostile";

const USAGE: &str = "skein-fuzz [--seconds N] [--seed S] [--case C]";

fn main() -> ExitCode {
    let (mut seconds, mut seed, mut case) = (60, rand::random(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let Some(value) = args.next().and_then(|value| value.parse::<u64>().ok()) else {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        };
        match arg.as_str() {
            "--seconds" => seconds = value,
            "--seed" => seed = value,
            "--case" => case = Some(value),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let mut campaign = Campaign::open(seed, Some(mutate));
    let findings = match case {
        Some(case) => campaign.replay(case),
        None => campaign.run(Duration::from_secs(seconds)),
    };
    println!("{} findings; {campaign}", findings.len());
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One mutation of the kind that a compiler's optimisations must see through.
fn mutate(code: &[u8], seed: u64) -> Option<Vec<u8>> {
    // It panics on some modules that are valid, which is no finding about the engine.
    std::panic::catch_unwind(|| {
        let mut mutator = WasmMutate::default();
        mutator.seed(seed).fuel(300);
        mutator.run(code).ok().and_then(|mut results| results.next()).and_then(Result::ok)
    })
    .ok()
    .flatten()
}
