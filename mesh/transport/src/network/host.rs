//! What all connections of one node share: handlers, bounds, counters, and how a request is answered.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::entrance::{Entrance, Place, Share};
use crate::{Caller, NetworkConfig, Serve, Service, frame::ShownKey, metrics::Metrics};

/// The node behind the connections.
pub(crate) struct Host {
    pub(crate) local: NodeId,
    /// Drawn at bind: peers see by it that the node restarted.
    pub(crate) boot: u64,
    pub(crate) config: NetworkConfig,
    pub(crate) metrics: Metrics,
    /// Set when strangers are told to go elsewhere. Their requests are still answered.
    pub(crate) farewell: CancellationToken,
    /// Set when no new request is taken, and peers' lanes are told to end.
    pub(crate) closing: CancellationToken,
    /// Requests being answered, until their answers are written; those on streams of their own, until the caller has
    /// them.
    pub(crate) requests: TaskTracker,
    /// Lanes being served, until the caller has all their answers.
    pub(crate) lanes: TaskTracker,
    /// Connections of strangers.
    pub(crate) strangers: TaskTracker,
    /// The member that was the last to say that this node was removed.
    pub(crate) removal: watch::Sender<Option<NodeId>>,
    /// The calls of strangers that have shown a good key. Others may not call.
    client_requests: Entrance,
    /// The requests that show a key or token, and ask for no more.
    introductions: Entrance,
    complaints: Complaints,
    handlers: RwLock<HashMap<Service, Arc<dyn Serve>>>,
    app: Handle,
}

impl Host {
    pub(crate) fn new(local: NodeId, config: NetworkConfig, app: Handle) -> Self {
        Self {
            local,
            boot: rand::random(),
            client_requests: Entrance::new(config.client_requests_max, config.client_body_bytes_max),
            introductions: Entrance::for_introductions(
                config.stranger_connections_max.saturating_add(config.client_connections_max),
            ),
            config,
            metrics: Metrics::new(),
            farewell: CancellationToken::new(),
            closing: CancellationToken::new(),
            requests: TaskTracker::new(),
            lanes: TaskTracker::new(),
            strangers: TaskTracker::new(),
            removal: watch::Sender::new(None),
            complaints: Complaints::default(),
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
        if caller == Caller::Stranger && !service.is_for_strangers() {
            let message = format!("service {service:?} is for members only");
            return Err(Failure::not_executed(ErrorCode::Untrusted, message));
        }
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(&service).cloned().ok_or_else(|| {
            Failure::not_executed(ErrorCode::Unavailable, format!("this node does not offer service {service:?}"))
        })
    }

    /// Answers one request. Runs where it is polled: on the handlers' runtime.
    pub(crate) async fn answer(&self, caller: Caller, request: Asked, deadline: Instant) -> Result<Bytes, Failure> {
        let Asked { service, key, body } = request;
        if self.closing.is_cancelled() {
            return Err(draining());
        }
        let handler = self.handler(caller, service)?;
        self.metrics.served.increment(1);
        self.metrics.received_bytes.increment(body.len() as u64);
        let work = async {
            match &key {
                Some(ShownKey(key)) => handler.call_with_key(key, body, deadline).await,
                None => handler.call(caller, body, deadline).await,
            }
        };
        let work = AssertUnwindSafe(work).catch_unwind();
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

    /// Makes sure that a stranger may send a request of `service` at all: with a good key, where one is needed.
    pub(super) async fn admit_key(&self, service: Option<Service>, key: Option<&ShownKey>) -> Result<(), Failure> {
        let handler = self.handler(Caller::Stranger, service)?;
        if !service.is_some_and(Service::is_for_clients) {
            return Ok(());
        }
        match key {
            Some(key) => handler.admit(&key.0).await,
            None => Err(Failure::not_executed(ErrorCode::Unauthenticated, NO_KEY)),
        }
    }

    /// A place for one request on a stranger's or client's connection with this share, if there is one.
    pub(super) fn admit(&self, share: &Share, service: Option<Service>) -> Option<Place> {
        let place = if service.is_some_and(Service::is_introduction) {
            share.introduction().and_then(|turn| self.introductions.admit(Some(turn)))
        } else {
            self.client_requests.admit(None)
        };
        if place.is_none() {
            self.metrics.overloads.increment(1);
        }
        place
    }

    /// Counts a frame that could not be read, and says so now and then.
    pub(super) fn complain(&self, caller: Caller, error: &dyn std::fmt::Display) {
        self.metrics.bad_frames.increment(1);
        match self.complaints.next(Instant::now()) {
            Some(unsaid) => tracing::warn!(?caller, %error, unsaid, "a frame that cannot be used ends its stream"),
            None => tracing::debug!(?caller, %error, "a frame that cannot be used ends its stream"),
        }
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

/// One request, as it arrived.
pub(crate) struct Asked {
    pub(crate) service: Option<Service>,
    /// A client's, which was found good before the body was read.
    pub(crate) key: Option<ShownKey>,
    pub(crate) body: Bytes,
}

/// What a node that shuts down answers.
pub(crate) fn draining() -> Failure {
    Failure::not_executed(ErrorCode::Draining, "this node is shutting down")
}

/// A peer that says more means for ever; nothing here waits that long.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

const NO_KEY: &str = "the request does not begin with a key: a client shows it in the first frame";

/// When the log was last told of something that anybody can cause as often as they like.
#[derive(Default)]
struct Complaints(Mutex<Said>);

#[derive(Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Whether the next one is to be said, and how many were not said before it.
    fn next(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now < last + COMPLAIN_EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

/// How often the log is told of bad frames: enough to notice, whoever sends them and how many.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_is_told_of_one_bad_frame_in_ten_seconds_and_of_how_many_there_were() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.next(now), Some(0));
        assert!((0..1_000).all(|_| complaints.next(now + COMPLAIN_EVERY / 2).is_none()));
        assert_eq!(complaints.next(now + COMPLAIN_EVERY), Some(1_000));
        assert_eq!(complaints.next(now + COMPLAIN_EVERY * 2), Some(0));
    }
}
