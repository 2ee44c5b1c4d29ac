//! The admin listener: the REST API from its route table, the console, metrics and health.
//!
//! The table says who may do what; a handler is only reached by a caller that may.

mod apps;
mod asked;
mod calls;
mod functions;
mod health;
mod keys;
mod nodes;
mod publish;
pub(crate) mod route;
mod search;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts as _, Path, Request, State},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, get, on},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    GatewayConfig, Parts,
    body::Inbound,
    console,
    entrance::Entrance,
    listener::Leaving,
    openapi,
    problem::{Refusal, no_method, no_route},
};

pub(crate) use asked::Asked;
pub(crate) use route::{Access, ROUTES, Route, Scope};

/// What the admin API needs.
pub(crate) struct Admin {
    pub(crate) entrance: Entrance,
    pub(crate) parts: Parts,
    pub(crate) leaving: Leaving,
    openapi: Bytes,
}

/// The routes of the admin listener.
pub(crate) fn router(parts: &Parts, leaving: &Leaving, config: &GatewayConfig) -> Router {
    let entrance = Entrance::new(parts.consensus.clone(), config);
    let openapi = Bytes::from(openapi::document(ROUTES).to_string());
    let admin = Arc::new(Admin { entrance, parts: parts.clone(), leaving: leaving.clone(), openapi });
    let mut router = Router::new()
        .route("/", get(console::page))
        .route("/console.js", get(console::script))
        .route("/console.css", get(console::style))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    for route in ROUTES {
        let handler = move |State(admin), request| dispatch(route, admin, request);
        router = router.route(route.path, on(method_filter(&route.method), handler));
    }
    router.fallback(no_route).method_not_allowed_fallback(no_method).with_state(admin)
}

fn method_filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET)
}

/// Admits, authorizes and answers one request of the table.
async fn dispatch(route: &'static Route, admin: Arc<Admin>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let inbound = Inbound::new(&head, body);
    let _permit = match admin.entrance.permit() {
        Ok(permit) => permit,
        Err(refusal) => return refusal.into_response(),
    };
    let admitted = async {
        let Path(params) = Path::from_request_parts(&mut head, &())
            .await
            .map_err(|_| Refusal::bad_request("the path is not percent-encoded UTF-8"))?;
        let asked = Asked::new(admin, head, params);
        asked.admit(&route.access).await
    };
    let asked = match admitted.await {
        Ok(asked) => asked,
        Err(refusal) => {
            inbound.discard().await;
            return refusal.into_response();
        }
    };
    match (route.handler)(asked, inbound).await {
        Ok(body) => answer(route.status, body),
        Err(refusal) => refusal.into_response(),
    }
}

fn answer(status: StatusCode, json: Bytes) -> Response {
    let mut response = (status, json).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
