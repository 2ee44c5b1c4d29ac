//! What the gateway counts, and how a request is measured.

use std::borrow::Cow;

use http::StatusCode;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::Instant;

/// Requests answered, by route class and status. A client that went away counts as `499`.
pub(crate) const REQUESTS: &str = "skein_gateway_requests_total";
/// Requests being answered, by route class.
pub(crate) const IN_FLIGHT: &str = "skein_gateway_in_flight_requests";
/// Time to the answer's head, by route class.
pub(crate) const SECONDS: &str = "skein_gateway_request_seconds";
/// Open connections, by listener.
pub(crate) const CONNECTIONS: &str = "skein_gateway_open_connections";

/// Gives the metrics their descriptions.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "requests answered, by route class and status");
    describe_gauge!(IN_FLIGHT, Unit::Count, "requests being answered, by route class");
    describe_histogram!(SECONDS, Unit::Seconds, "time from a request's head to its answer's head, by route class");
    describe_gauge!(CONNECTIONS, Unit::Count, "open connections, by listener");
}

/// The kind of route a path belongs to: few, so that labels stay few.
pub(crate) fn route_class(path: &str) -> &'static str {
    match path {
        "/" | "/console.js" | "/console.css" => "console",
        "/healthz" | "/readyz" | "/metrics" => "health",
        path if path.starts_with("/fn/") => "call",
        path if path.starts_with("/v1/") => "admin",
        _ => "other",
    }
}

/// One request being answered; counts it when it ends, however it ends.
pub(crate) struct Measured {
    route: &'static str,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Measured {
    pub(crate) fn begin(route: &'static str) -> Self {
        gauge!(IN_FLIGHT, "route" => route).increment(1);
        Self { route, begun: Instant::now(), status: None }
    }

    pub(crate) fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "route" => self.route).decrement(1);
        histogram!(SECONDS, "route" => self.route).record(self.begun.elapsed().as_secs_f64());
        counter!(REQUESTS, "route" => self.route, "status" => status_text(self.status)).increment(1);
    }
}

/// The status as a label, without an allocation for the common ones. None: the future was dropped, so the client left.
fn status_text(status: Option<StatusCode>) -> Cow<'static, str> {
    match status.map(|status| status.as_u16()) {
        None => Cow::Borrowed("499"),
        Some(200) => Cow::Borrowed("200"),
        Some(other) => Cow::Owned(other.to_string()),
    }
}
