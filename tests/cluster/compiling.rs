//! Compiling as an operator sees it: large modules are served at once and get better, in processes that come and go.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tokio::time::Instant;

use skein_harness::{ECHO, Mesh, until};

use crate::SKEIN;

/// An echo with so many functions that the optimising compiler takes seconds for it.
fn large_echo() -> String {
    let turn = "(local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 31)) (local.get 0)))
                (if (i32.and (local.get 1) (i32.const 4)) (then (local.set 0 (i32.rotl (local.get 0) (local.get 1)))))\n";
    let function = format!("(func (param i32) (result i32) (local i32) {} (local.get 1))\n", turn.repeat(100));
    ECHO.replacen("(func (export \"_start\")", &format!("{} (func (export \"_start\")", function.repeat(400)), 1)
}

/// The compiler's processes of a node.
fn workers(node: u32) -> Vec<u32> {
    let is_worker = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{node}\n")) && command.contains("compile-worker")
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(is_worker).collect()
}

fn is_there(pid: u32) -> bool {
    // One that has ended and that nobody has asked about yet does not count.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// What a metric says, over all lines that begin so.
fn metric(mesh: &Mesh, begins: &str) -> f64 {
    let text = mesh.admin(0).with_key(None).get("/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with(begins));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

const BASELINE: &str = "skein_engine_compilations_total{tier=\"baseline\",outcome=\"ok\"}";
const OPTIMISED: &str = "skein_engine_compilations_total{tier=\"optimised\",outcome=\"ok\"}";
const SWAPS: &str = "skein_engine_tier_swaps_total";

#[test]
fn a_large_module_is_served_at_once_and_optimised_while_it_serves() {
    let mesh = Mesh::found(SKEIN);
    let file = mesh.file("large.wat", large_echo().as_bytes());
    let begin = Instant::now();
    mesh.skein(0, &["publish", &file, "--as", "large"]).ok();
    eprintln!("published after {:.2?}", begin.elapsed());
    assert_eq!((metric(&mesh, BASELINE), metric(&mesh, OPTIMISED)), (1.0, 0.0), "the baseline code came first");
    let answers = || mesh.skein_with(0, &["invoke", "large", "-"], b"hello").ok().stdout == b"hello";
    assert!(answers());
    until("optimised code is swapped in", || (metric(&mesh, SWAPS) == 1.0).then_some(()));
    eprintln!("optimised after {:.2?}", begin.elapsed());
    assert_eq!(metric(&mesh, OPTIMISED), 1.0);
    assert!(answers());
}

#[test]
fn a_compilers_process_that_is_killed_is_started_again() {
    let mesh = Mesh::found(SKEIN);
    let file = mesh.file("large.wat", large_echo().as_bytes());
    mesh.skein(0, &["publish", &file, "--as", "large"]).ok();
    let worker = until("the optimising compiler runs", || workers(mesh.nodes[0].pid()).pop());
    kill(worker);
    until("the optimised code is there all the same", || (metric(&mesh, OPTIMISED) == 1.0).then_some(()));
    assert_eq!(mesh.skein_with(0, &["invoke", "large", "-"], b"hello").ok().stdout, b"hello");
    assert!(workers(mesh.nodes[0].pid()).is_empty());
}

#[test]
fn a_node_that_leaves_or_dies_takes_its_compiler_along_and_goes_on_later() {
    let mut mesh = Mesh::found(SKEIN);
    let file = mesh.file("large.wat", large_echo().as_bytes());
    mesh.skein(0, &["publish", &file, "--as", "large"]).ok();
    let worker = until("the optimising compiler runs", || workers(mesh.nodes[0].pid()).pop());
    assert!(mesh.nodes[0].terminate().success());
    assert!(!is_there(worker), "it ended before the node did");

    mesh.nodes[0].restart();
    let worker = until("the compiler goes on", || workers(mesh.nodes[0].pid()).pop());
    mesh.nodes[0].kill();
    until("it is killed with the node", || (!is_there(worker)).then_some(()));

    mesh.nodes[0].restart();
    until("the optimised code is there", || (metric(&mesh, OPTIMISED) == 1.0).then_some(()));
    assert_eq!(mesh.skein_with(0, &["invoke", "large", "-"], b"hello").ok().stdout, b"hello");
}

#[test]
fn a_compilers_process_has_no_use_for_users() {
    assert!(Path::new(SKEIN).is_file());
    let output = Command::new(SKEIN).arg("compile-worker").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("for the engine's own use"));
    let help = Command::new(SKEIN).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("compile-worker"));
}
