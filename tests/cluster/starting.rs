//! Starts that were cut, directories that lost a part, nodes that were away: what a start finishes, refuses and waits for.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use skein_harness::{ECHO, Http, Mesh, Node, NodeOptions, Ran, until};

use crate::SKEIN;

/// `skein up` on the data of node `i`, which is to end by itself.
fn refused(mesh: &Mesh, i: usize) -> Ran {
    mesh.skein_bare(&["up", "--data", mesh.nodes[i].data.to_str().unwrap()])
}

#[test]
fn a_founding_that_is_cut_anywhere_is_finished_by_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    // What must be there when the start is cut: a file, and how much of it.
    let segment = "raft/log/0000000001.log";
    let mut cuts = vec![("FORMAT", 1), ("identity/identity.pem", 1), ("raft/log/hard-state", 1), ("identity/begun", 0)];
    cuts.extend([40, 150, 250, 350, 450, 550].map(|bytes| (segment, bytes)));
    for (i, (file, bytes)) in cuts.into_iter().enumerate() {
        let data = home.path().join(format!("cut-{i}"));
        let mut child = Command::new(SKEIN)
            .args(["up", "--name", "n1", "--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(&data)
            .env("XDG_CONFIG_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the place to cut", || fs::metadata(data.join(file)).is_ok_and(|file| file.len() >= bytes).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        let options = NodeOptions { data: Some(data), ..NodeOptions::default() };
        let node = Node::start(SKEIN.as_ref(), home.path(), "n1", options);
        let answer = Http::new(node.admin(), Some(node.key())).get("/v1/nodes");
        assert_eq!(answer.status, 200, "cut at {file} with {bytes} bytes: {}", answer.text());
        assert_eq!(answer.json()["nodes"].as_array().unwrap().len(), 1);
        assert!(!node.data.join("identity/founder").exists(), "what founds is not asked again");
    }
}

#[test]
fn a_join_that_is_repeated_under_another_name_is_the_same_node() {
    let mut mesh = Mesh::start(SKEIN, 2);
    // As if the answer had been lost: the key is there, and what it was let in as is not.
    mesh.nodes[1].kill();
    let data = mesh.nodes[1].data.clone();
    for entry in fs::read_dir(&data).unwrap().chain(fs::read_dir(data.join("identity")).unwrap()) {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "identity" | "node-key.pem" | "FORMAT" => {}
            _ if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            _ => fs::remove_file(path).unwrap(),
        }
    }
    let token = mesh.skein(0, &["token", "create"]).ok().text().trim().to_owned();
    let up = ["up", "--data", data.to_str().unwrap(), "--token", &token, "--name", "other"];
    let anywhere = ["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let ran = mesh.skein_bare(&[&up[..], &anywhere].concat()).failed(1, "conflict");
    assert!(ran.stderr.contains("`other`") && ran.stderr.contains("`n2`"), "{}", ran.stderr);
    mesh.nodes[1].restart_with(&anywhere);
    mesh.settle();
    assert_eq!(mesh.try_status(1).unwrap()["node"], "n2");
    // Its own key is found by that name.
    let key = mesh.nodes[1].key();
    until("it can be removed", || (mesh.skein(0, &["node", "remove", "n2"]).code == 0).then_some(()));
    mesh.admin(0).with_key(Some(&key)).get("/v1/nodes").problem(401, "unauthenticated");
}

#[test]
fn a_founder_starts_again_however_often() {
    let mut mesh = Mesh::start(SKEIN, 3);
    for _ in 0..5 {
        mesh.nodes[0].kill();
        mesh.nodes[0].restart();
    }
    mesh.settle();
}

#[test]
fn a_node_that_lost_its_log_does_not_start_and_says_what_to_do() {
    let mut mesh = Mesh::start(SKEIN, 3);
    for i in 0..2 {
        mesh.nodes[i].kill();
        let raft = mesh.nodes[i].data.join("raft");
        let aside = mesh.nodes[i].data.join("raft.aside");
        fs::rename(&raft, &aside).unwrap();
        let ran = refused(&mesh, i).failed(1, "corrupt-store");
        assert!(ran.stderr.contains("holds no log") && ran.stderr.contains("skein node remove"), "{}", ran.stderr);
        // Nothing was done to it: put back, it starts.
        fs::rename(&aside, &raft).unwrap();
        mesh.nodes[i].restart();
    }
    mesh.settle();
}

#[test]
fn a_node_that_lost_its_identity_does_not_become_another_one_on_its_old_log() {
    let mut mesh = Mesh::start(SKEIN, 2);
    for i in 0..2 {
        mesh.nodes[i].kill();
        let (identity, aside) = (mesh.nodes[i].data.join("identity"), mesh.nodes[i].data.join("identity.aside"));
        fs::rename(&identity, &aside).unwrap();
        let data = mesh.nodes[i].data.to_str().unwrap().to_owned();
        for args in [vec!["up", "--data", &data], vec!["up", "--data", &data, "--token", "skein1.any"]] {
            let ran = mesh.skein_bare(&args).failed(1, "corrupt-store");
            assert!(ran.stderr.contains("identity.pem") && ran.stderr.contains("skein node remove"), "{}", ran.stderr);
            assert!(!identity.exists(), "nothing is made anew");
        }
        fs::rename(&aside, &identity).unwrap();
        mesh.nodes[i].restart();
    }
    mesh.settle();
}

#[test]
fn damage_to_what_a_start_reads_first_is_told_by_the_name_of_the_file() {
    let mut mesh = Mesh::found(SKEIN);
    mesh.nodes[0].kill();
    for (file, damage) in [("node.toml", "name = \u{1}"), ("FORMAT", "one")] {
        let path = mesh.nodes[0].data.join(file);
        let sound = fs::read(&path).unwrap();
        fs::write(&path, damage).unwrap();
        let ran = refused(&mesh, 0).failed(1, "corrupt-store");
        assert!(ran.stderr.contains(file), "{}", ran.stderr);
        fs::write(&path, sound).unwrap();
    }
    fs::remove_file(mesh.nodes[0].data.join("identity/authority.pem")).unwrap();
    mesh.nodes[0].restart();
    assert!(mesh.nodes[0].log().contains("authority is not here"), "{}", mesh.nodes[0].log());
}

#[test]
fn a_node_without_its_context_file_serves_without_a_quorum_and_gets_one_later() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let key = mesh.nodes[0].key();
    mesh.nodes.iter_mut().for_each(Node::kill);
    let context = mesh.nodes[0].context();
    fs::remove_file(&context).unwrap();
    mesh.nodes[0].restart();
    let gateway = Http::new(mesh.nodes[0].http(), Some(key));
    assert_eq!(gateway.post("/fn/default/echo", "alone").text(), "alone");
    assert!(!context.exists());
    mesh.nodes[1].restart();
    until("a context file", || context.exists().then_some(()));
    mesh.skein(0, &["nodes"]).ok();
}

#[test]
fn a_node_that_was_away_follows_a_leader_that_joined_meanwhile() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.nodes[2].terminate();
    mesh.join();
    let newcomer = 3;
    until("the newcomer votes", || {
        let status = mesh.try_status(0)?;
        status["consensus"]["voters"].as_array()?.iter().any(|name| name == "n4").then_some(())
    });
    until("the newcomer leads", || {
        let leader = mesh.leader();
        if leader == newcomer {
            return Some(());
        }
        // It hands over to one of the other two.
        mesh.nodes[leader].terminate();
        mesh.nodes[leader].restart();
        None
    });
    let index = mesh.try_status(newcomer).unwrap()["index"].as_u64().unwrap();
    mesh.nodes[2].restart();
    until("it has caught up", || (mesh.try_status(2)?["index"].as_u64()? >= index).then_some(()));
    assert_eq!(mesh.leader(), newcomer, "the test shows nothing if another leads");
    mesh.skein(2, &["app", "create", "back"]).ok();
}

/// What a gateway answers to a call with this key, if it answers.
fn call(address: &str, key: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let head = format!(
        "POST /fn/default/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Has a key revoked and one made while node 1 is stopped by `stop`, and then calls it with both for as long as it takes
/// it to be back: the revoked one is never good, the new one never unknown.
fn overruled_while_away(stop: impl FnOnce(&mut Mesh), back: impl FnOnce(&mut Node)) {
    let mut mesh = Mesh::start(SKEIN, 3);
    // Between two leaders, of which a busy machine has more, nothing is published.
    until("a function", || (mesh.publish_wat(0, "echo", ECHO).code == 0).then_some(()));
    let made = |mesh: &Mesh| mesh.admin(0).post("/v1/keys", r#"{"role":"invoke"}"#).json();
    let revoked = made(&mesh);
    let text = |key: &serde_json::Value| key["key"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    until("the key is known at node 1", || (call(mesh.nodes[1].http(), &text(&revoked)) == Some(200)).then_some(()));
    stop(&mut mesh);
    until("others decide", || {
        let revoke = mesh.skein(0, &["key", "revoke", revoked["id"].as_str().unwrap()]);
        (revoke.code == 0).then_some(())
    });
    let new = made(&mesh);
    let (address, is_back) = (mesh.nodes[1].http().to_owned(), AtomicBool::new(false));
    let answers = thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut answers = Vec::new();
            while !is_back.load(Ordering::SeqCst) {
                answers.push((call(&address, &text(&revoked)), call(&address, &text(&new))));
            }
            answers
        });
        back(&mut mesh.nodes[1]);
        until("the revoked key is refused", || (call(&address, &text(&revoked)) == Some(401)).then_some(()));
        is_back.store(true, Ordering::SeqCst);
        calls.join().unwrap()
    });
    for (old, new) in &answers {
        assert!([None, Some(503), Some(401)].contains(old), "a revoked key was answered {old:?}");
        assert!([None, Some(503), Some(200)].contains(new), "a good key was answered {new:?}");
    }
}

#[test]
fn a_node_that_comes_back_serves_nothing_that_the_mesh_has_overruled() {
    overruled_while_away(|mesh| mesh.nodes[1].kill(), Node::restart);
}

#[test]
fn a_node_that_was_stopped_serves_nothing_that_the_mesh_has_overruled() {
    overruled_while_away(
        |mesh| {
            mesh.nodes[1].signal(Signal::STOP);
            // Until the others have given it up, so that they may decide without it, whoever led.
            until("it is missed", || {
                let status = mesh.try_status(0)?;
                let nodes = status["nodes"].as_array()?.clone();
                nodes.iter().any(|node| node["name"] == "n2" && node["state"] == "down").then_some(())
            });
        },
        |node| node.signal(Signal::CONT),
    );
}
