//! A bare axum echo: what HTTP alone costs on this machine.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use axum::{Router, body::Bytes, routing::post};

use crate::gateway::Target;

/// The echo in a process of its own: this program, called with `axum-echo`. Ends with its owner.
pub(crate) struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts it, and returns when it listens.
    pub(crate) fn start() -> Result<Self> {
        let mut child =
            Command::new(env::current_exe()?).arg("axum-echo").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        Ok(Self { child, url: format!("http://{}/echo", line.trim()) })
    }

    pub(crate) fn target(&self) -> Target {
        Target { url: self.url.clone(), key: None, pid: self.child.id() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Listens, says where on stdout, and serves until stdin ends. Threads and connections as a node's gateway has them.
pub(crate) fn serve() -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let app = Router::new().route("/echo", post(|body: Bytes| async move { body }));
        Ok(axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), app)
            .await?)
    })
}
