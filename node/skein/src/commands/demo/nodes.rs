//! The three nodes of the demo: real processes, in a directory that goes away with them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use skein_client::Context;
use skein_gateway::api::{MeshStatus, TokenCreated, TokenRequest};
use skein_proto::{ErrorCode, Failure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

use crate::{admin_client::AdminClient, data_dir::io_failure};

/// How many: the fewest that survive the loss of one.
const NODES: usize = 3;
/// Longest wait for a node to serve, and for the three to agree.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait for a node's clean end.
const STOP_DEADLINE: Duration = Duration::from_secs(25);
/// Between two looks at the mesh while it forms.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The running nodes. Dropping them kills them.
pub(super) struct DemoNodes {
    pub(super) nodes: Vec<DemoNode>,
    home: TempDir,
}

/// One of them.
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) context: PathBuf,
    pub(super) ready: String,
    child: Child,
}

impl DemoNodes {
    /// Starts a mesh of three and waits until all vote.
    ///
    /// # Errors
    /// If a node does not start, with the place of its log.
    pub(super) async fn start() -> Result<Self, Failure> {
        let home = tempfile::Builder::new()
            .prefix("skein-demo-")
            .tempdir()
            .map_err(|error| io_failure("create a directory in", &std::env::temp_dir(), &error))?;
        let mut nodes = vec![DemoNode::start(home.path(), 1, None).await?];
        let admin = AdminClient::new(Context::load(&nodes[0].context)?)?;
        let token: TokenCreated = admin.post("/v1/tokens", &TokenRequest::default()).await?;
        for number in 2..=NODES {
            nodes.push(DemoNode::start(home.path(), number, Some(&token.token)).await?);
        }
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let status: MeshStatus = admin.get("/v1/status").await?;
            let voters = status.consensus.voters.len();
            if voters == NODES && status.nodes.iter().all(|node| node.state.as_str() == "alive") {
                return Ok(Self { nodes, home });
            }
            if Instant::now() > deadline {
                let message = format!("{voters} of {NODES} nodes vote; logs are in {}", home.path().display());
                return Err(Failure::maybe_executed(ErrorCode::NoQuorum, message));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The context of a node, counted round; itself first in it.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn context(&self, i: usize) -> Result<Context, Failure> {
        Ok(Context::load(&self.nodes[i % self.nodes.len()].context)?)
    }

    /// Where their data and logs are.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Has them leave, one after the other, as `skein up` does on SIGTERM.
    pub(super) async fn stop(self) {
        for mut node in self.nodes.into_iter().rev() {
            node.terminate().await;
        }
    }
}

impl DemoNode {
    async fn start(home: &Path, number: usize, token: Option<&str>) -> Result<Self, Failure> {
        let name = format!("n{number}");
        let log_path = home.join(format!("{name}.log"));
        let log = std::fs::File::create(&log_path).map_err(|error| io_failure("create", &log_path, &error))?;
        let binary = std::env::current_exe().map_err(|error| io_failure("find", Path::new("skein"), &error))?;
        let mut command = Command::new(&binary);
        command.args(["up", "--name", &name, "--data"]).arg(home.join(&name));
        for flag in ["--mesh", "--http", "--admin"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        if let Some(token) = token {
            command.env("SKEIN_TOKEN", token);
        }
        // A group of its own, so that Ctrl-C reaches the demo alone, which then has the nodes leave in order; and a
        // configuration of its own, so that the demo's contexts do not become the user's.
        command.process_group(0).env("XDG_CONFIG_HOME", home.join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| io_failure("start", &binary, &error))?;
        let failed = |what: &str| {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last =
                log.lines().rev().find(|line| line.starts_with("error:")).unwrap_or("it said nothing").to_owned();
            Failure::maybe_executed(ErrorCode::Unavailable, format!("node {name} {what}: {last}"))
        };
        let stdout = child.stdout.take().ok_or_else(|| failed("has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout_at(Instant::now() + READY_DEADLINE, lines.next_line()).await;
        let Ok(Ok(Some(ready))) = line else { return Err(failed("did not become ready")) };
        let context = ready.split("context=").nth(1).ok_or_else(|| failed("said no context"))?;
        Ok(Self { name, context: PathBuf::from(context), ready, child })
    }

    async fn terminate(&mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // The process may have ended by itself: then there is nobody to tell.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
