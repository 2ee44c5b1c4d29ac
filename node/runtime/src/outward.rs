//! What guests ask of the world outside: calls of other functions, HTTP requests, and leave to wait for them.
//!
//! What is asked for runs on the async runtime, not on the guest's thread: the permits, places in line, turns and memory
//! that a call comes to hold on its way pass on by themselves, whatever the guest does meanwhile. A guest may ask for
//! several things, take the first answer and compute for minutes. It owns what it has asked for: when it ends, or is
//! stopped, that is taken back.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use rand::Rng as _;
use skein_catalog::VersionRecord;
use skein_engine::{Asked, HttpRequest, HttpResponse, InvokeRequest, Services, grants};
use skein_proto::{ErrorCode, Failure, Invocation, InvocationId, Invoke};
use tokio::{runtime::Handle, task::JoinError, time::Instant};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    Egress,
    executor::{Executor, Waiting},
    habits::Called,
    metrics::{self, micros},
};

/// Where requests of guests go; one for a runtime.
pub(crate) struct Outside {
    executor: Executor,
    /// What the requests run on.
    handle: Handle,
    /// The requests under way, so that shutdown can wait for them.
    tasks: TaskTracker,
    doors: OnceLock<Doors>,
}

/// What the assembly gave.
struct Doors {
    /// The router, which owns the runtime: held weakly, or neither would ever go.
    invoke: Weak<dyn Invoke>,
    egress: Option<Arc<dyn Egress>>,
}

/// The outward side of one call.
pub(crate) struct Outward {
    outside: Arc<Outside>,
    record: Arc<VersionRecord>,
    caller: Caller,
    /// The place of the guest while it waits.
    place: Mutex<Place>,
    waited_us: AtomicU64,
    asked: AtomicU32,
    called: Called,
}

/// What of a call its own calls go on with.
pub(crate) struct Caller {
    /// When the guest is stopped, so that what it asked for ends then, too.
    pub(crate) deadline: Instant,
    invocation: InvocationId,
    depth: u8,
    chain: Vec<String>,
    traceparent: Option<Arc<str>>,
    index_min: u64,
    is_idempotent: bool,
}

#[derive(Default)]
struct Place {
    waiting: Option<Waiting>,
    since: Option<Instant>,
}

impl Outside {
    /// For a runtime whose guests run on `executor` and whose tasks are `tasks`.
    ///
    /// # Panics
    /// Outside of an async runtime.
    pub(crate) fn new(executor: Executor, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { executor, handle: Handle::current(), tasks, doors: OnceLock::new() })
    }

    /// Says where requests go. Only the first word counts.
    pub(crate) fn open(&self, invoke: Weak<dyn Invoke>, egress: Option<Arc<dyn Egress>>) {
        let _ = self.doors.set(Doors { invoke, egress });
    }
}

impl Caller {
    /// The caller that `invocation` makes of a version.
    pub(crate) fn new(invocation: &Invocation) -> Self {
        Self {
            deadline: invocation.deadline,
            invocation: invocation.id,
            depth: invocation.depth,
            chain: invocation.chain.clone(),
            traceparent: invocation.traceparent.clone(),
            index_min: invocation.index_min,
            is_idempotent: invocation.is_idempotent,
        }
    }
}

impl Outward {
    pub(crate) fn new(outside: Arc<Outside>, record: Arc<VersionRecord>, caller: Caller) -> Arc<Self> {
        let (place, waited_us, asked) = (Mutex::default(), AtomicU64::new(0), AtomicU32::new(0));
        Arc::new(Self { outside, record, caller, place, waited_us, asked, called: Called::default() })
    }

    /// How long the guest has waited.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Relaxed))
    }

    /// How many calls and requests it has made.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }

    /// Which functions it has called.
    pub(crate) fn called(&self) -> &Called {
        &self.called
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what would have the guest wait for others without a place to do so, and thereby hold up those others.
    fn check_place(&self) -> Result<(), Failure> {
        if self.place().waiting.is_some() {
            return Ok(());
        }
        let message = "too many functions of this node wait for others already";
        Err(Failure::not_executed(ErrorCode::Overloaded, message).retry_after(PLACE_RETRY_AFTER))
    }

    fn doors(&self) -> Result<&Doors, Failure> {
        let closed = || Failure::not_executed(ErrorCode::Unavailable, "this node is still starting");
        self.outside.doors.get().ok_or_else(closed)
    }

    /// The call that the guest asks for, and who makes it.
    fn nested(&self, request: InvokeRequest) -> Result<(Arc<dyn Invoke>, Invocation), Failure> {
        self.check_place()?;
        let manifest = &self.record.manifest;
        let target = grants::invoke(&manifest.grants, &request.reference)?;
        self.called.note(&target);
        let bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if request.headers.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
            let count = request.headers.len();
            let message =
                format!("{count} headers of {bytes} bytes; a call takes {HEADERS_MAX} of {HEADERS_BYTES_MAX} at most");
            return Err(Failure::not_executed(ErrorCode::TooLarge, message));
        }
        let caller = &self.caller;
        let mut invocation = Invocation::new(target, request.payload, caller.deadline);
        invocation.headers = request.headers.into();
        invocation.traceparent =
            caller.traceparent.as_deref().map(|parent| continued(parent, rand::rng().random()).into());
        invocation.depth = caller.depth.saturating_add(1);
        invocation.chain.clone_from(&caller.chain);
        invocation.caller = Some(caller.invocation);
        invocation.chain.push(format!("{}/{}", manifest.app, manifest.name));
        invocation.index_min = caller.index_min;
        // Whoever may repeat the outer call repeats the inner ones with it.
        invocation.is_idempotent = caller.is_idempotent;
        invocation.check_depth()?;
        let stopping = || Failure::not_executed(ErrorCode::Draining, "this node is stopping");
        Ok((self.doors()?.invoke.upgrade().ok_or_else(stopping)?, invocation))
    }

    fn request(&self, request: HttpRequest) -> Result<Asked<HttpResponse>, Failure> {
        self.check_place()?;
        let manifest = &self.record.manifest;
        let granted = &manifest.grants;
        grants::http(granted, &request.url)?;
        let Some(egress) = &self.doors()?.egress else {
            let message = "this node sends no HTTP requests for functions";
            return Err(Failure::not_executed(ErrorCode::Unavailable, message));
        };
        // Made where its sockets and timers belong.
        let _entered = self.outside.handle.enter();
        Ok(egress.send(request, &manifest.app, granted, self.caller.deadline))
    }

    /// Starts what the guest has asked for, and counts it.
    fn start<T: Send + 'static>(&self, kind: &'static str, asked: Asked<T>) -> Asked<T> {
        self.asked.fetch_add(1, Relaxed);
        let mut tally = metrics::Tally::new(kind);
        let work = async move {
            let answer = asked.await;
            tally.ended(answer.as_ref().err().map(|failure| failure.code));
            answer
        };
        let Outside { handle, tasks, .. } = &*self.outside;
        Box::pin(Within(AbortOnDropHandle::new(tasks.spawn_on(work, handle))))
    }
}

impl Services for Outward {
    fn invoke(&self, request: InvokeRequest) -> Asked<Bytes> {
        let nested = self.nested(request);
        let asked = async move {
            let (invoke, invocation) = nested?;
            invoke.invoke(invocation).await.map(|reply| reply.payload)
        };
        self.start("invoke", Box::pin(asked))
    }

    fn http(&self, request: HttpRequest) -> Asked<HttpResponse> {
        let asked = self.request(request).unwrap_or_else(|failure| Box::pin(std::future::ready(Err(failure))));
        self.start("http", asked)
    }

    fn waits(&self) {
        let waiting = self.outside.executor.wait(self.caller.depth);
        *self.place() = Place { waiting, since: Some(Instant::now()) };
    }

    fn resumed(&self) {
        let place = std::mem::take(&mut *self.place());
        if let Some(since) = place.since {
            self.waited_us.fetch_add(micros(since.elapsed()), Relaxed);
        }
    }
}

/// The guest's end of a request. Dropping it takes the request back: it ends on the runtime, as soon as a thread there
/// comes to it.
struct Within<T>(AbortOnDropHandle<Result<T, Failure>>);

impl<T> Future for Within<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or_else(|error| Err(broken(&error))))
    }
}

/// A request that ended without an answer.
fn broken(error: &JoinError) -> Failure {
    if error.is_cancelled() {
        Failure::maybe_executed(ErrorCode::Unavailable, "this node stopped while the request was under way")
    } else {
        Failure::maybe_executed(ErrorCode::Internal, "the request broke while it was under way")
    }
}

/// `parent` with a span of our own in it (W3C Trace Context, section 3.2); what is no version 00 is left as it is.
fn continued(parent: &str, span: u64) -> String {
    // Zero is no span.
    let span = span.max(1);
    match parent.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, _, flags] => format!("00-{trace}-{span:016x}-{flags}"),
        _ => parent.to_owned(),
    }
}

/// When a place is likely to be free: calls are short.
const PLACE_RETRY_AFTER: Duration = Duration::from_millis(100);

/// As many headers as callers from outside may send.
const HEADERS_MAX: usize = 128;
const HEADERS_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_with_a_span_of_its_own() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |parent: &str, expected: &str| assert_eq!(continued(parent, 0xabc), expected);
        check(&format!("00-{trace}-00f067aa0ba902b7-01"), &format!("00-{trace}-0000000000000abc-01"));
        check("cc-x-y-z-more", "cc-x-y-z-more");
        check("", "");
    }
}
