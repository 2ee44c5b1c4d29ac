//! A bare axum echo: what HTTP alone costs on this machine.

use std::net::SocketAddr;

use anyhow::Result;
use axum::{Router, body::Bytes, routing::post};

/// Serves until the process ends, on a runtime and threads of its own, as a node's gateway has.
pub(crate) fn serve() -> Result<SocketAddr> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        tokio::runtime::Runtime::new()?.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            let app = Router::new().route("/echo", post(|body: Bytes| async move { body }));
            Ok(axum::serve(listener, app).await?)
        })
    });
    Ok(told.recv()?)
}
