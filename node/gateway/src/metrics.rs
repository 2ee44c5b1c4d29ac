//! What the gateway counts, and how a request is measured.

use std::sync::Arc;

use http::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::time::Instant;

/// Requests answered, by route class and status. A client that went away counts as `499`.
pub(crate) const REQUESTS: &str = "skein_gateway_requests_total";
/// Requests being answered, by route class.
pub(crate) const IN_FLIGHT: &str = "skein_gateway_in_flight_requests";
/// Time to the answer's head, by route class.
pub(crate) const SECONDS: &str = "skein_gateway_request_seconds";
/// Open connections, by listener.
pub(crate) const CONNECTIONS: &str = "skein_gateway_open_connections";

/// Connections that the gateway ended, by listener and reason.
pub(crate) const ENDED: &str = "skein_gateway_connections_ended_total";

/// Gives the metrics their descriptions.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "requests answered, by route class and status");
    describe_gauge!(IN_FLIGHT, Unit::Count, "requests being answered, by route class");
    describe_histogram!(SECONDS, Unit::Seconds, "time from a request's head to its answer's head, by route class");
    describe_gauge!(CONNECTIONS, Unit::Count, "open connections, by listener");
    describe_counter!(
        ENDED,
        Unit::Count,
        "connections that the gateway ended, by listener and reason: idle for too long (idle), to make way for others \
         (crowded), too many of one address (address), answers that were not read (unread)"
    );
}

/// The kind of route a path belongs to: few, so that labels stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Console,
    Health,
    Call,
    Admin,
    Other,
}

impl Route {
    const ALL: [Self; 5] = [Self::Console, Self::Health, Self::Call, Self::Admin, Self::Other];

    /// The route of a request's path.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/" | "/console.js" | "/console.css" => Self::Console,
            "/healthz" | "/readyz" | "/metrics" => Self::Health,
            path if path.starts_with("/fn/") => Self::Call,
            path if path.starts_with("/v1/") => Self::Admin,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Health => "health",
            Self::Call => "call",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

/// The handles that requests use, looked up once: the recorder hashes names and labels to find one.
#[derive(Clone)]
pub(crate) struct Meters(Arc<[RouteMeters]>);

struct RouteMeters {
    in_flight: Gauge,
    seconds: Histogram,
    /// Requests answered with 200; other statuses are looked up when they occur.
    ok: Counter,
}

impl Meters {
    /// The handles of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        let meters = |route: Route| RouteMeters {
            in_flight: gauge!(IN_FLIGHT, "route" => route.as_str()),
            seconds: histogram!(SECONDS, "route" => route.as_str()),
            ok: counter!(REQUESTS, "route" => route.as_str(), "status" => "200"),
        };
        Self(Route::ALL.into_iter().map(meters).collect())
    }

    /// A request that begins now.
    pub(crate) fn begin(&self, route: Route) -> Measured<'_> {
        let meters = &self.0[route as usize];
        meters.in_flight.increment(1);
        Measured { meters, route, begun: Instant::now(), status: None }
    }
}

/// One request being answered; counts it when it ends, however it ends.
pub(crate) struct Measured<'a> {
    meters: &'a RouteMeters,
    route: Route,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Measured<'_> {
    pub(crate) fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.meters.in_flight.decrement(1);
        self.meters.seconds.record(self.begun.elapsed().as_secs_f64());
        if self.status == Some(StatusCode::OK) {
            self.meters.ok.increment(1);
            return;
        }
        // None: the future was dropped, so the client left.
        let status = self.status.map_or(499, |status| status.as_u16()).to_string();
        counter!(REQUESTS, "route" => self.route.as_str(), "status" => status).increment(1);
    }
}
