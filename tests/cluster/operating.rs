//! What an operator does: start, stop, drain, restart, look.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use skein_harness::{ECHO, Ledger, Load, Mesh, Node, NodeOptions, until};

use crate::{SKEIN, outward};

#[test]
fn a_restart_needs_no_flag() {
    let mut mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let before = [mesh.nodes[0].mesh().to_owned(), mesh.nodes[0].http().to_owned(), mesh.nodes[0].admin().to_owned()];
    assert!(mesh.nodes[0].terminate().success());
    mesh.nodes[0].restart();
    let after = [mesh.nodes[0].mesh().to_owned(), mesh.nodes[0].http().to_owned(), mesh.nodes[0].admin().to_owned()];
    assert_eq!(before, after);
    assert_eq!(mesh.skein(0, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
}

#[test]
fn sigterm_under_load_fails_no_call_and_exits_zero() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let leaving = mesh.leader();
    let gateways = (0..3).filter(|i| *i != leaving).map(|i| mesh.nodes[i].http().to_owned()).collect();
    let key = mesh.nodes[leaving].key();
    let load = Load { gateways, key, path: "/fn/default/echo".into(), body: "x".into(), rate: 100 }.start();
    until("some calls", || (load.report().succeeded > 100).then_some(()));
    assert!(mesh.nodes[leaving].terminate().success());
    let at_exit = load.report().succeeded;
    until("calls after it left", || (load.report().succeeded > at_exit + 100).then_some(()));
    let report = load.stop();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

#[test]
fn a_drained_node_takes_no_calls_until_it_is_resumed() {
    let mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let drained = mesh.leader();
    let name = mesh.nodes[drained].name.clone();
    mesh.skein(drained, &["node", "drain", &name]).ok();
    until("the drain is known and the leadership handed over", || {
        let status = mesh.try_status((drained + 1) % 3)?;
        let nodes = status["nodes"].as_array()?.clone();
        let node = nodes.iter().find(|node| node["name"] == name.as_str())?;
        (node["is_draining"] == true && status["consensus"]["leader"] != name.as_str()).then_some(())
    });
    for _ in 0..20 {
        // The drained node's own entrance still works: the call runs elsewhere.
        let answer = mesh.gateway(drained).post("/fn/default/echo", "x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
        assert_ne!(answer.header("skein-node"), Some(name.as_str()));
    }
    assert_eq!(mesh.admin(drained).get("/readyz").status, 503);
    mesh.skein(drained, &["node", "resume", &name]).ok();
    let mut tries = 0;
    until("it takes calls again", || {
        // What is warm elsewhere may stay there; what nobody has called begins where it is called first.
        tries += 1;
        let function = format!("new-{tries}");
        mesh.publish_wat(0, &function, ECHO).ok();
        let answer = mesh.gateway(drained).post(&format!("/fn/default/{function}"), "x");
        (answer.header("skein-node") == Some(name.as_str())).then_some(())
    });
    mesh.skein(drained, &["node", "drain", "nobody"]).failed(1, "not-found");
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut mesh = Mesh::start(SKEIN, 1);
    let forever = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
    mesh.file("forever/function.toml", b"name = \"forever\"\ncode = \"forever.wat\"\n[limits]\ndeadline = \"10m\"\n");
    let file = mesh.file("forever/forever.wat", forever.as_bytes());
    mesh.skein(0, &["publish", file.trim_end_matches("/forever.wat")]).ok();
    let mut caller = Command::new(mesh.binary())
        .args(["invoke", "forever", "--deadline", "10m"])
        .env("SKEIN_CONTEXT", mesh.nodes[0].context())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the call runs", || {
        let status = mesh.try_status(0)?;
        (status["activations"][0]["in_flight"] == 1).then_some(())
    });
    mesh.nodes[0].signal(Signal::TERM);
    until("it is leaving", || mesh.nodes[0].log().contains("leaving").then_some(()));
    mesh.nodes[0].signal(Signal::TERM);
    assert_eq!(mesh.nodes[0].wait().code(), Some(130));
    caller.kill().unwrap();
    caller.wait().unwrap();
}

/// Starts a node that cannot start; its exit code and stderr.
fn fails(mesh: &Mesh, args: &[&str]) -> (i32, String) {
    let ran = Command::new(mesh.binary()).arg("up").args(args).env("XDG_CONFIG_HOME", mesh.home()).output().unwrap();
    (ran.status.code().unwrap_or(-1), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[test]
fn busy_ports_and_unusable_directories_are_named() {
    let mesh = Mesh::start(SKEIN, 1);
    let used = mesh.nodes[0].data.to_str().unwrap();
    let (code, said) = fails(&mesh, &["--data", used]);
    assert!(code == 1 && said.contains("[data-dir-in-use]") && said.contains(used), "{said}");

    let fresh = mesh.home().join("fresh");
    let fresh = fresh.to_str().unwrap();
    let flags =
        [("--mesh", mesh.nodes[0].mesh()), ("--http", mesh.nodes[0].http()), ("--admin", mesh.nodes[0].admin())];
    for (busy, address) in flags {
        let mut args = vec!["--data", fresh];
        for (flag, _) in flags {
            args.extend([flag, if flag == busy { address } else { "127.0.0.1:0" }]);
        }
        let (code, said) = fails(&mesh, &args);
        assert!(code == 1 && said.contains("[address-in-use]") && said.contains(address), "{busy}: {said}");
    }
    let newer = mesh.file("newer/FORMAT", b"99\n");
    let (code, said) = fails(&mesh, &["--data", newer.trim_end_matches("/FORMAT")]);
    assert!(code == 1 && said.contains("[data-dir-too-new]"), "{said}");
    let (code, said) = fails(&mesh, &["--data", fresh, "--mesh", "nonsense"]);
    assert!(code == 2 && said.contains("nonsense"), "{said}");
}

#[test]
fn a_corrupt_log_is_named_and_never_served() {
    let mut mesh = Mesh::start(SKEIN, 1);
    for i in 0..4 {
        mesh.publish_wat(0, &format!("f{i}"), ECHO).ok();
    }
    mesh.nodes[0].kill();
    let segment = largest_segment(&mesh.nodes[0].data.join("raft"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, bytes).unwrap();
    let (code, said) = fails(&mesh, &["--data", mesh.nodes[0].data.to_str().unwrap()]);
    assert!(code == 1 && said.contains("[corrupt-store]"), "{said}");
    assert!(said.contains(segment.file_name().unwrap().to_str().unwrap()), "{said}");
}

fn largest_segment(dir: &std::path::Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => files.push((entry.metadata().unwrap().len(), entry.path())),
            }
        }
    }
    let logs = files.into_iter().filter(|(_, path)| path.to_string_lossy().contains("log"));
    logs.max().expect("a log segment").1
}

#[test]
fn a_damaged_artifact_is_fetched_anew_from_a_peer() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.nodes[1].kill();
    let mut damaged = 0;
    let mut dirs = vec![mesh.nodes[1].data.join("artifacts")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let mut bytes = std::fs::read(entry.path()).unwrap();
                bytes[10] ^= 1;
                std::fs::write(entry.path(), bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    std::fs::remove_dir_all(mesh.nodes[1].data.join("cache")).unwrap();
    mesh.nodes[1].restart();
    mesh.settle();
    mesh.skein(1, &["node", "drain", "n1"]).ok();
    mesh.skein(1, &["node", "drain", "n3"]).ok();
    until("the only node that takes calls answers, by sound code", || {
        let answer = mesh.gateway(1).post("/fn/default/echo", "x");
        (answer.text() == "x" && answer.header("skein-node") == Some("n2")).then_some(())
    });
}

#[test]
fn every_reading_command_speaks_json_and_metrics_are_served() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    for command in [
        &["nodes", "--json"][..],
        &["status", "--json"],
        &["functions", "--json"],
        &["function", "show", "echo", "--json"],
        &["versions", "echo", "--json"],
        &["key", "ls", "--json"],
        &["config", "--json"],
        &["explain", "no-quorum", "--json"],
        &["context", "ls", "--json"],
        &["invoke", "echo", "-d", "x", "--json"],
    ] {
        mesh.skein(0, command).ok().json();
    }
    let metrics = mesh.admin(0).with_key(None).get("/metrics");
    assert_eq!(metrics.status, 200);
    for family in ["skein_runtime_", "skein_gateway_", "skein_router_", "skein_transport_"] {
        assert!(metrics.text().contains(family), "no {family} in {}", metrics.text());
    }
    assert_eq!(mesh.admin(0).with_key(None).get("/healthz").status, 200);
    assert_eq!(mesh.admin(0).with_key(None).get("/readyz").status, 200);
    let explained = mesh.skein(0, &["explain", "no-quorum"]).ok().text();
    assert!(explained.contains("What to do:"), "{explained}");
    mesh.skein(0, &["explain", "no-quorun"]).failed(1, "not-found");
    // A node started later on the same machine finds the context already chosen.
    assert!(mesh.skein_bare(&["nodes"]).ok().text().contains("n1"));
}

#[test]
fn a_full_disk_refuses_a_publish_and_leaves_the_node_whole() {
    let mesh = Mesh::start(SKEIN, 1);
    let mount = mesh.home().join("small");
    std::fs::create_dir_all(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&mount).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    let unmount = Unmount(mount.clone());
    let mut node = Node::start(
        mesh.binary(),
        mesh.home(),
        "small",
        NodeOptions { data: Some(mount.join("data")), ..NodeOptions::default() },
    );
    let context = node.context();
    let context = context.to_str().unwrap();
    let echo = mesh.file("echo.wat", ECHO.as_bytes());
    mesh.skein_bare(&["--context", context, "publish", &echo]).ok();
    std::fs::write(mount.join("filler"), vec![1_u8; 64 << 20]).unwrap_err();
    let other = mesh.file(
        "other.wat",
        ECHO.replace("64 KiB", "64 KB")
            .replace("(memory (export \"memory\") 2)", "(memory (export \"memory\") 3)")
            .as_bytes(),
    );
    mesh.skein_bare(&["--context", context, "publish", &other]).failed(1, "disk-full");
    assert_eq!(mesh.skein_bare(&["--context", context, "invoke", "echo", "-d", "x"]).ok().text(), "x");
    // Nothing that a start would write is needed to serve.
    node.kill();
    node.restart();
    assert_eq!(mesh.skein_bare(&["--context", context, "invoke", "echo", "-d", "x"]).ok().text(), "x");
    std::fs::remove_file(mount.join("filler")).unwrap();
    until("writes again, by itself", || {
        (mesh.skein_bare(&["--context", context, "publish", &other]).code == 0).then_some(())
    });
    drop(node);
    drop(unmount);
}

/// Unmounts what the test mounted.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn top_shows_what_runs_on_all_nodes() {
    let mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let gateways = (0..3).map(|i| mesh.nodes[i].http().to_owned()).collect();
    let load =
        Load { gateways, key: mesh.nodes[0].key(), path: "/fn/default/echo".into(), body: "x".into(), rate: 100 };
    let load = load.start();
    until("a page with the calls of all nodes", || {
        let shown = mesh.skein(1, &["top", "--json", "--every", "300ms"]).ok().text();
        let page: serde_json::Value = serde_json::from_str(&shown).ok()?;
        let nodes = page["nodes"].as_array()?.clone();
        let echo = page["functions"].as_array()?.iter().find(|line| line["version"] == "default/echo@1")?.clone();
        let all_answered = nodes.len() == 3 && nodes.iter().all(|node| node["has_answered"] == true);
        (all_answered && echo["calls_per_second"].as_f64()? > 50.0).then_some(())
    });
    let page = mesh.skein(2, &["top", "--once", "--every", "300ms"]).ok().text();
    assert!(page.contains("default/echo@1") && page.contains("CALLS/S") && page.contains("quorum"), "{page}");
    assert!(load.stop().failed.is_empty());
}

#[test]
fn a_node_is_resumed_while_its_drain_waits_for_a_call() {
    let ledger = Ledger::start(Duration::from_secs(40));
    let mesh = Mesh::start(SKEIN, 1);
    let grant = format!("[limits]\ndeadline = \"50s\"\n[grants]\nhttp = [\"{}\"]", ledger.origin());
    outward::publish(&mesh, "slow", &outward::fetch(), &grant);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let (gateway, request) = (mesh.gateway(0), format!("POST {}/slow\n", ledger.origin()));
    // It ends with the mesh, answered or not.
    let slow = std::thread::spawn(move || gateway.post("/fn/default/slow", request));
    until("the slow call runs", || (!ledger.entries().is_empty()).then_some(()));
    let name = mesh.nodes[0].name.clone();
    mesh.skein(0, &["node", "drain", &name, "--force"]).ok();
    let status = || mesh.gateway(0).post("/fn/default/echo", "x").status;
    until("the node takes no calls", || (status() != 200).then_some(()));
    mesh.skein(0, &["node", "resume", &name]).ok();
    until("the node takes calls again", || (status() == 200).then_some(()));
    assert!(!slow.is_finished(), "the drain had ended before: this shows nothing");
}
