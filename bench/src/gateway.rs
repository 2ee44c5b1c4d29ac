//! Echo through the gateway, a fresh sandbox for each call, beside a bare axum echo; on the node itself, and from a
//! node that is draining, so that every call crosses the mesh.

use std::time::Duration;

use anyhow::{Result, ensure};
use skein_harness::{ECHO, Mesh, until};

use crate::{
    closed_loop,
    report::{Row, Sample, table},
    rivals::axum_echo,
};

const ROUND: Duration = Duration::from_secs(3);
const BODY: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

pub(crate) fn run(binary: &str, rounds: usize) -> Result<()> {
    let bare = format!("http://{}/echo", axum_echo::serve()?);
    let mesh = Mesh::start(binary, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.skein(0, &["node", "drain", "n2"]).ok();
    until("the drain", || {
        let answer = mesh.gateway(1).post("/fn/default/echo", "x");
        (answer.header("skein-node") != Some("n2")).then_some(())
    });
    let url = |i: usize| format!("http://{}/fn/default/echo", mesh.nodes[i].http());
    let subjects = [bare, url(0), url(1)];
    let key = mesh.nodes[0].key();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for connections in [1, 64] {
        let mut rows = [
            Row::new("bare axum echo"),
            Row::new("Skein, same node, fresh sandbox"),
            Row::new("Skein, another node, fresh sandbox"),
        ];
        for _ in 0..rounds {
            for (row, url) in rows.iter_mut().zip(&subjects) {
                row.samples.push(runtime.block_on(measure(url.clone(), key.clone(), connections))?);
            }
        }
        table(&format!("gateway echo, 100 B, {connections} connections"), &rows);
    }
    Ok(())
}

async fn measure(url: String, key: String, connections: usize) -> Result<Sample> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(connections).tcp_nodelay(true).build()?;
    closed_loop::run(connections, ROUND, move |_| {
        let call = client.post(&url).bearer_auth(&key).body(BODY);
        async move {
            let response = call.send().await?;
            let status = response.status();
            let body = response.bytes().await?;
            ensure!(status.is_success() && body == BODY, "{status}: {body:?}");
            Ok(())
        }
    })
    .await
}
