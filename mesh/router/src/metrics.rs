//! The names of what the router counts.

use std::time::Duration;

use metrics::{Counter, Histogram};
use skein_proto::Progress;

/// Attempts, by where (`place`: `here`, `peer`) and how they ended (`outcome`: `ok`, `not-executed`,
/// `maybe-executed`, `executed`). Counter.
pub const ATTEMPTS: &str = "skein_router_attempts_total";
/// Attempts after the first of a call. Counter.
pub const RETRIES: &str = "skein_router_retries_total";
/// Attempts because the activation was no longer where it was looked for, or not yet. Counter.
pub const REDIRECTS: &str = "skein_router_redirects_total";
/// Retries that the budget refused. Counter.
pub const REFUSED: &str = "skein_router_retries_refused_total";
/// Time to resolve the name and rank the nodes. Histogram.
pub const ROUTE: &str = "skein_router_route_seconds";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_counter!(ATTEMPTS, metrics::Unit::Count, "Attempts to run an invocation, by place and outcome.");
    metrics::describe_counter!(RETRIES, metrics::Unit::Count, "Attempts after the first of an invocation.");
    metrics::describe_counter!(REDIRECTS, metrics::Unit::Count, "Attempts after `moved`.");
    metrics::describe_counter!(REFUSED, metrics::Unit::Count, "Retries that the retry budget refused.");
    metrics::describe_histogram!(ROUTE, metrics::Unit::Seconds, "Time to resolve a name and rank the nodes.");
}

/// The handles that every call uses, looked up once.
pub(crate) struct Meters {
    route: Histogram,
    /// Attempts that went well, here and at a peer.
    here: Counter,
    peer: Counter,
}

impl Meters {
    /// The handles of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        let ok = |place: &'static str| metrics::counter!(ATTEMPTS, "place" => place, "outcome" => "ok");
        Self { route: metrics::histogram!(ROUTE), here: ok(HERE), peer: ok(PEER) }
    }

    pub(crate) fn routed(&self, time: Duration) {
        self.route.record(time.as_secs_f64());
    }

    /// Counts an attempt that ended, and how far the failed one had come.
    pub(crate) fn attempted(&self, is_here: bool, failed: Option<Progress>) {
        let place = if is_here { HERE } else { PEER };
        match failed {
            None if is_here => self.here.increment(1),
            None => self.peer.increment(1),
            Some(progress) => {
                metrics::counter!(ATTEMPTS, "place" => place, "outcome" => progress.as_str()).increment(1);
            }
        }
    }
}

const HERE: &str = "here";
const PEER: &str = "peer";

pub(crate) fn retried(is_redirect: bool) {
    metrics::counter!(RETRIES).increment(1);
    if is_redirect {
        redirected();
    }
}

/// Counts a call that was sent on. Only a retry if nobody said where to.
pub(crate) fn redirected() {
    metrics::counter!(REDIRECTS).increment(1);
}

pub(crate) fn refused() {
    metrics::counter!(REFUSED).increment(1);
}
