//! Every call ends: with an answer or a failure, at its deadline at the latest, unless its node was cut off the power.

use std::time::Duration;

use crate::history::Events;

/// Timers fire in whole ticks, and what fails at a deadline needs one more to say so.
const GRACE: Duration = Duration::from_millis(100);

/// The calls that lasted too long.
pub fn check(events: &Events) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, call) in events.calls.iter().enumerate() {
        match &call.ended {
            Some((at, _)) if *at > call.began + call.patience + GRACE => {
                wrong.push(format!("call {number} was to end by {:?} and did at {at:?}", call.began + call.patience));
            }
            Some(_) => {}
            // Its caller went away with its node.
            None if events.boots.get(&call.boot).is_some_and(Option::is_some) => {}
            None => wrong.push(format!("call {number}, begun at {:?}, never ended", call.began)),
        }
    }
    wrong
}
