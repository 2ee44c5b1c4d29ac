//! The compiler's process: what it is given, how it is bounded, and what becomes of it.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use skein_engine::{Engine, EngineConfig, EngineError, Tiering, WorkerCommand};

use crate::support::{config, exit_code, exits_with, large, load, prepare, shell, wait_until, worker};

fn with(dir: &Path, worker: WorkerCommand) -> EngineConfig {
    let mut config = config(dir);
    (config.worker, config.tiering) = (Some(worker), Tiering::Optimised);
    config
}

fn check(worker: WorkerCommand, is_expected: fn(&EngineError) -> bool, words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with(dir.path(), worker);
    config.compile_time_max = Duration::from_millis(100);
    let engine = Engine::open(config).unwrap();
    let error = prepare(&engine, &exits_with(1)).unwrap_err();
    assert!(is_expected(&error) && error.to_string().contains(words), "{error:?}");
    let kept = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(kept.filter(|name| name != "key").count(), 0, "nothing is kept");
    engine.shutdown();
}

fn module(error: &EngineError) -> bool {
    matches!(error, EngineError::Module(_))
}

fn internal(error: &EngineError) -> bool {
    matches!(error, EngineError::Internal(_))
}

#[test]
fn its_code_is_as_good_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(with(dir.path(), worker())).unwrap();
    assert_eq!(exit_code(&load(&engine, &exits_with(5))), 5);
    engine.shutdown();
}

#[test]
fn it_has_as_many_threads_as_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with(dir.path(), worker());
    config.compile_threads = 4;
    let engine = Engine::open(config).unwrap();
    prepare(&engine, &large(100)).unwrap();
    assert_eq!(exit_code(&load(&engine, &exits_with(9))), 9);
    engine.shutdown();
}

#[test]
fn it_inherits_nothing_but_its_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let _open = std::fs::File::open("/dev/null").unwrap();
    let seen = dir.path().join("seen");
    let script = format!("{{ env; ls /proc/$$/fd; pwd; }} > {}; exec $WORKER", seen.display());
    let cache = dir.path().join("cache");
    let engine = Engine::open(with(&cache, shell(&script))).unwrap();
    prepare(&engine, &exits_with(6)).unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    let seen: Vec<&str> = seen.lines().filter(|line| !line.starts_with("PWD=")).collect();
    // The shell has a descriptor of its own, for its redirection.
    assert_eq!(seen.iter().filter(|line| line.parse::<u32>().is_ok_and(|fd| fd < 10)).count(), 3, "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("CARGO") || line.starts_with("HOME")), "{seen:?}");
    assert_eq!(seen.last(), Some(&"/"));
    engine.shutdown();
}

#[test]
fn one_that_hangs_is_ended() {
    let begin = Instant::now();
    check(shell("exec sleep 100"), module, "takes longer than 0.1 s");
    check(shell("exec >&- 2>&-; exec sleep 100"), internal, "");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn one_that_dies_is_an_error_that_says_so() {
    check(shell("exit 3"), internal, "exit status: 3");
    check(shell("echo no such library >&2; exit 127"), internal, "no such library");
    check(shell("kill -9 $$"), internal, "signal 9");
    check(shell("kill -SEGV $$"), module, "the compiler crashes on this module (signal 11)");
    check(shell("kill -ABRT $$"), module, "the compiler crashes on this module (signal 6)");
    check(shell("echo memory allocation of 8 bytes failed >&2; kill -ABRT $$"), module, "2048 MiB of memory");
    check(shell("kill -XCPU $$"), module, "takes longer than 0.1 s");
    check(WorkerCommand::new("/no/such/program", ["x"]), internal, "cannot start");
}

#[test]
fn one_that_is_started_by_a_guests_thread_hears_signals_all_the_same() {
    // As the kernel does it at the end of the CPU time. The shell blocks the signal, as the thread does, so that it is
    // there when the compiler's process begins.
    let guest = std::thread::spawn(|| {
        skein_engine::shield_thread();
        check(shell("kill -XCPU $$; exec $WORKER"), module, "takes longer than 0.1 s");
    });
    guest.join().unwrap();
}

#[test]
fn one_that_talks_garbage_is_not_believed() {
    check(shell("exec cat"), internal, "what cannot be read");
    check(shell("exec yes"), internal, "what cannot be read");
    check(shell("exec true"), internal, "what cannot be read");
    check(shell("$WORKER; echo more"), internal, "what cannot be read");
    check(shell("$WORKER | head -c 1000"), internal, "too much or too little");
    check(shell("exec yes >&2"), module, "takes longer");
}

#[test]
fn one_that_was_killed_by_somebody_gets_a_second_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let script = format!("if test -e {0}; then exec $WORKER; fi; touch {0}; kill -9 $$", mark.display());
    let engine = Engine::open(with(&dir.path().join("cache"), shell(&script))).unwrap();
    prepare(&engine, &exits_with(7)).unwrap();
    engine.shutdown();
}

#[test]
fn it_has_no_privileges_while_it_compiles() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("echo $$ > {0}.tmp; mv {0}.tmp {0}; exec $WORKER", pid.display());
    let engine = Engine::open(with(&dir.path().join("cache"), shell(&script))).unwrap();
    std::thread::scope(|scope| {
        let compiled = scope.spawn(|| prepare(&engine, &large(800)));
        // It ends with the compilation; only then would this wait in vain.
        wait_until("the compiler's process is confined", || {
            let Ok(pid) = std::fs::read_to_string(&pid) else { return false };
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
            let has = |line: &str| status.lines().any(|found| found.replace('\t', " ") == line);
            has("NoNewPrivs: 1") && has("Seccomp: 2")
        });
        compiled.join().unwrap().unwrap();
    });
    engine.shutdown();
}

#[test]
fn its_memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with(dir.path(), worker());
    (config.compile_memory_bytes_max, config.tiering) = (24 << 20, Tiering::Baseline);
    let engine = Engine::open(config).unwrap();
    let error = prepare(&engine, &large(3_000)).unwrap_err();
    assert!(module(&error) && error.to_string().contains("needs more than"), "{error:?}");
    // Small ones go on.
    prepare(&engine, &exits_with(8)).unwrap();
    engine.shutdown();
}

#[test]
fn its_time_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with(dir.path(), worker());
    config.compile_time_max = Duration::from_millis(10);
    let engine = Engine::open(config).unwrap();
    let error = prepare(&engine, &large(2_000)).unwrap_err();
    assert!(module(&error) && error.to_string().contains("takes longer than 0.01 s"), "{error:?}");
    engine.shutdown();
}

#[test]
fn shutdown_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (pid_file, cache) = (dir.path().join("pid"), dir.path().join("cache"));
    let engine =
        Engine::open(with(&cache, shell(&format!("echo $$ > {}; exec sleep 100", pid_file.display())))).unwrap();
    let waiting = std::thread::spawn({
        let engine = engine.clone();
        move || prepare(&engine, &exits_with(9))
    });
    let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    wait_until("the process runs", || pid().is_some());
    let begin = Instant::now();
    engine.shutdown();
    assert!(matches!(waiting.join().unwrap(), Err(EngineError::Shutdown)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(!Path::new(&format!("/proc/{}", pid().unwrap())).exists(), "it is gone, and nothing is left of it");
    assert!(matches!(prepare(&engine, &exits_with(10)), Err(EngineError::Shutdown)));
}

#[test]
fn the_line_for_compilations_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with(&dir.path().join("cache"), shell("exec sleep 100"));
    (config.compiles_max, config.compiles_waiting_max) = (1, 1);
    let engine = Engine::open(config).unwrap();
    let start = |code: u32| {
        let engine = engine.clone();
        std::thread::spawn(move || prepare(&engine, &exits_with(code)))
    };
    let waiting: Vec<_> = (0..12).map(start).collect();
    wait_until("all but two are refused", || waiting.iter().filter(|thread| thread.is_finished()).count() == 10);
    engine.shutdown();
    let errors: Vec<EngineError> = waiting.into_iter().map(|thread| thread.join().unwrap().unwrap_err()).collect();
    let busy = errors.iter().filter(|error| matches!(error, EngineError::Busy { waiting: 1 })).count();
    assert_eq!(busy, 10, "{errors:?}");
}

#[test]
fn it_refuses_what_another_release_asks() {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_skein-compile-worker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello, who is there? nobody that makes sense").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("for the engine's own use"));
}
