//! What the benchmark of an imbalance found, as rows of a table.

use std::time::Duration;

use tokio::time::Instant;

use super::{Moves, NODES, ROW, Seen};
use crate::{
    callers::Answered,
    report::{Sample, micros},
};

/// A time in which nothing was changed from outside.
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// What each node used of a core.
    pub(super) cores: Vec<f64>,
    /// Versions that were live on each node at its end.
    pub(super) live: Vec<usize>,
}

impl Phase {
    /// The calls that ended in it.
    pub(super) fn calls<'a>(&self, calls: &'a [Answered]) -> impl Iterator<Item = &'a Answered> {
        within(self.from, self.to, calls)
    }
}

fn within(from: Instant, to: Instant, calls: &[Answered]) -> impl Iterator<Item = &Answered> {
    calls.iter().filter(move |call| call.failure.is_none() && call.at >= from && call.at < to)
}

fn sample(from: Instant, to: Instant, calls: &[Answered]) -> Sample {
    Sample::of(within(from, to, calls).map(|call| call.took).collect(), to - from)
}

/// Prints all phases in their order; the first is what the others are compared with.
pub(super) fn table(phases: &[Phase], spreading: &[Seen], calls: &[Answered]) {
    println!(
        "  {:<26} {:>8} {:>6} {:>8} {:>8}  {:<16} {:<12} cores used by each",
        "", "calls/s", "×", "p50 ms", "p99 ms", "calls ran on", "live on"
    );
    let base = phases.first().map_or(1.0, |even| sample(even.from, even.to, calls).per_second);
    for phase in phases {
        if phase.name.starts_with("let go") {
            rows(base, spreading, calls);
        }
        let cores: Vec<_> = phase.cores.iter().map(|cores| format!("{cores:.2}")).collect();
        let live: Vec<_> = phase.live.iter().map(ToString::to_string).collect();
        let end = format!("{:<12} {}", live.join(" "), cores.join(" "));
        row(phase.name, base, (phase.from, phase.to), calls, &end);
    }
    if let [first, .., last] = spreading {
        let settled = phases.iter().find(|phase| phase.name.starts_with("let go"));
        let rate = settled.map_or(0.0, |phase| sample(phase.from, phase.to, calls).per_second);
        summary(first, last, spreading, reached(first.at, last.at, 0.9 * rate, calls));
    }
    println!("  {} calls, {} failed\n", calls.len(), calls.iter().filter(|call| call.failure.is_some()).count());
}

fn row(name: &str, base: f64, (from, to): (Instant, Instant), calls: &[Answered], end: &str) {
    let sample = sample(from, to, calls);
    let of = |node: usize| within(from, to, calls).filter(|call| call.node == format!("n{}", node + 1)).count();
    let ran = (0..NODES).map(of).collect::<Vec<_>>();
    let all = ran.iter().sum::<usize>().max(1);
    let shares: Vec<_> = ran.iter().map(|ran| format!("{} %", ran * 100 / all)).collect();
    println!(
        "  {name:<26} {:>8.1} {:>6.2} {:>8.1} {:>8.1}  {:<16} {end}",
        sample.per_second,
        sample.per_second / base,
        micros(sample.p50) / 1e3,
        micros(sample.p99) / 1e3,
        shares.join(" ")
    );
}

/// The time in which the load spread.
fn rows(base: f64, spreading: &[Seen], calls: &[Answered]) {
    let (Some(first), Some(last)) = (spreading.first(), spreading.last()) else { return };
    let mut from = first.at;
    while from + ROW <= last.at {
        let to = from + ROW;
        let seen = spreading.iter().take_while(|seen| seen.at <= to).last().unwrap_or(first);
        let name = format!("  {} to {} s later", (from - first.at).as_secs(), (to - first.at).as_secs());
        let end = format!("({} moves)", seen.moves.since(first.moves).made());
        row(&name, base, (from, to), calls, &end);
        from = to;
    }
}

/// How long until as many calls a second were answered, over three seconds.
fn reached(from: Instant, to: Instant, rate: f64, calls: &[Answered]) -> Option<Duration> {
    const WINDOW: Duration = Duration::from_secs(3);
    let mut at = from + WINDOW;
    while at <= to {
        if sample(at - WINDOW, at, calls).per_second >= rate {
            return Some(at - from);
        }
        at += Duration::from_millis(250);
    }
    None
}

fn summary(first: &Seen, last: &Seen, spreading: &[Seen], reached: Option<Duration>) {
    let Moves { loaded, joined, failed, redirects, starts } = last.moves.since(first.moves);
    let ended = spreading.iter().find(|seen| seen.moves.made() >= last.moves.made()).unwrap_or(last);
    let reached =
        reached.map_or("not before it had settled".to_owned(), |time| format!("after {:.1} s", time.as_secs_f64()));
    println!(
        "  {} moves ({loaded} loaded, {joined} joined; {failed} of them broken off), the last after {:.0} s; {redirects} \
         calls sent on, {starts} cold starts, those of moves among them",
        loaded + joined,
        (ended.at - first.at).as_secs_f64()
    );
    println!("  nine tenths of what it settled at: {reached}");
}
