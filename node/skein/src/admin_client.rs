//! The admin API as the commands use it: one request, tried at each node of the context in turn.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use skein_client::Context;
use skein_gateway::api::Problem;
use skein_proto::{ErrorCode, Failure};

/// Longest wait for a TCP connection to one node, so that a dead one does not use up the whole deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for an answer, unless the command says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for what is only read: every node answers that at once, from memory; one that does not is passed over.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// A client of the admin API of any node in a context.
pub(crate) struct AdminClient {
    http: reqwest::Client,
    context: Context,
    timeout: Duration,
}

/// One request, the same at whichever node.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Body<'a>,
    /// The catalogue applies what comes twice under one key once.
    key: uuid::Uuid,
}

/// What travels in a request.
enum Body<'a> {
    Nothing,
    Json(serde_json::Value),
    Bytes(&'a [u8]),
}

impl AdminClient {
    /// # Errors
    /// `internal` if the system gives no sockets.
    pub(crate) fn new(context: Context) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("no HTTP client: {error}")))?;
        Ok(Self { http, context, timeout: REQUEST_TIMEOUT })
    }

    /// The context it was made of.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The same, waiting this long for an answer.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.request(Method::GET, path, Body::Nothing).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.request(Method::POST, path, Body::Json(to_json(body)?)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.request(Method::PUT, path, Body::Json(to_json(body)?)).await
    }

    pub(crate) async fn put_bytes<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T, Failure> {
        self.request(Method::PUT, path, Body::Bytes(bytes)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.request(Method::DELETE, path, Body::Nothing).await
    }

    /// Sends the request to the first node that answers. One that certainly did not run may be tried at the next; all
    /// of them carry the same idempotency key, so that the catalogue applies a repeated one once.
    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body<'_>) -> Result<T, Failure> {
        let ask = Ask { method, path, body, key: uuid::Uuid::now_v7() };
        let mut last = Failure::not_executed(ErrorCode::Unreachable, "the context names no node");
        for node in &self.context.nodes {
            match self.ask(&node.admin, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if may_try_next(&failure) => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    async fn ask<T: DeserializeOwned>(&self, admin: &str, ask: &Ask<'_>) -> Result<T, Failure> {
        let path = ask.path;
        let is_read = ask.method == Method::GET;
        let mut request = self
            .http
            .request(ask.method.clone(), format!("http://{admin}{path}"))
            .timeout(if is_read { READ_TIMEOUT } else { self.timeout })
            .bearer_auth(&self.context.key)
            .header("idempotency-key", ask.key.to_string());
        request = match &ask.body {
            Body::Nothing => request,
            Body::Json(json) => request.json(json),
            Body::Bytes(bytes) => request.body(bytes.to_vec()),
        };
        let response = request.send().await.map_err(|error| match unreachable(admin, &error) {
            failure if is_read => Failure::not_executed(ErrorCode::Unreachable, failure.message),
            failure => failure,
        })?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| lost(admin, &error))?;
        if status.is_success() {
            let bytes = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
            return serde_json::from_slice(bytes).map_err(|error| {
                let message = format!("{admin} answered {path} with something this release cannot read: {error}");
                Failure::maybe_executed(ErrorCode::Malformed, message)
            });
        }
        Err(problem(admin, status, &bytes))
    }
}

fn to_json(body: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(body).map_err(|error| Failure::not_executed(ErrorCode::Internal, error.to_string()))
}

fn may_try_next(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Unreachable | ErrorCode::PeerLost | ErrorCode::Draining)
}

fn unreachable(admin: &str, error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        return Failure::not_executed(ErrorCode::Unreachable, format!("no node answers at {admin}"));
    }
    if error.is_timeout() {
        return Failure::maybe_executed(ErrorCode::DeadlineExceeded, format!("{admin} did not answer in time"));
    }
    lost(admin, error)
}

fn lost(admin: &str, error: &reqwest::Error) -> Failure {
    Failure::maybe_executed(ErrorCode::PeerLost, format!("the connection to {admin} broke: {error}"))
}

/// The failure in a problem-details body (RFC 9457).
fn problem(admin: &str, status: StatusCode, body: &[u8]) -> Failure {
    serde_json::from_slice::<Problem>(body).map(Failure::from).unwrap_or_else(|_| {
        let message = format!("{admin} answered {status}, and not as a Skein node does");
        Failure::maybe_executed(ErrorCode::Malformed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_details_become_the_failure_they_came_from() {
        let failure = Failure::not_executed(ErrorCode::NoQuorum, "no majority").retry_after(Duration::from_millis(5));
        let body = serde_json::to_vec(&Problem::of(failure.clone())).unwrap();
        assert_eq!(problem("a:1", StatusCode::SERVICE_UNAVAILABLE, &body), failure);
    }

    #[test]
    fn an_answer_that_is_no_problem_document_still_says_where_it_came_from() {
        let failure = problem("a:1", StatusCode::BAD_GATEWAY, b"<html>");
        assert!(failure.message.contains("a:1") && failure.message.contains("502"), "{failure}");
    }
}
