//! Failures on their way out: problem details (RFC 9457) with the headers that belong to them.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use skein_proto::{ErrorCode, Failure, InvocationId, ParseError};

use crate::api::Problem;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    failure: Box<Failure>,
    status: Option<StatusCode>,
    invocation: Option<InvocationId>,
}

impl Refusal {
    /// A request that is not of the form it must have.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Failure::not_executed(ErrorCode::BadRequest, message).into()
    }

    /// The same, with a status that says more than the code's own.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, naming the invocation it ended.
    pub(crate) fn of_invocation(mut self, id: InvocationId) -> Self {
        self.invocation = Some(id);
        self
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), status: None, invocation: None }
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut problem = Problem::of(*self.failure);
        problem.invocation = self.invocation;
        if let Some(status) = self.status {
            problem.status = status.as_u16();
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = retry_after_seconds(&problem) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"skein\""));
        }
        response
    }
}

/// Whole seconds, rounded up, as RFC 9110 has it. What is `overloaded` always says when to come back.
fn retry_after_seconds(problem: &Problem) -> Option<u64> {
    let after_ms = problem.retry_after_ms.or((problem.code == ErrorCode::Overloaded).then_some(1_000))?;
    Some(after_ms.div_ceil(1_000).max(1))
}

/// The answer to a path that no route has.
pub(crate) async fn no_route(uri: http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    Failure::not_executed(ErrorCode::NotFound, format!("there is nothing at `{path}`")).into()
}

/// The answer to a method that a route does not take. The router adds `Allow`.
pub(crate) async fn no_method(method: http::Method, uri: http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    Refusal::bad_request(format!("`{path}` does not take {method}")).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        for (ms, expected) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (30_000, "30")] {
            let failure = Failure::not_executed(ErrorCode::Unavailable, "x").retry_after(Duration::from_millis(ms));
            let response = Refusal::from(failure).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], expected, "{ms}");
        }
    }

    #[test]
    fn every_code_becomes_a_problem_of_its_status() {
        for code in ErrorCode::ALL {
            let response = Refusal::from(Failure::executed(*code, "x")).into_response();
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], Problem::MEDIA_TYPE);
        }
    }
}
