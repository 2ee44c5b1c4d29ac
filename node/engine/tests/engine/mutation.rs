//! Any bytes at all: refused or run, never a panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use skein_engine::EngineError;
use skein_proto::{Digest, Limits};

use crate::support::{Bench, SHORT, call, code, command, manifest};

static BENCH: LazyLock<Bench> = LazyLock::new(Bench::new);

fn is_contained(code: &[u8]) -> Result<(), TestCaseError> {
    let inspected = BENCH.engine.inspect(code, &manifest(Limits::default()));
    match BENCH.engine.load(Digest::of(code), &manifest(Limits::default()), || Ok(code.to_vec().into())) {
        // What is loaded is run too: whatever it does, the host outlives it.
        Ok(program) => drop(program.run(call(SHORT))),
        Err(error) => prop_assert!(matches!(error, EngineError::Module(_)), "{error}"),
    }
    if let Err(error) = inspected {
        prop_assert!(matches!(error, EngineError::Module(_)), "{error}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        is_contained(&bytes)?;
        is_contained(&[b"\0asm\x01\0\0\0".as_slice(), &bytes].concat())?;
    }

    #[test]
    fn a_changed_module_is_refused_or_runs(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut bytes = code(&command("(loop $l (br_if $l (i32.eqz (call $write (i32.const 2) (i32.const 64) (i32.const 6)))))")).to_vec();
        for (at, byte) in changes {
            let at = 8 + at % (bytes.len() - 8);
            bytes[at] = byte;
        }
        is_contained(&bytes)?;
    }
}
