//! `skein up`: one node in the foreground.

use std::{collections::BTreeMap, convert::Infallible};

use rand::Rng;
use skein_catalog::{MemberRole, check_labels};
use skein_proto::{ErrorCode, Failure, NodeId, NodeName};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::Up,
    config::{NodeConfig, Settings, default_data_dir},
    contexts::Contexts,
    data_dir::DataDir,
    node::{Entry, Node},
    output::write_stdout,
    telemetry,
};

/// The exit code of a process that was interrupted: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: i32 = 130;

pub(super) async fn up(up: Up) -> Result<(), Failure> {
    let logs = telemetry::start_logs();
    let data = DataDir::open(&up.data.clone().unwrap_or_else(default_data_dir))?;
    let (config, entry) = configure(up, &data)?;
    let mut stop = Signals::listen()?;
    let node = tokio::select! {
        node = Node::start(config, data, entry) => node?,
        () = stop.next() => return Ok(()),
    };
    // A node that has not begun yet leaves in order, too: peers place calls at it.
    let ended = tokio::select! {
        Err(failure) = serve(&node) => Err(failure),
        () = stop.next() => Ok(()),
        by = node.removed() => Err(removed(&node, by)),
    };
    tokio::select! {
        () = node.shutdown() => ended,
        () = stop.next() => {
            drop(logs);
            std::process::exit(INTERRUPTED)
        }
    }
}

/// Begins and says so; ends only when the node could not begin.
async fn serve(node: &Node) -> Result<Infallible, Failure> {
    node.begin().await?;
    if let Err(failure) = write_stdout(format!("{}\n", node.ready_line()).as_bytes()) {
        tracing::warn!(%failure, "the line that says it serves could not be written; it serves all the same");
    }
    if let Err(failure) = Contexts::of_user().link(node.name().as_str(), &node.context_file()) {
        tracing::warn!(%failure, "the context was not added to the user's configuration; use --context");
    }
    std::future::pending().await
}

/// Why a node ends that was taken off: the others refuse it, so that all it could do is answer with what is old.
fn removed(node: &Node, by: Option<NodeId>) -> Failure {
    let name = node.name();
    let says = by.map(|by| format!(", says node {by}, and no leader answers it")).unwrap_or_default();
    let message = format!("{name} was removed from the mesh{says}; to come back, join with an empty data directory");
    Failure::not_executed(ErrorCode::Untrusted, message)
}

/// What the flags, the file and the last run say.
fn configure(up: Up, data: &DataDir) -> Result<(NodeConfig, Entry), Failure> {
    let flags = Settings {
        name: up.name,
        mesh: up.mesh,
        http: up.http,
        admin: up.admin,
        advertise: up.advertise,
        labels: up.labels.into_iter().collect::<BTreeMap<_, _>>(),
        memory: up.memory,
        role: up.role.map(MemberRole::from),
        egress_ca: None,
        egress_private: None,
        lame_duck: None,
        catch_up_ms: None,
    };
    let file = up.config.as_deref().map(Settings::load).transpose()?.unwrap_or_default();
    let remembered = Settings::remembered(&data.settings())?;
    let mut config = NodeConfig::compose(&flags, &file, &remembered, random_name()?);
    config.check()?;
    check_labels(&config.labels).map_err(|message| Failure::not_executed(ErrorCode::BadRequest, message))?;
    Ok((config, Entry { token: up.token, seeds: up.join }))
}

fn random_name() -> Result<NodeName, Failure> {
    let name = format!("node-{:04x}", rand::rng().random::<u16>());
    name.parse().map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("{error}")))
}

/// SIGTERM and SIGINT, whichever comes; SIGHUP too where it was asked for.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// The end of the terminal counts too. Not for `up`: there it would undo `nohup`.
    pub(super) fn and_hangup(mut self) -> Result<Self, Failure> {
        self.hangup = Some(listen(SignalKind::hangup())?);
        Ok(self)
    }

    pub(super) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("no signal handler: {error}")))
}
