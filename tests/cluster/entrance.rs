//! Nothing is let in without a credential that is known, in time and good for the purpose.

use std::process::{Command, Stdio};

use skein_harness::{ECHO, Mesh, Node, NodeOptions};

use crate::SKEIN;

#[test]
fn keys_open_what_they_are_for_and_nothing_else() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let (gateway, admin) = (mesh.gateway(0), mesh.admin(0));
    let key = |args: &[&str]| mesh.skein(0, &[&["key", "create"], args].concat()).ok().text();
    let (invoke, other, publish) = (key(&[]), key(&["--app", "shop"]), key(&["--role", "publish"]));
    let brief = key(&["--ttl", "1ms"]);

    let call = |key: Option<&str>| gateway.with_key(key).post("/fn/default/echo", "x");
    assert_eq!(call(Some(&invoke)).text(), "x");
    assert_eq!(call(Some(&publish)).text(), "x");
    call(None).problem(401, "unauthenticated");
    call(Some("nonsense")).problem(401, "unauthenticated");
    call(Some(&brief)).problem(401, "unauthenticated");
    call(Some(&other)).problem(403, "forbidden");
    let mut forged = invoke.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    call(Some(&forged)).problem(401, "unauthenticated");

    admin.with_key(None).get("/v1/functions").problem(401, "unauthenticated");
    admin.with_key(Some(&invoke)).get("/v1/functions").problem(403, "forbidden");
    admin.with_key(Some(&publish)).get("/v1/keys").problem(403, "forbidden");
    admin.with_key(Some(&publish)).post("/v1/tokens", "{}").problem(403, "forbidden");

    let keys = mesh.skein(0, &["key", "ls"]).ok().text();
    let id = invoke.split('_').nth(1).unwrap();
    assert!(keys.contains(id) && !keys.contains(&invoke), "{keys}");
    mesh.skein(0, &["key", "revoke", id]).ok();
    call(Some(&invoke)).problem(401, "unauthenticated");
    mesh.skein(0, &["key", "revoke", id]).failed(1, "not-found");
}

#[test]
fn secrets_are_in_no_log_and_in_no_listing() {
    let mesh = Mesh::start(SKEIN, 2);
    let key = mesh.skein(0, &["key", "create"]).ok().text();
    let secret = key.rsplit('_').next().unwrap();
    mesh.gateway(0).with_key(Some(&key)).post("/fn/default/none", "x").problem(404, "function-not-found");
    let shown = [
        mesh.nodes[0].log(),
        mesh.nodes[1].log(),
        mesh.skein(0, &["config"]).ok().text(),
        mesh.skein(0, &["key", "ls", "--json"]).ok().text(),
        mesh.admin(0).get("/metrics").text(),
    ];
    for text in shown {
        assert!(!text.contains(secret), "{text}");
    }
}

/// `skein up` that should end by itself; its exit code and stderr.
fn up(mesh: &Mesh, data: &str, args: &[&str]) -> (i32, String) {
    let mut all =
        vec!["up", "--data", data, "--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    all.extend(args);
    let ran = Command::new(mesh.binary())
        .args(all)
        .env("XDG_CONFIG_HOME", mesh.home().join("config"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (ran.status.code().unwrap_or(-1), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[track_caller]
fn refused(ran: (i32, String), code: i32, error: &str) {
    assert!(ran.0 == code && ran.1.contains(&format!("[{error}]")), "{ran:?}");
}

#[test]
fn wrong_foreign_and_expired_tokens_are_refused() {
    let mesh = Mesh::start(SKEIN, 1);
    let other = Mesh::start(SKEIN, 1);
    let data = mesh.home().join("late");
    let data = data.to_str().unwrap();
    let brief = mesh.skein(0, &["token", "create", "--ttl", "1ms"]).ok().text();
    refused(up(&mesh, data, &["--token", &brief]), 1, "bad-token");
    refused(up(&mesh, data, &["--token", "skein1.nonsense"]), 1, "bad-token");
    refused(up(&mesh, data, &["--join", mesh.nodes[0].mesh()]), 1, "bad-token");
    // The other mesh's token, shown to this mesh: the joiner finds that the CA is not the token's.
    let foreign = other.skein(0, &["token", "create"]).ok().text();
    let met = up(&mesh, data, &["--token", &foreign, "--join", mesh.nodes[0].mesh()]);
    assert!(met.1.contains("is of another mesh") && !met.1.contains("certificate"), "{}", met.1);
    refused(met, 1, "untrusted");
    let good = mesh.skein(0, &["token", "create"]).ok().text();
    refused(up(&mesh, data, &["--token", &good, "--name", "n1"]), 1, "conflict");
    let options = NodeOptions { args: vec!["--token".into(), good], ..NodeOptions::default() };
    let late = Node::start(mesh.binary(), mesh.home(), "late", options);
    assert!(late.context().exists());
}

#[test]
fn a_context_of_another_mesh_opens_nothing() {
    let mesh = Mesh::start(SKEIN, 1);
    let other = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let text = std::fs::read_to_string(other.nodes[0].context()).unwrap();
    let mixed = text
        .replace(other.nodes[0].mesh(), mesh.nodes[0].mesh())
        .replace(other.nodes[0].admin(), mesh.nodes[0].admin());
    let file = mesh.file("mixed.toml", mixed.as_bytes());
    mesh.skein_bare(&["--context", &file, "invoke", "echo", "-d", "x"]).failed(1, "untrusted");
    mesh.skein_bare(&["--context", &file, "nodes"]).failed(1, "unauthenticated");
}

#[test]
fn garbage_datagrams_and_requests_harm_nobody() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut seed = 7_u32;
    for size in 0..2_000_usize {
        let bytes: Vec<u8> = (0..size % 1_400)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        socket.send_to(&bytes, mesh.nodes[0].mesh()).unwrap();
    }
    for address in [mesh.nodes[0].http(), mesh.nodes[0].admin()] {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"\x00\xff nonsense\r\n\r\n").unwrap();
    }
    assert_eq!(mesh.skein(0, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
    assert_eq!(mesh.gateway(0).post("/fn/default/echo", "x").text(), "x");
}
