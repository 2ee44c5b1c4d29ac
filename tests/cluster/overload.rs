//! Five times more calls than a node can run: it goes on running as many as it can, and says no to the rest at once.
//!
//! `SKEIN_OVERLOAD_SECONDS` makes it longer; a minute is what is promised.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use skein_harness::{Load, LoadReport, Mesh, Running};

use crate::SKEIN;

/// Waits for 50 ms, and returns nothing: how many run at a time decides how many run a second, not the machine.
const PAUSE: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 50000000))
    (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))))"#;
const TOML: &str = "name = 'pause'\ncode = 'pause.wat'\n[limits]\nconcurrency = 8\n";
/// Eight at a time, of 50 ms each.
const CAPACITY: u32 = 160;

fn load(mesh: &Mesh, rate: u32) -> Running {
    let node = &mesh.nodes[0];
    let (gateways, key) = (vec![node.http().to_owned()], node.key());
    Load { gateways, key, path: "/fn/default/pause".into(), body: String::new(), rate }.start()
}

fn run(mesh: &Mesh, rate: u32, time: Duration) -> LoadReport {
    let running = load(mesh, rate);
    running.run_for(time);
    running.stop()
}

fn rate_of(report: &LoadReport, time: Duration) -> f64 {
    report.succeeded as f64 / time.as_secs_f64()
}

fn resident_mib(mesh: &Mesh) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mesh.nodes[0].pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn a_node_that_is_asked_for_five_times_too_much_still_does_what_it_can() {
    let seconds = std::env::var("SKEIN_OVERLOAD_SECONDS").map_or(8, |text| text.parse().unwrap());
    let (short, long) = (Duration::from_secs(4), Duration::from_secs(seconds));
    let mesh = Mesh::start(SKEIN, 1);
    mesh.file("pause/pause.wat", PAUSE.as_bytes());
    let manifest = mesh.file("pause/function.toml", TOML.as_bytes());
    mesh.skein(0, &["publish", manifest.trim_end_matches("/function.toml")]).ok();

    let peak = rate_of(&run(&mesh, CAPACITY, short), short);
    let before = resident_mib(&mesh);
    let flood = run(&mesh, 5 * CAPACITY, long);
    let (goodput, after) = (rate_of(&flood, long), resident_mib(&mesh));
    let over = SystemTime::now();

    let sent = flood.samples.len() as u64;
    let refused = sent - flood.succeeded;
    assert!(refused > sent / 2, "only {refused} of {sent} calls were refused: that was no overload");
    let unclear = flood.failed.keys().find(|answer| {
        !(answer.starts_with("429: ") && answer.contains("\"overloaded\"") && answer.contains("retry_after_ms"))
    });
    assert_eq!(unclear, None, "each refusal says that the node is overloaded, and when to come back");
    let silent = flood.samples.iter().filter(|one| one.failure.is_some() && one.retry_after_s.is_none()).count();
    assert_eq!(silent, 0, "each refusal has a `Retry-After`");
    assert!(goodput >= 0.8 * peak, "{goodput:.0} calls a second under {sent} in {seconds} s, {peak:.0} at the peak");
    assert!(after < before + 200, "{after} MiB after, {before} MiB before");

    let calm = load(&mesh, CAPACITY / 2);
    calm.run_for(Duration::from_secs(8));
    let since = calm.stop().since(over + Duration::from_secs(5));
    assert!(since.succeeded > 100, "{since:?}");
    assert!(since.failed.is_empty(), "{:?}", since.failed);

    let mut refusals: Vec<_> =
        flood.samples.iter().filter(|sample| sample.failure.is_some()).map(|sample| sample.took).collect();
    refusals.sort();
    let p99 = refusals[refusals.len() * 99 / 100];
    println!("peak {peak:.0}/s; {sent} calls in {seconds} s: {goodput:.0}/s ran, {refused} were refused, p99 {p99:?}");
    println!("{before} MiB before, {after} MiB after");
}
