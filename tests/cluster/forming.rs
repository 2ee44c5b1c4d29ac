//! Nodes form a mesh; what is published on one is called from any.

use skein_harness::{ECHO, Mesh, Node, NodeOptions};

use crate::SKEIN;

/// Publishes on one node, calls through every node by the command line and by HTTP.
fn publish_once_call_anywhere(mesh: &Mesh, publisher: usize) {
    let published = mesh.publish_wat(publisher, "echo", ECHO).ok().text();
    assert!(published.starts_with("default/echo@1 sha256:") && published.contains(" index="), "{published}");
    for i in 0..mesh.nodes.len() {
        assert_eq!(mesh.skein(i, &["invoke", "echo", "-d", "hello"]).ok().text(), "hello", "at node {i}");
        let answer = mesh.gateway(i).post("/fn/default/echo", "hello");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "at node {i}");
        assert_eq!(answer.header("skein-version"), Some("1"));
        assert!(["cold", "warm"].contains(&answer.header("skein-start").unwrap_or_default()), "{answer:?}");
        for name in ["skein-invocation", "skein-node", "server-timing", "traceparent"] {
            assert!(answer.header(name).is_some(), "no {name}: {answer:?}");
        }
    }
}

#[test]
fn one_node_is_a_complete_platform() {
    let mesh = Mesh::start(SKEIN, 1);
    publish_once_call_anywhere(&mesh, 0);
}

#[test]
fn three_nodes_serve_what_any_of_them_published() {
    let mesh = Mesh::start(SKEIN, 3);
    publish_once_call_anywhere(&mesh, 2);
}

#[test]
fn five_nodes_have_five_voters_and_a_sixth_follows() {
    let mut mesh = Mesh::start(SKEIN, 5);
    mesh.join();
    mesh.settle();
    publish_once_call_anywhere(&mesh, 5);
    let status = mesh.try_status(5).unwrap();
    assert_eq!(status["consensus"]["voters"].as_array().unwrap().len(), 5, "{status}");
    assert_eq!(status["consensus"]["learners"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn a_worker_serves_and_never_votes() {
    let mut mesh = Mesh::start(SKEIN, 1);
    for _ in 0..2 {
        mesh.join_with(&["--role", "worker"]);
    }
    publish_once_call_anywhere(&mesh, 2);
    let status = mesh.try_status(0).unwrap();
    assert_eq!(status["consensus"]["voters"].as_array().unwrap().len(), 1, "{status}");
    // A worker has no CA: what it is asked to let in, it passes on.
    let token = mesh.skein(1, &["token", "create"]).ok().text();
    let worker = mesh.nodes[1].mesh().to_owned();
    let args = vec!["--token".to_owned(), token, "--join".to_owned(), worker];
    let late = Node::start(mesh.binary(), mesh.home(), "late", NodeOptions { args, ..NodeOptions::default() });
    assert!(late.context().exists());
    assert!(
        !late.data.join("identity/authority.pem").exists()
            || !mesh.nodes[1].data.join("identity/authority.pem").exists()
    );
}

#[test]
fn large_payloads_cross_the_mesh() {
    let mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let payload: Vec<u8> = (0..5 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for i in 0..3 {
        let answer = mesh.gateway(i).post("/fn/default/echo", payload.clone());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == payload, "what came back differs");
        let ran = mesh.skein_with(i, &["invoke", "echo", "-"], &payload).ok();
        assert!(ran.stdout == payload, "what came back differs");
    }
}
