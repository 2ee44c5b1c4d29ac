//! A three-node etcd on loopback, from Debian's package, with its data on the same disk as Skein's.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use skein_harness::until;

/// The cluster; ends and goes away with this value.
pub(crate) struct Etcd {
    children: Vec<Child>,
    _data: tempfile::TempDir,
    /// Where the leader takes clients.
    pub(crate) client_url: String,
}

impl Etcd {
    /// Starts it; none if the `etcd` program is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let data = tempfile::tempdir()?;
        let ports: Vec<(u16, u16)> = (0..3).map(|_| Ok((free_port()?, free_port()?))).collect::<Result<_>>()?;
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(i, (_, peer))| format!("e{i}=http://127.0.0.1:{peer}")).collect();
        let mut children = Vec::new();
        for (i, (client, peer)) in ports.iter().enumerate() {
            let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("e{i}"), "--data-dir"]).arg(data.path().join(format!("e{i}")));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &peers.join(","), "--logger", "zap", "--log-level", "error"]);
            children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("etcd")?);
        }
        let urls: Vec<String> = ports.iter().map(|(client, _)| format!("http://127.0.0.1:{client}")).collect();
        let client_url = until("etcd's leader", || urls.iter().find(|url| is_leader(url)).cloned());
        Ok(Some(Self { children, _data: data, client_url }))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn is_leader(url: &str) -> bool {
    let address = url.trim_start_matches("http://");
    if std::net::TcpStream::connect(address).is_err() {
        return false;
    }
    let status = skein_harness::Http::new(address, None).post("/v3/maintenance/status", "{}");
    let status = if status.status == 200 { status.json() } else { return false };
    let (leader, own) = (&status["leader"], &status["header"]["member_id"]);
    leader.as_str().is_some_and(|leader| leader != "0") && leader == own
}

/// One put by the JSON gateway.
pub(crate) async fn put(client: reqwest::Client, url: String, key: u64) -> Result<()> {
    let body =
        serde_json::json!({ "key": BASE64.encode(format!("k{key}").as_bytes()), "value": BASE64.encode(&[7; 100]) });
    let answer = client.post(format!("{url}/v3/kv/put")).json(&body).send().await?;
    let status = answer.status();
    answer.bytes().await?;
    ensure!(status.is_success(), "etcd answered {status}");
    Ok(())
}
