//! The names of what the router counts.

use std::time::Duration;

/// Attempts, by where (`place`: `here`, `peer`) and how they ended (`outcome`: `ok`, `not-executed`,
/// `maybe-executed`, `executed`). Counter.
pub const ATTEMPTS: &str = "skein_router_attempts_total";
/// Attempts after the first of a call. Counter.
pub const RETRIES: &str = "skein_router_retries_total";
/// Retries because the activation was no longer where it was looked for, or not yet. Counter.
pub const REDIRECTS: &str = "skein_router_redirects_total";
/// Retries that the budget refused. Counter.
pub const REFUSED: &str = "skein_router_retries_refused_total";
/// Time to resolve the name and rank the nodes. Histogram.
pub const ROUTE: &str = "skein_router_route_seconds";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_counter!(ATTEMPTS, metrics::Unit::Count, "Attempts to run an invocation, by place and outcome.");
    metrics::describe_counter!(RETRIES, metrics::Unit::Count, "Attempts after the first of an invocation.");
    metrics::describe_counter!(REDIRECTS, metrics::Unit::Count, "Retries after `moved`.");
    metrics::describe_counter!(REFUSED, metrics::Unit::Count, "Retries that the retry budget refused.");
    metrics::describe_histogram!(ROUTE, metrics::Unit::Seconds, "Time to resolve a name and rank the nodes.");
}

pub(crate) fn attempted(is_here: bool, outcome: &'static str) {
    let place = if is_here { "here" } else { "peer" };
    metrics::counter!(ATTEMPTS, "place" => place, "outcome" => outcome).increment(1);
}

pub(crate) fn retried(is_redirect: bool) {
    metrics::counter!(RETRIES).increment(1);
    if is_redirect {
        metrics::counter!(REDIRECTS).increment(1);
    }
}

pub(crate) fn refused() {
    metrics::counter!(REFUSED).increment(1);
}

pub(crate) fn routed(time: Duration) {
    metrics::histogram!(ROUTE).record(time.as_secs_f64());
}
