//! Nodes come back at other addresses, alone and all at once: members are found by who they are, not by where they were.

use std::{net::UdpSocket, thread, time::SystemTime};

use skein_harness::{ECHO, Mesh, until};

use crate::SKEIN;

/// Any other ports.
const ELSEWHERE: [&str; 6] = ["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// A port that is free now.
fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

/// Kills all nodes and starts them at other ports at once; all but the first are told where that one is.
fn all_move_at_once(size: usize) {
    let mut mesh = Mesh::start(SKEIN, size);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let before: Vec<String> = mesh.nodes.iter().map(|node| node.mesh().to_owned()).collect();
    mesh.nodes.iter_mut().for_each(skein_harness::Node::kill);
    let first = free_address();
    let started = SystemTime::now();
    thread::scope(|scope| {
        for (i, node) in mesh.nodes.iter_mut().enumerate() {
            let mut args = ELSEWHERE.to_vec();
            match i {
                0 => args[1] = &first,
                _ => args.extend(["--join", &first]),
            }
            scope.spawn(move || node.restart_with(&args));
        }
    });
    let ready = started.elapsed().unwrap();
    until("a write", || (mesh.skein(0, &["app", "create", "moved"]).code == 0).then_some(()));
    println!("{size} nodes: all ready after {ready:?}, a write after {:?}", started.elapsed().unwrap());
    mesh.settle();
    for (i, before) in before.iter().enumerate() {
        assert_ne!(mesh.nodes[i].mesh(), before, "the port happens to be the same");
        assert_eq!(mesh.skein(i, &["invoke", "echo", "-d", "x"]).ok().text(), "x", "by the context of node {i}");
        // The catalogue follows, and with it every context.
        until("each context names each node's new address", || {
            let context = std::fs::read_to_string(mesh.nodes[i].context()).unwrap();
            mesh.nodes.iter().all(|node| context.contains(node.mesh()) && context.contains(node.admin())).then_some(())
        });
    }
}

#[test]
fn three_nodes_that_all_moved_find_each_other_by_one_hint() {
    all_move_at_once(3);
}

#[test]
fn five_nodes_that_all_moved_find_each_other_by_one_hint() {
    all_move_at_once(5);
}

#[test]
fn the_leader_that_was_killed_and_comes_back_elsewhere_is_found() {
    let mut mesh = Mesh::start(SKEIN, 3);
    let leader = mesh.leader();
    mesh.nodes[leader].kill();
    mesh.nodes[leader].restart_with(&ELSEWHERE);
    mesh.settle();
    // It counts: without a third one, these two are the majority.
    mesh.nodes[(leader + 1) % 3].kill();
    until("a write", || (mesh.skein(leader, &["app", "create", "found"]).code == 0).then_some(()));
}

#[test]
fn two_nodes_that_moved_find_the_third_where_it_was_without_a_hint() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.nodes[1].kill();
    mesh.nodes[2].kill();
    mesh.nodes[1].restart_with(&ELSEWHERE);
    mesh.nodes[2].restart_with(&ELSEWHERE);
    mesh.settle();
    mesh.skein(0, &["app", "create", "found"]).ok();
}

#[test]
fn addresses_may_be_host_names() {
    let mut mesh = Mesh::found(SKEIN);
    mesh.nodes[0].terminate();
    mesh.nodes[0].restart_with(&["--mesh", "localhost:0", "--http", "localhost:0", "--admin", "localhost:0"]);
    until("the catalogue has the names", || {
        let status = mesh.try_status(0)?;
        status["nodes"][0]["addresses"]["mesh"].as_str()?.starts_with("localhost:").then_some(())
    });
    let port = mesh.nodes[0].mesh().rsplit_once(':').unwrap().1.to_owned();
    // By a name on the command line, and by the names that the token carries.
    mesh.join_with(&["--join", &format!("localhost:{port}")]);
    mesh.join();
    mesh.settle();
    mesh.publish_wat(2, "echo", ECHO).ok();
    for i in 0..3 {
        assert_eq!(mesh.skein(i, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
    }
    let wrong = mesh.skein_bare(&["up", "--mesh", "127.0.0.1"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("HOST:PORT"), "{}", wrong.stderr);
}
