//! `ANY /fn/{app}/{name}…`: one HTTP request becomes one invocation, its reply the response.
//!
//! Everything that can be refused without the body is refused before the body is read. The future is dropped when the
//! client goes away, and the invocation with it.

mod headers;
mod path;
mod trace;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, header, request::Parts as Head};
use skein_catalog::{Catalog, Role};
use skein_proto::{ErrorCode, Failure, FunctionRef, Invocation, InvocationId, Invoke, Limits, Reply};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use uuid::fmt::Hyphenated;

use crate::{
    GatewayConfig, KeyIdentity, Operations, Parts,
    body::{Allowed, Inbound, overloaded},
    entrance::{Entrance, index_min},
    listener::Front,
    places::Here,
    problem::{Refusal, no_route},
    shares::Share,
};

/// What a call without a deadline of its own may take beyond its function's: waiting for a permit, and for a first
/// activation.
const DEADLINE_MARGIN: Duration = Duration::from_secs(2);
/// How much later than the deadline the gateway gives up on a part that should have answered by then.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// Most headers of an answer, ours and hyper's: room for them is made once.
const HEADERS_MAX: usize = 12;

/// What calls need.
pub(crate) struct Calls {
    entrance: Entrance,
    invoke: Arc<dyn Invoke>,
    operations: Arc<dyn Operations>,
}

/// What answers on the data plane: calls, and a refusal of everything else.
pub(crate) fn front(parts: &Parts, config: &GatewayConfig) -> Front {
    let entrance = Entrance::new(parts.consensus.clone(), config);
    let calls = Arc::new(Calls { entrance, invoke: parts.invoke.clone(), operations: parts.operations.clone() });
    Front { calls: Some(calls), router: Router::new().fallback(no_route) }
}

const INVOCATION: HeaderName = HeaderName::from_static("skein-invocation");
const VERSION: HeaderName = HeaderName::from_static("skein-version");
const NODE: HeaderName = HeaderName::from_static("skein-node");
const START: HeaderName = HeaderName::from_static("skein-start");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A request that may go on, before its body is read.
struct Admitted {
    reference: FunctionRef,
    rest: String,
    catalog: Arc<Catalog>,
    /// By when the caller wants the answer, if it said so.
    deadline: Option<Instant>,
    /// The function's own deadline, for a caller that did not.
    limits: Limits,
    index_min: u64,
    share: Share,
    _permit: OwnedSemaphorePermit,
}

impl Calls {
    /// Answers one call.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let id = InvocationId::random();
        let traceparent = trace::traceparent(&head.headers, id, rand::random());
        let mut response = match self.run(id, &traceparent, &head, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.of_invocation(id).into_response(),
        };
        let headers = response.headers_mut();
        set(headers, INVOCATION, id.0.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]));
        set(headers, HeaderName::from_static(trace::TRACEPARENT), &traceparent);
        response
    }

    async fn run(
        &self,
        id: InvocationId,
        traceparent: &Arc<str>,
        head: &Head,
        body: Body,
    ) -> Result<Response, Refusal> {
        let inbound = Inbound::new(head, body);
        let admitted = match self.admit(head).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                inbound.discard().await;
                return Err(refusal);
            }
        };
        let allowed = Allowed {
            bodies: &self.entrance.bodies,
            most: admitted.limits.payload_bytes,
            deadline: admitted.deadline,
            share: Some(admitted.share.bytes()),
        };
        let held = inbound.read(allowed, &mut |_| {}).await?;
        if let Some(here) = head.extensions.get::<Here>() {
            here.let_in();
            if !here.has_room() {
                return Err(overloaded("clients have not read as many answers of this node as it may hold"));
            }
        }
        let default = || Instant::now() + Duration::from_millis(admitted.limits.deadline_ms) + DEADLINE_MARGIN;
        let deadline = admitted.deadline.unwrap_or_else(default);
        let mut invocation = Invocation::with_id(id, admitted.reference, held.bytes.clone(), deadline);
        invocation.headers = headers::forwarded(head, admitted.rest)?.into();
        invocation.traceparent = Some(traceparent.clone());
        invocation.index_min = admitted.index_min;
        invocation.is_idempotent = head.headers.contains_key("idempotency-key");
        let reply = match timeout_at(deadline + DEADLINE_GRACE, self.invoke.invoke(invocation)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let message = "the call did not end by its deadline";
                return Err(Failure::maybe_executed(ErrorCode::DeadlineExceeded, message).into());
            }
        };
        Ok(answer(&admitted.catalog, reply))
    }

    /// Everything that can be decided by the head alone. The key comes before anything that tells what exists.
    async fn admit(&self, head: &Head) -> Result<Admitted, Refusal> {
        let begun = Instant::now();
        let permit = self.entrance.permit()?;
        let path::CallPath { reference, rest } = path::parse(head.uri.path())?;
        let deadline = headers::deadline(&head.headers)?.map(|deadline| begun + deadline);
        headers::refuse_async(&head.headers)?;
        // Before the key: a catalogue that is behind does not know of its end, or of its making.
        if !self.operations.is_serving() {
            self.operations.until_serving().await?;
        }
        let is_let_in = |caller: &KeyIdentity| caller.allow(Role::Invoke, Some(&reference.app));
        let (catalog, caller) = self.entrance.catalog_for(&head.headers, deadline, is_let_in).await?;
        let share = self.entrance.share(&caller)?;
        let limits = catalog.resolve(&reference)?.version.manifest.limits;
        let index_min = index_min(&head.headers)?;
        Ok(Admitted { reference, rest, catalog, deadline, limits, index_min, share, _permit: permit })
    }
}

/// The response that stands for a reply.
fn answer(catalog: &Catalog, reply: Reply) -> Response {
    let content_type = headers::content_type(&reply.payload);
    let mut response = Response::new(Body::from(reply.payload));
    let headers = response.headers_mut();
    headers.reserve(HEADERS_MAX);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VERSION, HeaderValue::from(reply.version.number));
    headers.insert(START, HeaderValue::from_static(reply.start.as_str()));
    match catalog.member(reply.node) {
        Some(member) => set(headers, NODE, member.name.as_str()),
        None => set(headers, NODE, &reply.node.to_string()),
    }
    set(headers, SERVER_TIMING, &headers::server_timing(&reply.usage));
    response
}

/// Sets a header whose value is ours, and so always valid.
fn set(headers: &mut http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
