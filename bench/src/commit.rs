//! A change committed and fsynced on three nodes, over HTTP and JSON: an alias moved by Skein's admin API, a key put by
//! etcd's JSON gateway, each at its leader.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use skein_harness::{ECHO, Mesh};

use crate::{
    closed_loop,
    etcd::{self, Etcd},
    report::{Row, table},
};

const ROUND: Duration = Duration::from_secs(3);

pub(crate) fn run(binary: &str, rounds: usize) -> Result<()> {
    let etcd = Etcd::start()?;
    if etcd.is_none() {
        println!("etcd is not installed (Debian: etcd-server): Skein's figures stand alone");
    }
    let mesh = Mesh::start(binary, 3);
    for _ in 0..2 {
        mesh.publish_wat(0, "echo", ECHO).ok();
    }
    let leader = mesh.leader();
    let (admin, key) = (mesh.nodes[leader].admin().to_owned(), mesh.nodes[leader].key());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for clients in [1, 64] {
        let mut rows = vec![Row::new("Skein, alias set")];
        if etcd.is_some() {
            rows.insert(0, Row::new("etcd, put"));
        }
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        let counter = Arc::new(AtomicU64::new(0));
        for _ in 0..rounds {
            if let Some(etcd) = &etcd {
                let (client, url, counter) = (client.clone(), etcd.client_url.clone(), counter.clone());
                let sample = closed_loop::run(clients, ROUND, move |_| {
                    etcd::put(client.clone(), url.clone(), counter.fetch_add(1, Ordering::Relaxed) % 1000)
                });
                rows[0].samples.push(runtime.block_on(sample)?);
            }
            let (client, admin, key, counter) = (client.clone(), admin.clone(), key.clone(), counter.clone());
            let sample = closed_loop::run(clients, ROUND, move |_| {
                let n = counter.fetch_add(1, Ordering::Relaxed);
                set_alias(client.clone(), admin.clone(), key.clone(), n)
            });
            let last = rows.len() - 1;
            rows[last].samples.push(runtime.block_on(sample)?);
        }
        table(&format!("committed change, three nodes, {clients} clients"), &rows);
    }
    Ok(())
}

async fn set_alias(client: reqwest::Client, admin: String, key: String, n: u64) -> Result<()> {
    let url = format!("http://{admin}/v1/functions/default/echo/aliases/a{}", n % 16);
    let body = serde_json::json!({ "version": n % 2 + 1 });
    let answer = client.put(url).bearer_auth(key).json(&body).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(())
}
