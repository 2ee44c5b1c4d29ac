//! What goes wrong in a soak, one thing at a time, while changes go on.

use std::{
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use rand::Rng;
use rustix::process::Signal;
use tokio::time::Instant;

use super::{NODES, SMALL, Soak};
use crate::callers::pass;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SIGKILL, and a start after a while.
    Kill,
    /// SIGTERM, and a start after a while.
    Terminate,
    /// SIGSTOP for a while.
    Stop,
    /// Drained and resumed.
    Drain,
    /// SIGKILL, and a start at other ports.
    Move,
    /// Drained, stopped and removed; another one joins.
    Replace,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[Self::Kill, Self::Terminate, Self::Stop, Self::Drain, Self::Move, Self::Replace];
}

/// Ports that the system chooses.
const ELSEWHERE: [&str; 6] = ["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// Brings it about at some node, lets changes go on meanwhile, and waits until the mesh is whole again.
pub(super) fn carry_out(soak: &mut Soak, kind: Kind) -> Result<()> {
    let node = soak.sound();
    let lasts = Duration::from_secs(soak.chance.random_range(1..8));
    let begun = soak.history.trouble(kind, node);
    match kind {
        Kind::Kill => {
            soak.table.close(node);
            soak.mesh.nodes[node].kill();
            soak.changes(Instant::now() + lasts);
            restart(soak, node);
        }
        Kind::Terminate => {
            leave(soak, node)?;
            soak.changes(Instant::now() + lasts);
            restart(soak, node);
        }
        Kind::Stop => {
            // Balancers do not see it at once: its gateway goes on getting calls, which the fault explains.
            soak.mesh.nodes[node].signal(Signal::STOP);
            pass(lasts);
            soak.mesh.nodes[node].signal(Signal::CONT);
        }
        Kind::Drain => {
            let (name, other) = (soak.mesh.nodes[node].name.clone(), another(soak, node));
            run(soak, other, &["node", "drain", &name])?;
            soak.changes(Instant::now() + lasts);
            run(soak, other, &["node", "resume", &name])?;
        }
        Kind::Move => {
            soak.table.close(node);
            soak.mesh.nodes[node].kill();
            soak.changes(Instant::now() + lasts);
            soak.mesh.nodes[node].restart_with(&ELSEWHERE);
        }
        Kind::Replace => {
            let (name, other) = (soak.mesh.nodes[node].name.clone(), another(soak, node));
            // The key of a removed node ends with it.
            soak.table.set_key(soak.mesh.nodes[other].key());
            run(soak, other, &["node", "drain", &name])?;
            leave(soak, node)?;
            run(soak, other, &["node", "remove", &name])?;
            let is_small = soak.chance.random_range(0..NODES) + 2 >= NODES;
            let args: &[&str] = if is_small { &["--memory", SMALL] } else { &[] };
            soak.mesh.join_at(other, args);
            let joined = soak.mesh.nodes.len() - 1;
            soak.table.open(joined, soak.mesh.nodes[joined].http());
        }
    }
    if soak.mesh.nodes[node].is_running() {
        soak.table.open(node, soak.mesh.nodes[node].http());
    }
    soak.history.over(begun);
    soak.mesh.settle();
    Ok(())
}

/// Starts it where it was; elsewhere if a connection of somebody's has taken one of its ports meanwhile: they are of those
/// that the system gives away.
fn restart(soak: &mut Soak, node: usize) {
    let node = &mut soak.mesh.nodes[node];
    let is_free = |addr: &str| TcpListener::bind(addr).is_ok();
    if UdpSocket::bind(node.mesh()).is_ok() && is_free(node.http()) && is_free(node.admin()) {
        node.restart();
    } else {
        node.restart_with(&ELSEWHERE);
    }
}

/// SIGTERM. Whoever calls it from now on is a balancer that does not look; what was sent before is answered.
fn leave(soak: &mut Soak, node: usize) -> Result<()> {
    soak.table.close(node);
    let status = soak.mesh.nodes[node].terminate();
    ensure!(status.success(), "{} did not leave in order: {status}", soak.mesh.nodes[node].name);
    Ok(())
}

fn another(soak: &mut Soak, node: usize) -> usize {
    loop {
        let other = soak.sound();
        if other != node {
            return other;
        }
    }
}

/// A command of an operator, who repeats it when the mesh is between two leaders.
fn run(soak: &Soak, at: usize, args: &[&str]) -> Result<()> {
    let mut ran = soak.mesh.skein(at, args);
    for _ in 0..5 {
        if ran.code == 0 {
            return Ok(());
        }
        pass(Duration::from_secs(1));
        ran = soak.mesh.skein(at, args);
    }
    ensure!(ran.code == 0, "`skein {}`: {}", args.join(" "), ran.stderr);
    Ok(())
}
