//! Artefacts on disk: kept, shared, checked, and compiled again when damaged.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, thread};

use skein_engine::{Engine, EngineConfig, EngineError, RunError};
use skein_proto::{Digest, ErrorCode, Failure};

use crate::support::{Bench, LONG, call, code, command, plain};

fn artefacts(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.dir.path()).expect("the cache directory");
    let paths = entries.map(|entry| entry.expect("its entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "elf")).collect()
}

#[test]
fn a_module_is_compiled_once_and_loaded_without_its_code() {
    let bench = Bench::new();
    let code = code(&command(""));
    let digest = Digest::of(&code);
    assert!(!bench.engine.is_cached(digest));
    assert!(!bench.engine.prepare(digest, &plain(), &code).unwrap().was_cached);
    assert!(bench.engine.is_cached(digest));
    assert!(bench.engine.prepare(digest, &plain(), &code).unwrap().was_cached);
    let program = bench.engine.load(digest, &plain(), || panic!("the code is not needed")).unwrap();
    assert_eq!(program.report().imports.len(), 4);
    program.run(call(LONG)).unwrap();
    assert_eq!(artefacts(&bench).len(), 1);
    assert_eq!(fs::metadata(bench.dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn concurrent_first_loads_share_one_compilation() {
    let bench = Bench::new();
    let code = code(&command("(drop (i32.const 1))"));
    let digest = Digest::of(&code);
    let prepared: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| bench.engine.prepare(digest, &plain(), &code).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let compiled: Vec<_> = prepared.iter().filter(|prepared| !prepared.was_cached).collect();
    assert!(compiled.iter().all(|prepared| prepared.compile == compiled[0].compile), "{compiled:?}");
    assert_eq!(artefacts(&bench).len(), 1);
}

#[test]
fn a_damaged_artefact_is_compiled_again_whatever_was_damaged() {
    let bench = Bench::new();
    let code = code(&command("(drop (call $write (i32.const 1) (i32.const 64) (i32.const 6)))"));
    let digest = Digest::of(&code);
    bench.engine.prepare(digest, &plain(), &code).unwrap();
    let path = artefacts(&bench).remove(0);
    let sound = fs::read(&path).unwrap();
    let length = sound.len();
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let damaged = [
        Vec::new(),
        b"nonsense".to_vec(),
        sound[..length / 2].to_vec(),
        sound[..length - 1].to_vec(),
        [&sound[..], b"more"].concat(),
        vec![0; length],
        flipped(0),
        flipped(length / 2),
        flipped(length - 100),
        flipped(length - 50),
        flipped(length - 10),
    ];
    for bytes in damaged {
        // A new file, as a broken disk would give one: the old one may be mapped.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        let mut was_asked = false;
        let program = bench.engine.load(digest, &plain(), || {
            was_asked = true;
            Ok(code.clone())
        });
        assert_eq!(program.unwrap().run(call(LONG)).unwrap().payload, "hello\n");
        assert!(was_asked);
        assert_eq!(fs::read(&path).unwrap().len(), length);
    }
}

#[test]
fn an_artefact_of_another_module_is_not_taken() {
    let bench = Bench::new();
    let one = code(&command(""));
    let other = code(&command("(call $proc_exit (i32.const 3))"));
    bench.engine.prepare(Digest::of(&one), &plain(), &one).unwrap();
    let path = artefacts(&bench).remove(0);
    let hex = |code| Digest::of(code).to_hex();
    let swapped = PathBuf::from(path.to_str().unwrap().replace(&hex(&one), &hex(&other)));
    fs::copy(&path, &swapped).unwrap();
    assert!(bench.engine.is_cached(Digest::of(&other)));
    let program = bench.engine.load(Digest::of(&other), &plain(), || Ok(other.clone())).unwrap();
    assert!(program.run(call(LONG)).is_err());
}

#[test]
fn two_engines_share_a_directory() {
    let bench = Bench::new();
    let second = Engine::open(EngineConfig::new(bench.dir.path())).unwrap();
    let code = code(&command(""));
    let digest = Digest::of(&code);
    bench.engine.prepare(digest, &plain(), &code).unwrap();
    let program = second.load(digest, &plain(), || panic!("the code is not needed")).unwrap();
    drop(second);
    bench.engine.retain(&std::collections::HashSet::new()).unwrap();
    assert!(!bench.engine.is_cached(digest));
    program.run(call(LONG)).expect("what is loaded runs on");
}

#[test]
fn code_that_is_not_what_its_digest_says_is_refused() {
    let bench = Bench::new();
    let code = code(&command(""));
    let error = bench.engine.prepare(Digest::of(b"other"), &plain(), &code).unwrap_err();
    assert!(matches!(error, EngineError::Digest { .. }), "{error}");
    let failure = Failure::not_executed(ErrorCode::ArtifactUnavailable, "nobody has it");
    let error = bench.engine.load(Digest::of(b"other"), &plain(), || Err(failure.clone())).unwrap_err();
    assert_eq!(Failure::from(error), failure);
    assert_eq!(artefacts(&bench).len(), 0);
}

#[test]
fn a_directory_that_cannot_be_used_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Engine::open(EngineConfig::new(&file)).unwrap_err();
    assert!(matches!(error, EngineError::Cache(_)), "{error}");
}

#[test]
fn programs_come_and_go_on_many_threads() {
    let bench = Bench::new();
    let modules: Vec<_> =
        (0..4).map(|number| code(&command(&format!("(call $proc_exit (i32.const {number}))")))).collect();
    thread::scope(|scope| {
        for start in 0..8 {
            let (bench, modules) = (&bench, &modules);
            scope.spawn(move || {
                for round in 0..50 {
                    let number = (start + round) % modules.len();
                    let code = &modules[number];
                    let program = bench.engine.load(Digest::of(code), &plain(), || Ok(code.clone())).unwrap();
                    let code = match program.run(call(LONG)) {
                        Err(RunError::Exit { code, .. }) => usize::try_from(code).unwrap(),
                        other => other.map(|_| 0).unwrap(),
                    };
                    assert_eq!(code, number);
                }
            });
        }
    });
}
