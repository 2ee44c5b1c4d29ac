//! The engine's own thread: checks at start what the cache has, then compiles again, optimised, what has only baseline
//! code. One module at a time, behind everything else the machine does.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use skein_proto::Digest;

use super::Shared;
use crate::{
    Tier,
    cache::{Key, Kind},
    compile::{Cause, Urgency, lower_priority},
    metrics,
    snapshot::MODULE_IMAGE,
    stop::lock,
};

/// The handle to the thread.
#[derive(Debug)]
pub(super) struct Background {
    line: Arc<Line>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The modules that wait to be optimised. Each is 32 bytes here and has its source on disk, whose budget bounds them.
#[derive(Debug, Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Digest>,
    is_shut_down: bool,
}

impl Background {
    pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<Self> {
        let line = Arc::<Line>::default();
        let (shared, theirs) = (Arc::clone(shared), Arc::clone(&line));
        let work = move || {
            if let Err(error) = lower_priority(19) {
                tracing::debug!(%error, "the compiler's thread keeps its priority");
            }
            look_through(&shared, &theirs);
            while let Some(digest) = theirs.next() {
                optimise(&shared, digest);
            }
        };
        let thread = std::thread::Builder::new().name("skein-optimise".to_owned()).spawn(work)?;
        Ok(Self { line, thread: Mutex::new(Some(thread)) })
    }

    /// No thread, and no work for it.
    pub(super) fn none() -> Self {
        Self { line: Arc::default(), thread: Mutex::new(None) }
    }

    /// Has `digest` optimised when its turn comes. Its source is in the cache.
    pub(super) fn optimise(&self, digest: Digest) {
        self.line.push(digest);
    }

    /// Returns when the thread has ended; whoever ends its compilation has to do that before.
    pub(super) fn shutdown(&self) {
        lock(&self.line.state).is_shut_down = true;
        self.line.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // It logs what goes wrong, and a panic has been reported by then.
            let _ = thread.join();
        }
    }
}

impl Line {
    fn push(&self, digest: Digest) {
        let mut state = lock(&self.state);
        if !state.waiting.contains(&digest) {
            state.waiting.push_back(digest);
        }
        metrics::optimisations_waiting(state.waiting.len());
        self.changed.notify_one();
    }

    /// The next one; none at shutdown.
    fn next(&self) -> Option<Digest> {
        let mut state = lock(&self.state);
        loop {
            if state.is_shut_down {
                return None;
            }
            if let Some(digest) = state.waiting.pop_front() {
                metrics::optimisations_waiting(state.waiting.len());
                return Some(digest);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_shut_down(&self) -> bool {
        lock(&self.state).is_shut_down
    }
}

/// Checks every file, so that no call has to, and takes up what an earlier process left.
fn look_through(shared: &Shared, line: &Line) {
    let digests = match shared.cache.digests() {
        Ok(digests) => digests,
        Err(error) => {
            tracing::warn!(%error, "the cache cannot be looked through");
            return;
        }
    };
    for digest in digests {
        for kind in [Kind::Code(Tier::Optimised), Kind::Code(Tier::Baseline), Kind::Image(MODULE_IMAGE), Kind::Source] {
            if line.is_shut_down() {
                return;
            }
            match shared.cache.check(Key { digest, kind }) {
                Ok(Some(_)) if kind == Kind::Source => line.push(digest),
                Ok(_) => {}
                Err(error) => tracing::warn!(%digest, %error, "a cached file cannot be checked"),
            }
        }
    }
    shared.evict(None);
}

fn optimise(shared: &Shared, digest: Digest) {
    match try_optimise(shared, digest) {
        Ok(()) => {}
        Err(problem) => {
            tracing::warn!(%digest, %problem, "a module stays with its baseline code");
        }
    }
}

fn try_optimise(shared: &Shared, digest: Digest) -> Result<(), String> {
    let (source_key, optimised) = (Key::source(digest), Key::code(digest, Tier::Optimised));
    let text = |error: crate::EngineError| error.to_string();
    let Some(source) = shared.cache.find(source_key).map_err(text)? else { return Ok(()) };
    if !shared.cache.contains(optimised) {
        let mut code = Vec::new();
        let opened = source.open().map(|file| file.take(source.payload_bytes));
        opened.and_then(|mut payload| payload.read_to_end(&mut code)).map_err(|error| error.to_string())?;
        match shared.compiler.compile(&code, Tier::Optimised, Urgency::Background) {
            Ok(artefact) => shared.cache.store(optimised, &artefact, &source.meta).map_err(text)?,
            Err(failed) if failed.cause == Cause::Shutdown => return Ok(()),
            Err(failed) if matches!(failed.cause, Cause::Lost | Cause::Garbage) => return Err(failed.message),
            Err(failed) => {
                // It would be so each time.
                shared.cache.remove(source_key).map_err(text)?;
                return Err(failed.message);
            }
        }
    }
    shared.swap(digest);
    shared.cache.remove(source_key).map_err(text)?;
    shared.cache.remove(Key::code(digest, Tier::Baseline)).map_err(text)?;
    shared.evict(Some(digest));
    Ok(())
}
