//! Published code stays on enough members, whoever comes and goes, and no alias moves onto code that nobody has.

use std::fs;

use skein_harness::{ECHO, Mesh, echo_variant, until};

use crate::SKEIN;

/// How many nodes keep each artifact.
fn copies(mesh: &Mesh, nodes: &[usize]) -> Vec<usize> {
    let kept = |i: &usize| {
        let shards = fs::read_dir(mesh.nodes[*i].data.join("artifacts")).unwrap().flatten();
        let files = shards.filter(|shard| shard.file_name() != "tmp").flat_map(|shard| fs::read_dir(shard.path()));
        files.flatten().flatten().map(|file| file.file_name()).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = nodes.iter().flat_map(kept).collect();
    all.sort();
    all.chunk_by(|a, b| a == b).map(<[_]>::len).collect()
}

/// Two versions of `echo`, published while the mesh is one node, so that the first has one copy from its first day.
fn two_versions_on_one_node() -> Mesh {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.publish_wat(0, "echo", &echo_variant(2)).ok();
    mesh
}

#[test]
fn a_machine_is_replaced_and_a_rollback_finds_its_code() {
    let mut mesh = two_versions_on_one_node();
    mesh.join();
    mesh.join();
    mesh.join();
    mesh.settle();
    mesh.skein(1, &["node", "drain", "n1"]).ok();
    assert_eq!(copies(&mesh, &[1, 2, 3]), [3, 3], "the drain did not wait for copies");
    mesh.skein(1, &["node", "remove", "n1"]).ok();
    mesh.nodes[0].wait();
    mesh.skein(2, &["rollback", "echo"]).ok();
    for i in 1..4 {
        assert_eq!(mesh.skein(i, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
    }
}

#[test]
fn copies_are_made_for_members_that_join() {
    let mut mesh = two_versions_on_one_node();
    mesh.join();
    mesh.join();
    mesh.settle();
    until("three copies of each", || (copies(&mesh, &[0, 1, 2]) == [3, 3]).then_some(()));
}

#[test]
fn a_node_that_alone_has_some_code_is_not_removed_by_accident() {
    let mut mesh = two_versions_on_one_node();
    for _ in 1..4 {
        mesh.join();
    }
    mesh.settle();
    // The disks of the others lose what they have, and take nothing more.
    for i in 1..4 {
        block_artifacts(&mesh, i);
    }
    mesh.nodes[0].kill();
    for i in 1..4 {
        lose_artifacts(&mesh, i);
    }
    let refused = mesh.skein(1, &["node", "remove", "n1"]).failed(1, "conflict");
    assert!(refused.stderr.contains("default/echo@") && refused.stderr.contains("--force"), "{}", refused.stderr);
    mesh.skein(1, &["node", "remove", "n1", "--force"]).ok();
    mesh.skein(1, &["rollback", "echo"]).failed(1, "artifact-unavailable");
    let shown = mesh.skein(1, &["function", "show", "echo", "--json"]).ok().json();
    assert!(shown.to_string().contains("\"version\":2"), "the alias stays where it was: {shown}");
    let status = until("a warning that names the code", || {
        let status = mesh.skein(1, &["status"]).ok().text();
        status.contains("no node that answers has").then_some(status)
    });
    assert!(status.contains("default/echo@1") && status.contains("publish the same files again"), "{status}");
}

#[test]
fn a_publish_that_only_one_disk_takes_is_refused() {
    let mesh = Mesh::start(SKEIN, 3);
    block_artifacts(&mesh, 1);
    block_artifacts(&mesh, 2);
    let refused = mesh.publish_wat(0, "echo", ECHO).failed(1, "unavailable");
    assert!(refused.stderr.contains("n2") && refused.stderr.contains("n3"), "{}", refused.stderr);
    mesh.skein(0, &["versions", "echo"]).failed(1, "function-not-found");
    fs::remove_file(mesh.nodes[2].data.join("artifacts/tmp")).unwrap();
    fs::create_dir(mesh.nodes[2].data.join("artifacts/tmp")).unwrap();
    let told = mesh.publish_wat(0, "echo", ECHO).ok();
    assert!(told.stderr.contains("1 more node(s) should keep the code"), "{}", told.stderr);
    assert_eq!(copies(&mesh, &[0, 1, 2]), [2]);
}

#[test]
fn draining_the_only_node_of_an_app_is_refused_unless_forced() {
    let mesh = Mesh::start(SKEIN, 3);
    mesh.skein(0, &["app", "create", "shop"]).ok();
    mesh.publish_wat(0, "shop/echo", ECHO).ok();
    mesh.skein(0, &["app", "bind", "shop", "--node", "n3"]).ok();
    let refused = mesh.skein(0, &["node", "drain", "n3"]).failed(1, "conflict");
    assert!(refused.stderr.contains("shop") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(mesh.skein(0, &["invoke", "shop/echo", "-d", "x"]).ok().text(), "x");
    mesh.skein(0, &["node", "drain", "n3", "--force"]).ok();
    until("calls are refused", || (mesh.skein(0, &["invoke", "shop/echo", "-d", "x"]).code != 0).then_some(()));
}

/// The node loses all artifacts that it has.
fn lose_artifacts(mesh: &Mesh, i: usize) {
    for shard in fs::read_dir(mesh.nodes[i].data.join("artifacts")).unwrap().flatten() {
        if shard.path().is_dir() {
            fs::remove_dir_all(shard.path()).unwrap();
        }
    }
}

/// From now on the node can keep no further artifact.
fn block_artifacts(mesh: &Mesh, i: usize) {
    let tmp = mesh.nodes[i].data.join("artifacts/tmp");
    fs::remove_dir_all(&tmp).unwrap();
    fs::write(tmp, b"in the way").unwrap();
}
