//! No call runs twice unless it says that it may; what is said not to have run has not; what was answered has.

use skein_proto::Progress;

use crate::history::{Call, Events};

/// The calls that ran more or less often than they were said to.
pub fn check(events: &Events) -> Vec<String> {
    let mut runs = vec![0; events.calls.len()];
    for execution in &events.executions {
        runs[execution.call] += 1;
    }
    let wrong = events.calls.iter().zip(runs).enumerate();
    wrong.filter_map(|(number, (call, runs))| judge(call, runs).map(|what| format!("call {number} {what}"))).collect()
}

fn judge(call: &Call, runs: usize) -> Option<String> {
    if runs > 1 && !call.is_repeatable {
        return Some(format!("ran {runs} times"));
    }
    match &call.ended {
        Some((at, Ok(node))) if runs == 0 => Some(format!("was answered at {at:?} by node {node} and never ran")),
        Some((at, Err(failure))) if failure.progress == Progress::NotExecuted && runs > 0 => {
            Some(format!("ran {runs} times, and at {at:?} was said not to have run: {failure}"))
        }
        _ => None,
    }
}
