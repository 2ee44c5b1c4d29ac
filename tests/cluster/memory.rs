//! A node keeps its process within its memory budget, whatever is published and called.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use skein_harness::{Answer, Mesh, echo_variant, until};

use crate::SKEIN;

const MIB: u64 = 1 << 20;
/// A node without functions has some 70 MiB when it is built for debugging.
const BUDGET: u64 = 256 * MIB;

/// Distinct functions that hold little.
const SMALL: usize = 100;
/// Functions that keep 12 MiB each between calls: together far more than the budget.
const KEEPERS: usize = 30;
/// What one of them keeps, in pages of 64 KiB.
const KEPT_PAGES: usize = 192;
/// Callers at a time.
const CALLERS: usize = 8;

/// Grows by so many pages, or traps; writes to each; then writes `done` to the result.
fn grower(pages: usize, number: usize) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 64) "done") (data (i32.const 128) "{number}")
        (func (export "_initialize"))
        (func (export "handle") (local $at i32)
            (if (i32.eq (memory.size) (i32.const 1)) (then
                (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then (unreachable)))
                (local.set $at (i32.const 65536))
                (loop $touch
                    (i32.store (local.get $at) (i32.const 1))
                    (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                    (br_if $touch (i32.lt_u (local.get $at) (i32.const {}))))))
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 4))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        (pages + 1) * 65_536
    )
}

fn publish(mesh: &Mesh, name: &str, wat: &str, settings: &str) {
    let toml = format!("name = \"{name}\"\ncode = \"f.wat\"\n{settings}\n[scale]\nidle = \"1h\"\n");
    mesh.file(&format!("{name}/f.wat"), wat.as_bytes());
    let file = mesh.file(&format!("{name}/function.toml"), toml.as_bytes());
    mesh.skein(0, &["publish", file.trim_end_matches("/function.toml")]).ok();
}

/// The functions of the test, and what each answers to `x`.
fn publish_all(mesh: &Mesh) -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for i in 0..SMALL {
        all.push((format!("small{i}"), echo_variant(i), "", "x"));
    }
    for i in 0..KEEPERS {
        let settings = "entry = \"handle\"\ninstance = \"reuse\"\n[limits]\ndeadline = \"20s\"";
        all.push((format!("keeper{i}"), grower(KEPT_PAGES, i), settings, "done"));
    }
    // 40 MiB for the time of a call, several at a time.
    let settings = "entry = \"handle\"\n[limits]\ndeadline = \"20s\"";
    all.push(("wide".to_owned(), grower(640, 0), settings, "done"));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, wat, settings, _)) = all.get(next.fetch_add(1, Relaxed)) {
                    publish(mesh, name, wat, settings);
                }
            });
        }
    });
    all.into_iter().map(|(name, _, _, answer)| (name, answer)).collect()
}

fn call(mesh: &Mesh, name: &str) -> Answer {
    mesh.gateway(0).post(&format!("/fn/default/{name}"), "x")
}

/// Whether it was answered right; otherwise it was refused for want of memory, and says when to come back.
fn is_answered(answer: &Answer, expected: &str) -> bool {
    if answer.status == 200 {
        assert_eq!(answer.text(), expected);
        return true;
    }
    let problem = answer.json();
    assert_eq!(problem["code"], "overloaded", "{problem}");
    assert!(answer.header("retry-after").is_some(), "{problem}");
    false
}

/// A field of the process's status, in bytes.
fn process(mesh: &Mesh, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mesh.nodes[0].pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
}

/// The sum of a metric's series.
fn metric(mesh: &Mesh, start: &str) -> f64 {
    let text = mesh.admin(0).get("/metrics").text();
    let values = text.lines().filter(|line| line.starts_with(start)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[test]
fn a_node_stays_within_its_memory_and_answers_or_says_when_to_come_back() {
    let mesh = Mesh::found_with(SKEIN, &["--memory", "256MiB"]);
    let functions = publish_all(&mesh);
    let (answered, refused, next) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= 4 * functions.len() {
                        break;
                    }
                    // Every fourth call is of the one with a large memory.
                    let at = if i % 4 == 0 { functions.len() - 1 } else { i * 7 % functions.len() };
                    let (name, expected) = &functions[at];
                    let count = if is_answered(&call(&mesh, name), expected) { &answered } else { &refused };
                    count.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let (most, evictions) =
        (process(&mesh, "VmHWM:"), metric(&mesh, "skein_runtime_evictions_total{reason=\"memory\"}"));
    println!(
        "at most {} of {} MiB resident; {} answered, {} refused; {evictions} evictions",
        most / MIB,
        BUDGET / MIB,
        answered.load(Relaxed),
        refused.load(Relaxed)
    );
    assert!(most < BUDGET, "{most} bytes were resident");
    assert!(answered.load(Relaxed) > 2 * refused.load(Relaxed), "{refused:?} refused, {answered:?} answered");
    assert!(metric(&mesh, "skein_runtime_instances_trimmed_total") > 0.0);
    let shown = mesh.skein(0, &["nodes", "--json"]).ok().json();
    assert_eq!(shown["nodes"][0]["load"]["memory_budget_mib"], BUDGET / MIB);
    // Whoever was evicted answers again.
    for (name, expected) in &functions {
        until("an answer", || is_answered(&call(&mesh, name), expected).then_some(()));
    }
    assert!(process(&mesh, "VmHWM:") < BUDGET);
}

#[test]
fn a_guest_that_wants_more_than_the_node_has_fails_alone() {
    let mesh = Mesh::found_with(SKEIN, &["--memory", "256MiB"]);
    publish(&mesh, "small", &echo_variant(0), "");
    let settings = "entry = \"handle\"\n[limits]\nmemory = \"2GiB\"\ndeadline = \"20s\"";
    publish(&mesh, "greedy", &grower(8_000, 0), settings);
    for _ in 0..3 {
        let greedy = call(&mesh, "greedy").problem(429, "overloaded");
        assert_eq!(greedy.json()["progress"], "maybe-executed", "{}", greedy.text());
        assert_eq!(call(&mesh, "small").text(), "x");
    }
    assert!(process(&mesh, "VmHWM:") < BUDGET);
}

#[test]
fn as_many_instances_as_are_to_be_warm_are_kept_in_the_whole_mesh_whoever_leaves() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.file("ready/f.wat", echo_variant(1).as_bytes());
    let file =
        mesh.file("ready/function.toml", b"name = \"ready\"\ncode = \"f.wat\"\n[scale]\nwarm = 2\nidle = \"1s\"\n");
    mesh.skein(0, &["publish", file.trim_end_matches("/function.toml")]).ok();
    let holders = |mesh: &mut Mesh| -> Vec<usize> {
        let running: Vec<_> = (0..3).filter(|i| mesh.nodes[*i].is_running()).collect();
        let has = |i: usize| mesh.try_status(i).is_some_and(|status| status["activations"][0]["state"] == "ready");
        running.into_iter().filter(|i| has(*i)).collect()
    };
    let kept = until("two nodes that keep it", || Some(holders(&mut mesh)).filter(|holders| holders.len() == 2));
    let reply = mesh.gateway(kept[0]).post("/fn/default/ready", "x");
    assert_eq!((reply.text().as_str(), reply.header("skein-start")), ("x", Some("warm")));
    mesh.nodes[kept[1]].kill();
    until("another in the place of the one that is gone", || {
        Some(holders(&mut mesh)).filter(|holders| holders.len() == 2 && *holders != kept)
    });
}
