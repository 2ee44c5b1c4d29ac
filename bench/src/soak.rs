//! Half an hour in the life of five nodes: calls, publishing and revocations go on while nodes are killed, stopped,
//! drained, moved, removed and replaced, and two of them are short of memory.
//!
//! Each call is judged by what happened while it was under way: only a fault explains a failure, and no answer may come
//! from a version, or by a key, that was not good at any moment of the call. Afterwards nothing may be left over.

mod faults;
mod history;
mod left;
mod traffic;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use skein_harness::{ECHO, Mesh};
use tokio::time::Instant;

use self::{
    faults::Kind,
    history::{History, Verdict},
    left::Left,
    traffic::{Table, Traffic},
};
use crate::callers::pass;

const NODES: usize = 5;
/// What the last two nodes may use: so little that guests push one another out.
const SMALL: &str = "192MiB";
/// Calm before the first fault, whose figures are what the end is held against.
const CALM: Duration = Duration::from_secs(20);
/// Quiet after the load, before it is looked what is left.
const QUIET: Duration = Duration::from_secs(90);
/// Pauses between two faults, in seconds.
const PAUSE: std::ops::Range<u64> = 3..10;

/// The mesh under test and all that is known of it.
pub(crate) struct Soak {
    mesh: Mesh,
    chance: SmallRng,
    table: Arc<Table>,
    history: History,
    /// The text that the next version answers with.
    next: u64,
    /// Version numbers by what they answer.
    versions: Vec<(u64, u64)>,
    doomed: Option<(String, usize)>,
}

pub(crate) fn run(binary: &str, minutes: f64, rate: u32, seed: u64) -> Result<()> {
    println!("soak: {NODES} nodes, {minutes} minutes, {rate} calls/s, seed {seed}");
    let mut soak = Soak::start(binary, seed)?;
    let traffic = Traffic::start(soak.table.clone(), rate);
    pass(CALM);
    let began = Left::of(&soak.mesh)?;
    let deadline = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    while Instant::now() < deadline {
        soak.fault()?;
        let pause = soak.chance.random_range(PAUSE);
        soak.changes(Instant::now() + Duration::from_secs(pause));
    }
    let calls = traffic.stop()?;
    pass(QUIET);
    let ended = Left::of(&soak.mesh)?;
    let verdict = soak.history.judge(&calls);
    verdict.show(&calls);
    began.show("at the beginning");
    ended.show("at the end");
    finish(&verdict, &began, &ended)
}

fn finish(verdict: &Verdict, began: &Left, ended: &Left) -> Result<()> {
    ensure!(verdict.is_sound(), "calls failed that no fault explains, or were answered by what was not allowed");
    ended.check(began)?;
    println!("sound: no call failed that no fault explains, nothing is left over");
    Ok(())
}

impl Soak {
    fn start(binary: &str, seed: u64) -> Result<Self> {
        let mut mesh = Mesh::found(binary);
        for i in 1..NODES {
            let args: &[&str] = if i + 2 >= NODES { &["--memory", SMALL] } else { &[] };
            mesh.join_with(args);
        }
        mesh.settle();
        let table = Arc::new(Table::default());
        let mut soak = Self {
            mesh,
            chance: SmallRng::seed_from_u64(seed),
            table,
            history: History::default(),
            next: 1,
            versions: Vec::new(),
            doomed: None,
        };
        ensure!(soak.mesh.publish_wat(0, "echo", ECHO).code == 0, "echo is not published");
        soak.publish_hog()?;
        soak.publish();
        ensure!(!soak.versions.is_empty(), "the function whose versions are watched is not published");
        soak.table.set_key(soak.mesh.nodes[0].key());
        for i in 0..NODES {
            soak.table.open(i, soak.mesh.nodes[i].http());
        }
        Ok(soak)
    }

    /// A function that touches 40 MiB.
    fn publish_hog(&self) -> Result<()> {
        let code = r#"(module (memory (export "memory") 640)
  (func (export "_start") (memory.fill (i32.const 65536) (i32.const 7) (i32.const 41000000))))"#;
        self.mesh.file("hog/hog.wat", code.as_bytes());
        let toml = self.mesh.file("hog/function.toml", b"name = 'hog'\ncode = 'hog.wat'\n[limits]\nmemory = '64MiB'\n");
        let ran = self.mesh.skein(0, &["publish", toml.trim_end_matches("/function.toml")]);
        ensure!(ran.code == 0, "hog is not published: {}", ran.stderr);
        Ok(())
    }

    /// A node that runs and is not in trouble.
    fn sound(&mut self) -> usize {
        let open = self.table.open_nodes();
        open[self.chance.random_range(0..open.len())]
    }

    /// Publishes, moves aliases and revokes keys until then.
    fn changes(&mut self, until: Instant) {
        while Instant::now() < until {
            match self.chance.random_range(0..6) {
                0..3 => self.publish(),
                3..5 => self.move_alias(),
                _ => self.change_key(),
            }
            pass(Duration::from_millis(700));
        }
    }

    /// The next version of the function that answers with a number.
    fn publish(&mut self) {
        let (says, at) = (self.next, if self.versions.is_empty() { 0 } else { self.sound() });
        self.next += 1;
        let text = format!("{says:08}");
        let code = format!(
            r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 64) "{text}")
  (func (export "_start") (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
        );
        let begun = self.history.begin(says);
        let ran = self.mesh.publish_wat(at, "versioned", &code);
        let number = ran.text().split_once('@').and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        match number {
            Some(number) if ran.code == 0 => {
                self.history.done(begun);
                self.versions.push((says, number));
            }
            _ => self.history.failed(begun, "publish", &ran.stderr),
        }
    }

    fn move_alias(&mut self) {
        let (says, number) = self.versions[self.chance.random_range(0..self.versions.len())];
        let at = self.sound();
        let begun = self.history.begin(says);
        let ran = self.mesh.skein(at, &["alias", "set", "versioned:live", &number.to_string()]);
        if ran.code == 0 { self.history.done(begun) } else { self.history.failed(begun, "alias set", &ran.stderr) }
    }

    /// Revokes the key that some calls show, or makes another one.
    fn change_key(&mut self) {
        let at = self.sound();
        if let Some((id, key)) = self.doomed.take() {
            let from = Instant::now();
            if self.mesh.skein(at, &["key", "revoke", &id]).code == 0 {
                self.history.revoked(key, from, Instant::now());
            } else {
                self.history.unsure(key);
            }
            return;
        }
        let ran = self.mesh.skein(at, &["key", "create", "--json"]);
        if ran.code == 0 {
            let made = ran.json();
            let (id, text) = (made["id"].as_str().unwrap_or_default(), made["key"].as_str().unwrap_or_default());
            let key = self.history.key_made(Instant::now());
            self.table.set_doomed(key, text);
            self.doomed = Some((id.to_owned(), key));
        }
    }

    fn fault(&mut self) -> Result<()> {
        let kind = Kind::ALL[self.chance.random_range(0..Kind::ALL.len())];
        let began = Instant::now();
        faults::carry_out(self, kind)?;
        self.history.faults_done += 1;
        println!("  {kind:?}: over after {:.1?}", began.elapsed());
        Ok(())
    }
}
