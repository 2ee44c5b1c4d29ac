//! Health, metrics, and what the node says about itself.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::header;
use skein_proto::{ErrorCode, Failure};

use super::{Admin, Asked, asked::to_json};
use crate::{api::ErrorPage, problem::Refusal};

/// 200 while the process serves at all.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while the node should be sent calls.
pub(super) async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let readiness = match admin.leaving.is_leaving() {
        true => Err(Failure::not_executed(ErrorCode::Draining, "the node is leaving")),
        false => admin.parts.operations.readiness(),
    };
    match readiness {
        Ok(()) => "ready\n".into_response(),
        Err(failure) => Refusal::from(failure).into_response(),
    }
}

/// The metrics in Prometheus's text form.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let text = (admin.parts.metrics_text)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// `GET /v1/config`.
pub(super) async fn config(asked: Asked) -> Result<Bytes, Refusal> {
    to_json(&asked.admin.parts.operations.config())
}

/// `GET /v1/openapi.json`.
pub(super) async fn openapi(asked: Asked) -> Result<Bytes, Refusal> {
    Ok(asked.admin.openapi.clone())
}

/// `GET /v1/errors/{code}`.
pub(super) async fn explain(asked: Asked) -> Result<Bytes, Refusal> {
    let text = asked.text("code");
    let Some(code) = ErrorCode::from_text(text) else {
        let text: String = text.chars().take(80).collect();
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let message = format!("there is no error code `{text}`; there are {}", codes.join(", "));
        return Err(Failure::not_executed(ErrorCode::NotFound, message).into());
    };
    to_json(&ErrorPage::from(code))
}
