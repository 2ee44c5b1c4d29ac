//! Runs the oracle of instances' state for as long as one likes: module after module, in every mode, against wasmi.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --bin state -- --seconds 3600`; README.md says the rest.

#![allow(clippy::unwrap_used, reason = "what fails here fails the run, which is its job")]

#[path = "../../../node/engine/tests/oracle/modules.rs"]
mod modules;
#[path = "../../../node/engine/tests/oracle/oracle.rs"]
#[allow(dead_code, reason = "what sums up several threads and judges a short run is for the test")]
mod oracle;
#[path = "../../../node/engine/tests/oracle/parts.rs"]
mod parts;
#[path = "../../../node/engine/tests/oracle/reference.rs"]
mod reference;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use oracle::Oracle;

const USAGE: &str = "state [--seconds N] [--seed S] [--modules N]";
/// So many findings end a run.
const FINDINGS_MAX: usize = 20;

fn main() -> ExitCode {
    let (mut seconds, mut first, mut modules) = (60, u64::from(rand::random::<u32>()), u64::MAX);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let Some(value) = args.next().and_then(|value| value.parse::<u64>().ok()) else {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        };
        match arg.as_str() {
            "--seconds" => seconds = value,
            "--seed" => first = value,
            "--modules" => modules = value,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    println!("first seed {first}");
    let (mut oracle, mut findings, mut seed) = (Oracle::open(), 0, first);
    let (begin, mut said) = (Instant::now(), Instant::now());
    while begin.elapsed() < Duration::from_secs(seconds) && seed - first < modules && findings < FINDINGS_MAX {
        findings += usize::from(oracle.replay(seed).is_err());
        seed += 1;
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("{} s, {findings} findings; {} modules", begin.elapsed().as_secs(), seed - first);
        }
    }
    println!("{} s, {findings} findings; {oracle}", begin.elapsed().as_secs());
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
