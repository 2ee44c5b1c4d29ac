//! The engine's books of memory beside what the kernel says: in a process of its own, since memory is the process's.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, Program, RunError, StopHandle};
use skein_proto::{AppName, Digest, InstancePolicy, Limits, Manifest};
use tempfile::TempDir;
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
/// Far more than any run of these tests takes.
const LONG: Duration = Duration::from_secs(120);

/// Held by each test: they measure the same process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine(budget: u64) -> (TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.memory_bytes_max = budget;
    (dir, Engine::open(config).unwrap())
}

fn manifest(instance: InstancePolicy) -> Manifest {
    let mut manifest = Manifest::named(AppName::default(), "test".parse().unwrap());
    manifest.limits.memory_bytes = 1 << 30;
    manifest.limits.deadline_ms = 120_000;
    Manifest { instance, ..manifest }
}

fn load(engine: &Engine, text: &str, manifest: &Manifest) -> Arc<Program> {
    let code = Bytes::from(wat::parse_str(text).unwrap());
    engine.load(Digest::of(&code), manifest, || Ok(code.clone())).unwrap()
}

fn call(manifest: &Manifest, stop: &StopHandle) -> Call<'static> {
    Call::new(manifest.limits, Instant::now() + LONG, stop.clone())
}

/// A command that does little, and differs from every other by its data.
fn small(number: usize) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2) (data (i32.const 2048) "variant {number}")
        (func (export "_start") (i32.store (i32.const 70000) (i32.const 1))))"#
    )
}

/// Grows by so many pages, traps if it cannot, writes to each page, and then does `end`.
fn grower(pages: u64, end: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1)
        (func (export "_initialize"))
        (func (export "handle") (local $at i32)
            (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then (unreachable)))
            (local.set $at (i32.const 65536))
            (loop $touch
                (i32.store (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if $touch (i32.lt_u (local.get $at) (i32.const {}))))
            {end}))"#,
        (pages + 1) * 65_536
    )
}

const SPIN: &str = "(loop $spin (br $spin))";

/// What the kernel says now.
fn resident(engine: &Engine) -> u64 {
    engine.observe().resident
}

#[test]
fn what_programs_are_said_to_hold_is_about_what_the_kernel_says() {
    let (_alone, (_dir, engine), manifest) = (alone(), engine(u64::MAX), manifest(InstancePolicy::Fresh));
    const COUNT: usize = 200;
    let texts: Vec<_> = (0..COUNT).map(small).collect();
    for text in &texts {
        let code = wat::parse_str(text).unwrap();
        engine.prepare(Digest::of(&code), &manifest, &code).unwrap();
    }
    engine.release_memory();
    let empty = resident(&engine);
    let programs: Vec<_> = texts.iter().map(|text| load(&engine, text, &manifest)).collect();
    let loaded = resident(&engine) - empty;
    for program in &programs {
        program.run(call(&manifest, &StopHandle::never())).unwrap();
    }
    let called = resident(&engine) - empty;
    let said: u64 = programs.iter().map(|program| program.memory().total()).sum();
    engine.trim(Duration::ZERO);
    let code: u64 = programs.iter().map(|program| program.memory().total()).sum();
    drop(programs);
    engine.release_memory();
    let left = resident(&engine).saturating_sub(empty);
    let each = |bytes: u64| bytes as f64 / COUNT as f64 / 1024.0;
    println!("KiB each: loaded {:.1}, said {:.1}", each(loaded), each(code));
    println!("KiB each: with an idle instance {:.1}, said {:.1}", each(called), each(said));
    println!("KiB each: left when all is dropped {:.1}", each(left));
    assert!((called / 3..called * 3).contains(&said), "the kernel says {called}, the engine {said}");
    assert!(left < called / 2, "{left} of {called} bytes are not given back");
}

#[test]
fn the_memory_of_running_guests_is_theirs_and_nobody_elses() {
    let (_alone, (_dir, engine), manifest) = (alone(), engine(u64::MAX), manifest(InstancePolicy::Fresh));
    let mut reactor = manifest.clone();
    reactor.entry = Some("handle".to_owned());
    let program = load(&engine, &grower(1_600, SPIN), &reactor);
    let before = engine.observe();
    let stop = StopHandle::new();
    thread::scope(|scope| {
        let run = scope.spawn(|| program.run(call(&reactor, &stop)));
        let grown = (0..).map(|_| engine.observe()).find(|now| now.resident >= before.resident + 100 * MIB).unwrap();
        assert!(program.memory().guests > 100 * MIB);
        assert!(grown.base < before.base + 20 * MIB, "counted once: {before:?}, then {grown:?}");
        assert!(grown.committed() >= grown.resident - MIB, "{grown:?}");
        stop.stop();
        assert!(matches!(run.join().unwrap(), Err(RunError::Cancelled { .. })));
    });
    assert_eq!((program.memory().guests, engine.memory().guests), (0, 0));
    assert!(engine.observe().resident < before.resident + 20 * MIB);
}

#[test]
fn a_guest_that_wants_more_than_the_node_has_fails_alone_and_the_budget_holds() {
    let _alone = alone();
    let (_other, measuring) = engine(u64::MAX);
    let budget = resident(&measuring) + 160 * MIB;
    let ((_dir, engine), mut manifest) = (engine(budget), manifest(InstancePolicy::Fresh));
    manifest.entry = Some("handle".to_owned());
    engine.observe();
    let large = load(&engine, &grower(1_280, SPIN), &manifest);
    let small = load(&engine, &small(0), &self::manifest(InstancePolicy::Fresh));
    let stop = StopHandle::new();
    thread::scope(|scope| {
        let first = scope.spawn(|| large.run(call(&manifest, &stop)));
        while large.memory().guests < 80 * MIB {
            thread::yield_now();
        }
        let second = large.run(call(&manifest, &StopHandle::never()));
        assert!(matches!(second, Err(RunError::Starved { .. })), "{second:?}");
        small.run(call(&manifest, &StopHandle::never())).unwrap();
        assert!(resident(&engine) < budget);
        stop.stop();
        assert!(matches!(first.join().unwrap(), Err(RunError::Cancelled { .. })));
    });
    assert_eq!(engine.memory().guests, 0, "all is given back");
}

#[test]
fn a_call_that_finds_no_room_to_begin_does_not_begin() {
    let (_alone, (_dir, engine), manifest) = (alone(), engine(u64::MAX / 2), manifest(InstancePolicy::Fresh));
    let program = load(&engine, &small(1), &manifest);
    let most = u64::MAX / 2 / 16 * 14;
    let all = engine.room(most - engine.memory().base).unwrap();
    assert!(program.room(0, &manifest.limits).is_err());
    let refused = program.run(call(&manifest, &StopHandle::never()));
    assert!(matches!(refused, Err(RunError::Full(_))), "{refused:?}");
    drop(all);
    let room = program.room(5, &Limits::default()).unwrap();
    assert_eq!(room.bytes(), 2 * 65_536 + 5);
    let mut call = call(&manifest, &StopHandle::never());
    call.room = Some(&room);
    program.run(call).unwrap();
    assert_eq!(engine.observe().guests, room.bytes(), "what its caller has paid for is not paid for twice");
}

#[test]
fn an_instance_that_serves_many_calls_pays_for_what_it_keeps() {
    let (_alone, (_dir, engine), mut manifest) = (alone(), engine(u64::MAX), manifest(InstancePolicy::Reuse));
    manifest.entry = Some("handle".to_owned());
    let program = load(&engine, &grower(320, ""), &manifest);
    program.run(call(&manifest, &StopHandle::never())).unwrap();
    assert_eq!(program.memory().guests, 321 * 65_536);
    let kept = engine.observe();
    assert!(kept.base + 19 * MIB < kept.resident, "{kept:?}");
    engine.trim(Duration::ZERO);
    assert_eq!((program.memory().guests, engine.memory().guests), (0, 0));
}

#[test]
fn one_module_more_than_may_be_loaded_finds_no_room_until_another_leaves() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.modules_max = 2;
    let engine = Engine::open(config).unwrap();
    let manifest = manifest(InstancePolicy::Fresh);
    let [first, second] = [small(1), small(2)];
    let digest = |text: &str| Digest::of(&wat::parse_str(text).unwrap());
    let (first_program, _second_program) = (load(&engine, &first, &manifest), load(&engine, &second, &manifest));
    assert!(engine.room_to_load(digest(&small(3))).is_err());
    assert!(engine.room_to_load(digest(&first)).is_ok(), "it is loaded already");
    drop(first_program);
    assert!(engine.room_to_load(digest(&small(3))).is_ok());
}

/// The most that the process has held since [`forget_peak`], as the kernel says.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[test]
fn taking_an_image_takes_no_second_copy_of_the_memory() {
    const HELD: u64 = 96 * MIB;
    let (_alone, (_dir, engine), manifest) = (alone(), engine(u64::MAX), manifest(InstancePolicy::Fresh));
    let text = format!(
        r#"(module (memory (export "memory") {})
        (func (export "_initialize") (memory.fill (i32.const 0) (i32.const 1) (i32.const {HELD})))
        (func (export "handle")))"#,
        HELD / 65_536
    );
    let code = wat::parse_str(&text).unwrap();
    engine.prepare(Digest::of(&code), &manifest, &code).unwrap();
    engine.release_memory();
    forget_peak();
    let before = resident(&engine);
    let program = load(&engine, &text, &manifest);
    let took = peak() - before;
    assert!((HELD..HELD * 3 / 2).contains(&took), "{} MiB for an image of {}", took / MIB, HELD / MIB);
    program.run(call(&manifest, &StopHandle::never())).unwrap();
}

/// What publishing does with the heap of its thread: large things come and go, each somewhat smaller than the last.
#[test]
fn a_heap_that_held_large_things_is_given_back() {
    let (_alone, (_dir, engine)) = (alone(), engine(u64::MAX));
    let before = resident(&engine);
    let publishing =
        thread::spawn(|| [30, 24, 20].map(|size| vec![1_u8; size << 20].iter().map(|byte| u64::from(*byte)).sum()));
    let sums: [u64; 3] = publishing.join().unwrap();
    engine.release_memory();
    let kept = resident(&engine).saturating_sub(before);
    assert!(kept < 8 * MIB, "{} MiB are kept of {} that came and went", kept / MIB, sums.iter().sum::<u64>() / MIB);
}
