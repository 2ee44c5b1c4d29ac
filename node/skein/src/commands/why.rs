//! `skein why`: where a call went, why there, and where its time went.

use std::fmt::Write;

use skein_gateway::api::{WhyFailure, WhyReport};
use skein_proto::{Failure, InvocationId};

use super::admin;
use crate::{
    cli::Common,
    output::{emit, micros, table, time},
    terminal::one_line,
};

pub(super) async fn why(common: &Common, invocation: InvocationId) -> Result<(), Failure> {
    let report: WhyReport = admin(common)?.get(&format!("/v1/invocations/{invocation}/why")).await?;
    emit(common.json, &report, || page(&report))
}

fn page(report: &WhyReport) -> String {
    let mut page = String::new();
    let mut line = |what: &str, says: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{what:<11} {}", one_line(&says));
    };
    line("invocation", report.invocation.to_string());
    line("function", report.function.clone().unwrap_or_else(|| "none: the name meant nothing".to_owned()));
    line("taken by", format!("{} at {}", report.taken_by, time(report.at_ms)));
    if let Some(caller) = report.caller {
        line("made by", format!("{caller}, {} deep", report.depth));
    }
    line("ran on", report.ran_on.as_ref().map_or("no node".to_owned(), ToString::to_string));
    line("why there", report.placed.clone());
    if !report.started.is_empty() {
        line("start", report.started.clone());
    }
    if let Some(failure) = &report.failure {
        line("failed", told(failure));
    }
    let times = &report.times;
    let parts = [
        ("route", times.route_us),
        ("retry", times.retry_us),
        ("queue", times.queue_us),
        ("start", times.start_us),
        ("run", times.run_us),
        ("return", times.return_us),
    ];
    let parts = parts.map(|(name, us)| format!("{name} {}", micros(us)));
    line("time", format!("{} = {}", micros(times.total_us), parts.join(" + ")));
    let _ = write!(page, "\n{}", candidates(report));
    if report.attempts.len() > 1 || report.failure.is_some() && !report.attempts.is_empty() {
        let _ = write!(page, "\n{}", attempts(report));
    }
    if !report.made.is_empty() {
        let _ = write!(page, "\n{}", made(report));
    }
    page
}

fn candidates(report: &WhyReport) -> String {
    let rows = report.candidates.iter().map(|one| {
        let mark = if one.is_chosen { " *" } else { "" };
        vec![format!("{}{mark}", one.node), one.group.clone(), one.figures.clone(), one.reason.clone()]
    });
    let mut table = table(&["CANDIDATE", "GROUP", "SCORE", "WHY"], rows);
    let left_out = report.candidates_total.saturating_sub(report.candidates.len());
    if left_out > 0 {
        let _ = writeln!(table, "and {left_out} more behind them");
    }
    if report.rankings > 1 {
        let _ = writeln!(table, "ranked {} times, the last after a node knew a newer catalogue", report.rankings);
    }
    table
}

fn attempts(report: &WhyReport) -> String {
    let rows = report.attempts.iter().map(|attempt| {
        let outcome = attempt.failure.as_ref().map_or("ok".to_owned(), told);
        vec![attempt.node.to_string(), micros(attempt.after_us), micros(attempt.took_us), outcome]
    });
    table(&["ATTEMPT", "AFTER", "TOOK", "OUTCOME"], rows)
}

fn made(report: &WhyReport) -> String {
    let rows = report.made.iter().map(|call| {
        let node = call.ran_on.as_ref().map_or("-".to_owned(), ToString::to_string);
        let outcome = call.failure.as_ref().map_or("ok".to_owned(), told);
        let function = call.function.clone().unwrap_or_else(|| "-".to_owned());
        vec![call.invocation.to_string(), function, node, micros(call.took_us), outcome]
    });
    table(&["CALLED", "FUNCTION", "ON", "TOOK", "OUTCOME"], rows)
}

fn told(failure: &WhyFailure) -> String {
    format!("{} [{}, {}]", failure.message, failure.code, failure.progress.as_str())
}
