//! Publishes the command of a unit and calls it: once for all that returns, and once for each step that must trap.

use std::time::Duration;

use bytes::Bytes;
use skein_engine::{Call, Engine, RunError, StopHandle, TrapKind};
use skein_proto::Digest;
use tokio::time::Instant;

use crate::{
    Tally, manifest,
    script::{Expect, Unit},
    unit::{CAME_BACK, Choice, NONE, command, reads_input},
};

/// Holds a unit to its script.
pub(crate) fn check(engine: &Engine, name: &str, unit: &Unit, tally: &mut Tally) {
    let trapping: Vec<usize> =
        (0..unit.steps.len()).filter(|at| matches!(unit.steps[*at].expect, Expect::Trap(_))).collect();
    let reads_input = match reads_input(unit) {
        Ok(reads_input) => reads_input,
        Err(refused) => return tally.skip(format!("a module that {}", refused.0), 1 + unit.steps.len()),
    };
    for choice in std::iter::once(NONE).chain(0..trapping.len() as u32) {
        let shown = if reads_input { Choice::Input } else { Choice::Fixed(choice) };
        let code: Bytes = match command(unit, shown) {
            Ok(code) => code.into(),
            Err(refused) => return tally.wrong.push(format!("{name}:{}: no command: {}", unit.line, refused.0)),
        };
        let program = match engine.load(Digest::of(&code), &manifest(), || Ok(code.clone())) {
            Ok(program) => program,
            Err(error) => return tally.wrong.push(format!("{name}:{}: a good module is refused: {error}", unit.line)),
        };
        let limits = manifest().limits;
        let deadline = Instant::now() + Duration::from_secs(120);
        let payload = Bytes::copy_from_slice(&choice.to_le_bytes());
        let ended = program.run(Call { payload, ..Call::new(limits, deadline, StopHandle::new()) });
        if choice == NONE {
            returned(name, unit, ended.map(drop), tally);
        } else {
            let step = &unit.steps[trapping[choice as usize]];
            let Expect::Trap(message) = &step.expect else { continue };
            trapped(&format!("{name}:{}", step.line), message, ended.map(drop), tally);
        }
    }
}

fn returned(name: &str, unit: &Unit, ended: Result<(), RunError>, tally: &mut Tally) {
    if let Some(message) = &unit.traps {
        return trapped(&format!("{name}:{}", unit.line), message, ended, tally);
    }
    let count = unit.steps.iter().filter(|step| !matches!(step.expect, Expect::Trap(_))).count();
    match ended {
        Ok(()) => {
            tally.right("instantiated", 1);
            tally.right("returned", count);
        }
        Err(RunError::Exit { code, .. }) => tally.wrong.push(format!("{name}:{code}: another result")),
        Err(error) => tally.wrong.push(format!("{name}:{}: a call of its steps fails: {error}", unit.line)),
    }
}

fn trapped(at: &str, message: &str, ended: Result<(), RunError>, tally: &mut Tally) {
    match (ended, kind(message)) {
        (Err(RunError::Trap { kind, .. }), Some(expected)) if kind == expected => tally.right("trapped", 1),
        (Err(RunError::Exit { code: CAME_BACK, .. }), _) => tally.wrong.push(format!("{at}: no trap, but: {message}")),
        (ended, _) => tally.wrong.push(format!("{at}: {ended:?}, not a trap: {message}")),
    }
}

/// The kind of trap that a message of the suite is about.
fn kind(message: &str) -> Option<TrapKind> {
    Some(match message {
        "unreachable" => TrapKind::Unreachable,
        "integer divide by zero" => TrapKind::DivisionByZero,
        "integer overflow" => TrapKind::IntegerOverflow,
        "invalid conversion to integer" => TrapKind::BadConversion,
        "indirect call type mismatch" => TrapKind::SignatureMismatch,
        "call stack exhausted" => TrapKind::StackOverflow,
        "undefined element" | "undefined" => TrapKind::TableOutOfBounds,
        _ if message.starts_with("out of bounds memory") => TrapKind::MemoryOutOfBounds,
        _ if message.starts_with("out of bounds table") => TrapKind::TableOutOfBounds,
        _ if message.starts_with("uninitialized") => TrapKind::NullFunction,
        _ => return None,
    })
}
