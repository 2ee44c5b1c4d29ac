//! What a user gets wrong, and what the refusal says: who it is, what it asked for, what to do.

use std::fs;

use skein_harness::{ECHO, Mesh, Node, NodeOptions, Ran, until};

use crate::SKEIN;

/// `skein up` on the data of node `i`, which is to end by itself.
fn up(mesh: &Mesh, i: usize, args: &[&str]) -> Ran {
    mesh.skein_bare(&[&["up", "--data", mesh.nodes[i].data.to_str().unwrap()], args].concat())
}

#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        assert!(ran.stderr.contains(part), "no `{part}` in: {}", ran.stderr);
    }
}

#[test]
fn a_node_that_comes_back_keeps_its_name_and_role_and_needs_no_token() {
    let mut mesh = Mesh::found(SKEIN);
    let token = mesh.skein(0, &["token", "create", "--role", "worker"]).ok().text();
    // A wish that the token does not grant is refused, and not passed over.
    let late = mesh.home().join("late");
    let flags = ["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--token", &token];
    let asked = [&["up", "--data", late.to_str().unwrap(), "--role", "voter"], &flags[..]].concat();
    says(&mesh.skein_bare(&asked).failed(1, "conflict"), &["`worker`", "leave `--role` out"]);
    let options = NodeOptions { args: vec!["--token".into(), token], ..NodeOptions::default() };
    mesh.nodes.push(Node::start(mesh.binary(), mesh.home(), "n2", options));
    let config = mesh.skein(1, &["config", "--json"]).ok().json();
    assert_eq!(config["role"]["value"], "worker", "{config}");

    assert!(mesh.nodes[1].terminate().success());
    let settings = mesh.nodes[1].data.join("node.toml");
    let remembered = fs::read_to_string(&settings).unwrap();
    let refused = up(&mesh, 1, &["--name", "other", "--memory", "256MiB", "--label", "zone=b"]).failed(1, "conflict");
    says(&refused, &["--name is `other`", "`n2`", "node remove n2"]);
    says(&up(&mesh, 1, &["--role", "voter"]).failed(1, "conflict"), &["--role is `voter`", "`worker`"]);
    let file = mesh.file("config.toml", b"name = 'other'");
    says(&up(&mesh, 1, &["--config", &file]).failed(1, "conflict"), &["`name` in the configuration file"]);
    assert_eq!(fs::read_to_string(&settings).unwrap(), remembered, "what was refused is not written down");

    // What an earlier release wrote down for it does not count either.
    fs::write(&settings, remembered.replace("n2", "other")).unwrap();
    mesh.nodes[1].restart_with(&["--name", "n2", "--role", "worker", "--token", "skein1.damaged"]);
    assert!(mesh.nodes[1].log().contains("the token is not needed"), "{}", mesh.nodes[1].log());
    assert_eq!(fs::read_to_string(&settings).unwrap(), remembered);
}

#[test]
fn settings_and_paths_that_no_node_can_use_are_told_by_name() {
    let mut mesh = Mesh::found(SKEIN);
    mesh.nodes[0].kill();
    says(&up(&mesh, 0, &["--memory", "1"]).failed(2, "bad-request"), &["at least 128.0 MiB", "`--memory 512MiB`"]);
    let file = mesh.file("config.toml", b"lame_duck = '30s'");
    says(&up(&mesh, 0, &["--config", &file]).failed(2, "bad-request"), &["lame_duck is 30s", "at most 10s"]);
    says(&mesh.skein_bare(&["up", "--data", &file]).failed(2, "bad-request"), &["--data takes a directory", &file]);
    let missing = up(&mesh, 0, &["--config", "/nonexistent/skein.toml"]).failed(1, "not-found");
    says(&missing, &["/nonexistent/skein.toml", "or the path of the file"]);
    let wrong = mesh.skein_bare(&["token", "create", "--ttl", "30d"]);
    assert_eq!(wrong.code, 2);
    says(&wrong, &["--ttl", "at most 7days"]);
    mesh.nodes[0].restart();
}

#[test]
fn removing_a_node_says_what_is_missing_and_what_it_costs() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.skein_bare(&["context", "use", "n3"]).ok();
    let removed = mesh.skein_bare(&["node", "remove", "n3"]).ok();
    says(&removed, &["was n3's own and is no longer good", "skein context use n1"]);
    mesh.nodes[2].wait();
    mesh.nodes.pop();
    let (leader, other) = (mesh.leader(), 1 - mesh.leader());
    until("only one votes", || {
        let voters = mesh.try_status(other)?["consensus"]["voters"].as_array()?.len();
        (voters == 1).then_some(())
    });
    mesh.nodes[leader].kill();
    let name = mesh.nodes[leader].name.clone();
    until("the voter is missed", || {
        let warnings = mesh.try_status(other)?["warnings"].to_string();
        (warnings.contains("no majority") && warnings.contains(&format!("{name} is down"))).then_some(())
    });
    let refused = mesh.skein(other, &["node", "drain", &mesh.nodes[other].name]).failed(3, "no-quorum");
    assert!(!refused.stderr.contains("force"), "{}", refused.stderr);
    let refused = mesh.skein(other, &["node", "remove", &name]).failed(3, "no-quorum");
    says(&refused, &[&format!("start {name} first")]);
    mesh.nodes[leader].restart();
    mesh.skein(leader, &["node", "remove", &mesh.nodes[other].name]).ok();
    let refused = mesh.skein(leader, &["node", "remove", &name]).failed(1, "conflict");
    says(&refused, &["the only node of the mesh"]);
    assert!(!refused.stderr.contains("force"), "{}", refused.stderr);
    let key = mesh.nodes[leader].key();
    mesh.skein(leader, &["key", "create", "--role", "admin"]).ok();
    let revoked = mesh.skein(leader, &["key", "revoke", key.split('_').nth(1).unwrap()]).ok();
    says(&revoked, &["is the one that was revoked", "--context FILE"]);
}
