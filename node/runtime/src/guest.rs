//! Runs one call on a thread of the executor, and stops it when its caller is gone. See `brief` for the other way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    time::Duration,
};

use skein_engine::{Call, Output, Program, Room, RunError, StopHandle, thread_cpu_time};
use skein_proto::{ErrorCode, Failure, Invocation};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    activation::{Permit, deadline_in_line},
    executor::{Executor, Job, Ticket},
    outward::{Caller, Outside, Outward},
};

/// One call that has its permit and its program.
pub(crate) struct Guest {
    pub(crate) permit: Permit,
    pub(crate) program: Arc<Program>,
    /// The memory that it begins with.
    pub(crate) room: Room,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) outside: Arc<Outside>,
}

/// A call that was run.
pub(crate) struct Ran {
    pub(crate) outcome: Result<Output, RunError>,
    /// How long it waited for a thread.
    pub(crate) queued: Duration,
    /// How long the guest waited for others while it ran.
    pub(crate) waited: Duration,
    /// How many calls and requests it made of them.
    pub(crate) outbound: u32,
}

impl Guest {
    /// Runs the guest to its end, its deadline, or until the future is dropped.
    pub(crate) async fn run(self, executor: &Executor, invocation: &Invocation) -> Result<Ran, Failure> {
        let record = self.permit.activation().record().clone();
        let stop = StopHandle::new();
        let _guard = StopOnDrop(stop.clone());
        let claim = Arc::new(AtomicBool::new(false));
        let is_nested = invocation.depth > 0;
        let (done, mut ran) = oneshot::channel();
        let (payload, deadline, queued, claimed) =
            (invocation.payload.clone(), invocation.deadline, Instant::now(), claim.clone());
        let handle = stop.clone();
        let limit = Duration::from_millis(record.manifest.limits.deadline_ms);
        let mut caller = Caller::new(invocation);
        let work = move || {
            if done.is_closed() || claimed.swap(true, AcqRel) {
                return;
            }
            let queued = queued.elapsed();
            caller.deadline = deadline.min(Instant::now() + limit);
            let activation = self.permit.activation();
            let manifest = &activation.record().manifest;
            let outward = Outward::new(self.outside, activation.record().clone(), caller);
            let call = Call {
                args: activation.args(),
                env: &self.environment,
                payload,
                services: Some(outward.clone()),
                limits: manifest.limits,
                deadline,
                stop: handle,
                scratch: manifest.grants.scratch,
                preopens: &[],
                room: Some(&self.room),
            };
            let began = activation.brevity.is_probed(activation.age()).then(thread_cpu_time);
            let outcome = self.program.run(call);
            if let Some(began) = began {
                activation.brevity.ran(thread_cpu_time().saturating_sub(began), &outcome);
            }
            activation.learn(outward.called());
            // The caller who hears of the end finds the memory and the permit at home.
            drop(self.room);
            drop(self.permit);
            let (waited, outbound) = (outward.waited(), outward.asked());
            let _ = done.send(Ran { outcome, queued, waited, outbound });
        };
        let ticket = executor.submit(Job { stop: Some(stop), is_nested, work: Box::new(work) }).map_err(|_| {
            let message = "all threads of this node are busy, and their queue is full";
            Failure::not_executed(ErrorCode::Overloaded, message).retry_after(BUSY_RETRY_AFTER)
        })?;
        let queued = Queued { executor, ticket, claim };
        let is_mine = || queued.take_back();
        match timeout_at(deadline, &mut ran).await {
            Ok(Ok(ran)) => Ok(ran),
            Ok(Err(_dropped)) => Err(broken(is_mine())),
            // Still in the queue: now it never runs.
            Err(_) if is_mine() => Err(deadline_in_line(&record)),
            Err(_) => match timeout_at(deadline + STOP_MAX, ran).await {
                Ok(Ok(ran)) => Ok(ran),
                Ok(Err(_dropped)) => Err(broken(false)),
                Err(_) => {
                    let message = "the function did not stop at its deadline; the node goes on stopping it";
                    Err(Failure::executed(ErrorCode::DeadlineExceeded, message))
                }
            },
        }
    }
}

/// The job went away without an answer: dropped at shutdown, or it panicked.
fn broken(never_ran: bool) -> Failure {
    if never_ran {
        Failure::not_executed(ErrorCode::Draining, "this node is stopping")
    } else {
        Failure::maybe_executed(ErrorCode::Internal, "the engine broke while the function ran")
    }
}

/// A call in the executor's queue, with its permit and its memory. When its caller goes, all of that goes home at once,
/// not when a thread comes to it.
struct Queued<'a> {
    executor: &'a Executor,
    ticket: Ticket,
    /// Set by whoever has the call: the thread that begins it, or its caller who takes it back.
    claim: Arc<AtomicBool>,
}

impl Queued<'_> {
    /// True if it had not begun, nor been taken back: now it never runs.
    fn take_back(&self) -> bool {
        let is_mine = !self.claim.swap(true, AcqRel);
        if is_mine {
            self.executor.withdraw(&self.ticket);
        }
        is_mine
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Stops the guest when its caller is gone.
struct StopOnDrop(StopHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// How long the engine may take to stop a guest before its caller is answered without it.
const STOP_MAX: Duration = Duration::from_millis(500);

/// When a node whose threads or instances are all taken is worth another try.
pub(crate) const BUSY_RETRY_AFTER: Duration = Duration::from_millis(100);
