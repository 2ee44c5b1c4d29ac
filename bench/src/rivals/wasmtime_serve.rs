//! `wasmtime serve` with an echo component, as `bench/http-echo/build.sh` has them ready.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::gateway::Target;

/// The running server; ends with its owner.
pub(crate) struct WasmtimeServe {
    child: Child,
    url: String,
}

impl WasmtimeServe {
    /// Starts it: a fresh instance for each request, or one for up to `reuse` requests, one at a time.
    pub(crate) fn start(reuse: Option<u32>) -> Result<Self> {
        let built = Command::new("bash").arg("bench/http-echo/build.sh").output()?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr).trim());
        let paths = String::from_utf8(built.stdout)?;
        let (program, component) = paths.trim().split_once('\n').context("two paths")?;
        let mut command = Command::new(program);
        command.args(["serve", "--addr", "127.0.0.1:0"]);
        if let Some(reuse) = reuse {
            command.arg(format!("--max-instance-reuse-count={reuse}"));
        }
        let mut child = command.arg(component).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr is piped")?).lines().map_while(Result::ok);
        let said = lines.find_map(|line| {
            let (_, url) = line.split_once("Serving HTTP on ")?;
            Some(url.trim().to_owned())
        });
        // It ends when it can say no more.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, url: said.context("it did not say where it listens")? })
    }

    pub(crate) fn target(&self) -> Target {
        Target { url: self.url.clone(), key: None, pid: self.child.id() }
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
