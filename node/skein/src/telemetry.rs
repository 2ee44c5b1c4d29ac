//! The two process-wide things: the log subscriber and the metrics recorder.

mod log_writer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use skein_proto::{ErrorCode, Failure};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) use log_writer::{LOG_LINES_DROPPED, LogGuard};

/// Upper bounds of histogram buckets, in seconds: 100 µs to 10 s, about three to a decade.
const SECONDS: &[f64] =
    &[0.0001, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same for what the engine does and for runs of guests: 1 µs to a minute, two to a decade and then coarser.
const FINE_SECONDS: &[f64] = &[
    0.000_001, 0.000_003, 0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 15.0,
    60.0,
];

/// The runtime's histograms that have them.
const FINE: [&str; 2] = [skein_runtime::metrics::RUN_SECONDS, skein_runtime::metrics::INSTANTIATE_SECONDS];

/// openraft tells of each step at `info`, and at `warn` of each of several attempts a second to reach a voter that is
/// down. What an operator needs of it `skein-raft` says, and membership once, who is lost and who is back.
const DEFAULT_FILTER: &str = "info,openraft=error";

/// How often recorded values are put into their buckets. Until then each takes 16 bytes, of which a busy node records
/// some hundred thousand a second, whether anybody reads the metrics or not.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts structured logs on stderr. `SKEIN_LOG` chooses what is logged (`info` unless set, and `error` for openraft), `SKEIN_LOG_FORMAT=json`
/// makes each line a JSON object.
///
/// Each event is one line in which nothing is left that a terminal obeys but the log's own colours, which it has only on a
/// terminal; what others wrote has been rid of escape characters before they are added.
///
/// Logging is best effort: a line that cannot be written, or that finds the queue full because nobody reads the other
/// end, is dropped and counted ([`LOG_LINES_DROPPED`]); what logged it goes on. Dropping what is returned writes the
/// lines that are queued, for a second at most.
#[must_use = "lines that are queued are lost unless this is dropped at the end"]
pub(crate) fn start_logs() -> LogGuard {
    let filter = EnvFilter::try_from_env("SKEIN_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let is_json = std::env::var("SKEIN_LOG_FORMAT").is_ok_and(|format| format == "json");
    let has_colours = !is_json && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let (writer, guard) = log_writer::start(std::io::stderr(), has_colours);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // What it would say of a failed write it says by `eprintln!`, which panics where that fails, too.
        .log_internal_errors(false)
        .with_writer(writer);
    // A subscriber that is there already (another node of this process started it) goes on.
    let _ = if is_json { builder.json().try_init() } else { builder.with_ansi(has_colours).try_init() };
    guard
}

/// Starts the metrics recorder, once a process, and gives what renders it.
///
/// # Errors
/// `internal` if another recorder was installed.
pub(crate) fn start_metrics() -> Result<Arc<dyn Fn() -> String + Send + Sync>, Failure> {
    let failed = |error: String| Failure::not_executed(ErrorCode::Internal, format!("no metrics recorder: {error}"));
    if METRICS.get().is_none() {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Prefix("skein_engine_".to_owned()), FINE_SECONDS)
            })
            .and_then(|builder| {
                FINE.iter().try_fold(builder, |builder, name| {
                    builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), FINE_SECONDS)
                })
            })
            .map_err(|error| failed(error.to_string()))?
            .install_recorder()
            .map_err(|error| failed(error.to_string()))?;
        let _ = METRICS.set(handle);
    }
    Ok(Arc::new(|| {
        let handle = METRICS.get();
        handle
            .map(|handle| {
                handle.run_upkeep();
                handle.render()
            })
            .unwrap_or_default()
    }))
}

/// Puts what was recorded into buckets, again and again, so that a node whose metrics nobody reads does not grow.
pub(crate) async fn keep_small(stop: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Milliseconds of work on a busy node, for which no call should wait. An error means that it panicked, and then
        // the next period is as good.
        let _ = tokio::task::spawn_blocking(|| METRICS.get().map(PrometheusHandle::run_upkeep)).await;
        log_writer::count_dropped();
    }
}
