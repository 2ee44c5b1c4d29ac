//! What is needed only to report, or for others' convenience, never stops the work: logs that cannot be written or that
//! nobody reads, connections that take all descriptors.

use std::net::TcpStream;

use skein_harness::{ECHO, Log, Mesh, until};

use crate::SKEIN;

/// Restarts the nodes of a mesh of three with their logs going there.
fn mesh_with_logs(log: Log, nodes: &[usize]) -> Mesh {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    for i in nodes {
        assert!(mesh.nodes[*i].terminate().success());
        mesh.nodes[*i].log_to(log);
        mesh.nodes[*i].restart();
        mesh.settle();
    }
    mesh
}

/// A leader is killed, so that the others have much to log, and then everything is asked of one of them.
fn the_others_go_on(mut mesh: Mesh) {
    let leader = mesh.leader();
    mesh.nodes[leader].kill();
    let asked = (leader + 1) % 3;
    until("a new leader", || {
        let status = mesh.try_status(asked)?;
        (status["consensus"]["has_quorum"] == true).then_some(())
    });
    for round in 0..3 {
        mesh.publish_wat(asked, &format!("after-{round}"), ECHO).ok();
    }
    assert_eq!(mesh.admin(asked).get("/healthz").status, 200);
    assert_eq!(mesh.gateway(asked).post("/fn/default/echo", "x").text(), "x");
    mesh.nodes[leader].restart();
    mesh.settle();
    for node in &mut mesh.nodes {
        assert!(node.terminate().success(), "{} does not leave in order", node.name);
    }
}

#[test]
fn nodes_whose_log_readers_are_gone_go_on_and_leave_in_order() {
    the_others_go_on(mesh_with_logs(Log::Gone, &[0, 1, 2]));
}

#[test]
fn nodes_whose_logs_are_on_a_full_device_go_on_and_say_how_many_lines_are_lost() {
    let mesh = mesh_with_logs(Log::Full, &[1]);
    until("the lost lines in the metrics", || {
        let metrics = mesh.admin(1).get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("skein_log_lines_dropped_total"))?.to_owned();
        (!line.ends_with(" 0")).then_some(())
    });
    the_others_go_on(mesh);
}

#[test]
fn a_node_whose_log_nobody_reads_goes_on() {
    let mut mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    assert!(mesh.nodes[0].terminate().success());
    mesh.nodes[0].log_to(Log::Unread);
    mesh.nodes[0].set_env("SKEIN_LOG", "trace");
    mesh.nodes[0].restart();
    // Far more than a pipe takes.
    for _ in 0..500 {
        assert_eq!(mesh.gateway(0).post("/fn/default/echo", "x").text(), "x");
    }
    assert!(mesh.nodes[0].terminate().success());
}

#[test]
fn connections_that_take_all_they_can_leave_the_consensus_what_it_needs() {
    /// Enough for a node, and few enough to be used up by a test.
    const FILES: u32 = 200;
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    for i in 0..3 {
        assert!(mesh.nodes[i].terminate().success());
        mesh.nodes[i].limit_files(FILES);
        mesh.nodes[i].restart();
        mesh.settle();
    }
    let leader = mesh.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    // The kernel takes those that the node does not: all are open as far as the clients know.
    let address = |i: usize| mesh.nodes[i].http().to_owned();
    let held: Vec<TcpStream> = others
        .iter()
        .flat_map(|i| (0..FILES).map(|_| TcpStream::connect(address(*i))).collect::<Vec<_>>())
        .map(|stream| stream.expect("a connection"))
        .collect();
    mesh.nodes[leader].kill();
    // A new leader needs votes that are saved; a publish needs artifacts, compilers and the log.
    until("a publish without the old leader", || (mesh.publish_wat(others[0], "after", ECHO).code == 0).then_some(()));
    assert_eq!(mesh.admin(others[1]).get("/healthz").status, 200);
    drop(held);
    until("calls through the gateway again", || {
        (mesh.gateway(others[0]).post("/fn/default/after", "x").status == 200).then_some(())
    });
    mesh.nodes[leader].restart();
    mesh.settle();
}
