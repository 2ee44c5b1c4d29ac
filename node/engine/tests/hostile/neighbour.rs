//! A well-behaved function on another thread, called again and again: what it notices of the others.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Engine, Program};
use skein_proto::Limits;
use tokio::time::Instant;

use crate::attack::{call, load};

/// Between two calls.
const EVERY: Duration = Duration::from_millis(1);

/// Copies stdin to stdout.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// The thread; ends when dropped.
pub(crate) struct Neighbour {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// What it noticed in a while.
#[derive(Default)]
pub(crate) struct Seen {
    took: Vec<Duration>,
    pub(crate) failed: usize,
}

impl Seen {
    /// 99 of 100 calls took no longer.
    pub(crate) fn p99(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort();
        took.get(took.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// What was noticed in both whiles.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.took.extend_from_slice(&other.took);
        self.failed += other.failed;
        self
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} calls, p99 {:.0?}", self.took.len(), self.p99())
    }
}

impl Neighbour {
    pub(crate) fn start(engine: &Engine) -> Self {
        let echo = load(engine, ECHO);
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&shared);
        Self { shared, thread: Some(thread::spawn(move || inner.run(&echo))) }
    }

    /// Waits until it was called so often.
    pub(crate) fn until_calls(&self, count: usize) {
        while self.shared.seen.lock().unwrap().took.len() < count {
            thread::sleep(EVERY);
        }
    }

    /// What it noticed since it was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }
}

impl Shared {
    fn run(&self, echo: &Program) {
        let input = Bytes::from_static(&[b'n'; 100]);
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let answer = echo.run(call(Limits { deadline_ms: 60_000, ..Limits::default() }, input.clone()));
            let took = begin.elapsed();
            let is_right = answer.is_ok_and(|output| output.payload == input);
            let mut seen = self.seen.lock().unwrap();
            seen.took.push(took);
            seen.failed += usize::from(!is_right);
            drop(seen);
            due = (due + EVERY).max(Instant::now());
            thread::park_timeout(due - Instant::now());
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
