//! What all connections of one node share: handlers, bounds, counters, and how a request is answered.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Caller, NetworkConfig, Serve, Service, metrics::Metrics};

/// The node behind the connections.
pub(crate) struct Host {
    pub(crate) local: NodeId,
    /// Drawn at bind: peers see by it that the node restarted.
    pub(crate) boot: u64,
    pub(crate) config: NetworkConfig,
    pub(crate) metrics: Metrics,
    /// Set when no new request is taken.
    pub(crate) closing: CancellationToken,
    /// Set when all requests are answered and lanes may end.
    pub(crate) answered: CancellationToken,
    /// Requests being answered.
    pub(crate) requests: TaskTracker,
    /// Lanes being served.
    pub(crate) lanes: TaskTracker,
    /// Strangers' requests under way, all together.
    pub(crate) stranger_requests: Arc<Semaphore>,
    handlers: RwLock<HashMap<Service, Arc<dyn Serve>>>,
    app: Handle,
}

impl Host {
    pub(crate) fn new(local: NodeId, config: NetworkConfig, app: Handle) -> Self {
        Self {
            local,
            boot: rand::random(),
            config,
            metrics: Metrics::new(),
            closing: CancellationToken::new(),
            answered: CancellationToken::new(),
            requests: TaskTracker::new(),
            lanes: TaskTracker::new(),
            stranger_requests: Arc::new(Semaphore::new(STRANGER_REQUESTS_MAX)),
            handlers: RwLock::default(),
            app,
        }
    }

    pub(crate) fn handle(&self, service: Service, handler: Arc<dyn Serve>) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(service, handler);
    }

    /// The handler of `service`, if `caller` may use it.
    pub(crate) fn handler(&self, caller: Caller, service: Option<Service>) -> Result<Arc<dyn Serve>, Failure> {
        let service = service.ok_or_else(|| {
            Failure::not_executed(ErrorCode::ProtocolMismatch, "this node does not know the service asked for")
        })?;
        if caller == Caller::Stranger && !matches!(service, Service::Join | Service::Client) {
            let message = format!("service {service:?} is for members only");
            return Err(Failure::not_executed(ErrorCode::Untrusted, message));
        }
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(&service).cloned().ok_or_else(|| {
            Failure::not_executed(ErrorCode::Unavailable, format!("this node does not offer service {service:?}"))
        })
    }

    /// Answers one request. Runs where it is polled: on the handlers' runtime.
    pub(crate) async fn answer(
        &self,
        caller: Caller,
        service: Option<Service>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        if self.closing.is_cancelled() {
            return Err(draining());
        }
        let handler = self.handler(caller, service)?;
        self.metrics.served.increment(1);
        self.metrics.received_bytes.increment(body.len() as u64);
        let work = AssertUnwindSafe(handler.call(caller, body, deadline)).catch_unwind();
        let answer = match timeout_at(deadline, work).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(Failure::maybe_executed(ErrorCode::Internal, "the handler panicked")),
            Err(_) => return Err(crate::exchange::late(skein_proto::Progress::MaybeExecuted)),
        };
        if answer.len() > self.config.body_bytes_max {
            let message = format!("the answer is over the limit of {} bytes", self.config.body_bytes_max);
            return Err(Failure::executed(ErrorCode::TooLarge, message));
        }
        self.metrics.sent_bytes.increment(answer.len() as u64);
        Ok(answer)
    }

    /// Runs `work` on the handlers' runtime; shutdown waits for it.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.requests.spawn_on(work, &self.app)
    }

    /// Gives a datagram to its handler, in the context of the handlers' runtime.
    pub(crate) fn datagram(&self, from: NodeId, service: Option<Service>, body: Bytes) {
        if let Ok(handler) = self.handler(Caller::Peer(from), service) {
            let _context = self.app.enter();
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| handler.datagram(from, body)));
        }
    }

    /// When a request that has `deadline_ms` left must be done.
    pub(crate) fn deadline(deadline_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(deadline_ms).min(DEADLINE_MAX)
    }
}

/// What a node that shuts down answers.
pub(crate) fn draining() -> Failure {
    Failure::not_executed(ErrorCode::Draining, "this node is shutting down")
}

/// A peer that says more means for ever; nothing here waits that long.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Strangers' requests at once, over all their connections. With each body bounded, so is what they can make us hold.
const STRANGER_REQUESTS_MAX: usize = 256;
