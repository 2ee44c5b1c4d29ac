//! Bodies on their way in: read whole, but never more than a limit, never for ever, and together never more than a
//! budget. What has arrived counts, not what was announced.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{StatusCode, Version, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use skein_proto::{ErrorCode, Failure};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout_at},
};

use crate::{GatewayConfig, problem::Refusal, shares::ShareOfBytes};

/// What bodies of one listener may take.
#[derive(Clone)]
pub(crate) struct BodyPolicy {
    idle: Duration,
    total: Duration,
    /// One permit for each [`UNIT_BYTES`] that may still be held.
    budget: Arc<Semaphore>,
}

/// The grain of the budget; fine enough, and a budget of 512 MiB is still few permits.
const UNIT_BYTES: usize = 1 << 10;

/// Most bytes read and thrown away after a refusal, so that a client that is still sending gets to read the answer
/// instead of a reset connection. 128 MiB: twice the largest artifact, which is what is refused for its size most; nothing of it is kept.
const DISCARD_BYTES_MAX: usize = 128 << 20;
/// Longest time spent on that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes reserved on the word of a `content-length` alone.
const RESERVE_BYTES_MAX: usize = 1 << 20;

impl BodyPolicy {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let units = (config.body_bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { idle: config.body_idle_timeout, total: config.body_timeout, budget: Arc::new(Semaphore::new(units)) }
    }
}

/// Bytes with their share of the budget, given back when this is dropped.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _share: Budget,
}

/// How one body may arrive.
pub(crate) struct Allowed<'a> {
    pub(crate) bodies: &'a BodyPolicy,
    /// Most bytes.
    pub(crate) most: u64,
    /// By when it must be there, if not only in the time that all bodies have.
    pub(crate) deadline: Option<Instant>,
    /// What its sender may have here.
    pub(crate) share: Option<ShareOfBytes>,
}

/// A body that has not been read.
pub(crate) struct Inbound {
    body: Body,
    /// Whether throwing the rest away helps: HTTP/2 ends a stream without ending the connection, and who expects
    /// `100 Continue` sends nothing before it.
    is_discardable: bool,
}

impl Inbound {
    pub(crate) fn new(head: &Parts, body: Body) -> Self {
        let is_discardable = head.version <= Version::HTTP_11 && !head.headers.contains_key(header::EXPECT);
        Self { body, is_discardable }
    }

    /// Reads it all, if that is allowed; each piece passes `on_piece`.
    pub(crate) async fn read(
        mut self,
        allowed: Allowed<'_>,
        on_piece: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Held, Refusal> {
        match self.collect(allowed, on_piece).await {
            Ok(held) => Ok(held),
            Err(refusal) => {
                self.discard().await;
                Err(refusal)
            }
        }
    }

    async fn collect(
        &mut self,
        allowed: Allowed<'_>,
        on_piece: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Held, Refusal> {
        let Allowed { bodies, most, deadline, share } = allowed;
        let announced = self.body.size_hint().lower();
        if announced > most {
            return Err(too_large(most));
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let end = Instant::now() + bodies.total;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        let mut budget = Budget { of_all: bodies.budget.clone(), permit: None, units: 0, own: share };
        let mut bytes = BytesMut::new();
        let mut first = Bytes::new();
        while !self.body.is_end_stream() {
            let until = end.min(Instant::now() + bodies.idle);
            let Ok(frame) = timeout_at(until, self.body.frame()).await else {
                return Err(too_slow(deadline));
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| Refusal::bad_request("the body broke off before its end"))?;
            let Ok(piece) = frame.into_data() else { continue };
            let total = first.len() + bytes.len() + piece.len();
            if total > most {
                return Err(too_large(most as u64));
            }
            budget.grow_to(total)?;
            on_piece(&piece);
            if first.is_empty() && bytes.is_empty() {
                first = piece;
                continue;
            }
            if !first.is_empty() {
                bytes.reserve(usize::try_from(announced).unwrap_or(0).min(RESERVE_BYTES_MAX).max(total));
                bytes.extend_from_slice(&std::mem::take(&mut first));
            }
            bytes.extend_from_slice(&piece);
        }
        let bytes = if bytes.is_empty() { first } else { bytes.freeze() };
        Ok(Held { bytes, _share: budget })
    }

    /// Reads some of the rest and throws it away.
    pub(crate) async fn discard(mut self) {
        if !self.is_discardable || self.body.is_end_stream() {
            return;
        }
        let end = Instant::now() + DISCARD_TIMEOUT;
        let mut left = DISCARD_BYTES_MAX;
        while let Ok(Some(Ok(frame))) = timeout_at(end, self.body.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }
}

/// What one body has taken of the budgets.
struct Budget {
    of_all: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    units: usize,
    own: Option<ShareOfBytes>,
}

impl Budget {
    /// Takes what is missing for `bytes` in all. Never waits: bodies that wait for each other could wait for ever.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.div_ceil(UNIT_BYTES);
        let missing = units.saturating_sub(self.units);
        if missing == 0 {
            return Ok(());
        }
        if let Some(own) = &mut self.own {
            own.grow_to(units * UNIT_BYTES)?;
        }
        let count = u32::try_from(missing).unwrap_or(u32::MAX);
        match self.of_all.clone().try_acquire_many_owned(count) {
            Ok(more) => match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            },
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                return Err(overloaded("this node holds as many request bodies as it may"));
            }
        }
        self.units = units;
        Ok(())
    }
}

/// A refusal that says to come back in a second.
pub(crate) fn overloaded(message: &str) -> Refusal {
    Failure::not_executed(ErrorCode::Overloaded, message).retry_after(Duration::from_secs(1)).into()
}

fn too_large(most: u64) -> Refusal {
    Failure::not_executed(ErrorCode::TooLarge, format!("the body is larger than {most} bytes, the limit here")).into()
}

fn too_slow(deadline: Option<Instant>) -> Refusal {
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let message = "the deadline passed before the body had arrived";
        return Failure::not_executed(ErrorCode::DeadlineExceeded, message).into();
    }
    Refusal::bad_request("the body did not arrive in time").with_status(StatusCode::REQUEST_TIMEOUT)
}
