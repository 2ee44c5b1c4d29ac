//! One caller with one connection that is kept, for figures of single calls.

use anyhow::{Result, ensure};
use tokio::runtime::{Builder, Runtime};

/// A client that blocks.
pub(crate) struct Single {
    runtime: Runtime,
    client: reqwest::Client,
}

impl Single {
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { runtime, client })
    }

    /// The body of the answer, if it is a good one.
    pub(crate) fn post(&self, url: &str, key: &str, body: &str) -> Result<String> {
        let call = self.client.post(url).bearer_auth(key).body(body.to_owned());
        self.runtime.block_on(async {
            let answer = call.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            ensure!(status.is_success(), "{status}: {text}");
            Ok(text)
        })
    }
}
