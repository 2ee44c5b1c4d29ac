//! `skein why`: what a router kept of a call, in the words and names of the mesh. A node answers for the calls that it
//! took, and asks its peers about the others.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use skein_catalog::{Catalog, Propose};
use skein_gateway::api::{WhyAttempt, WhyCall, WhyCandidate, WhyFailure, WhyReport, WhyTimes};
use skein_placement::Ranked;
use skein_proto::{ErrorCode, Failure, InvocationId, NodeId, NodeName, Progress, Start, VersionId, codec};
use skein_router::{Decision, End, FailedAttempt, KEPT, Router};
use skein_transport::Service;
use tokio::time::Instant;

use super::{Shared, access::now_ms, control::ControlRequest};

/// Longest wait for the peers: they answer from memory.
const ASK_DEADLINE: Duration = Duration::from_secs(1);
/// Most calls of a function that are listed: as many as `limits.outbound` allows unless it says otherwise.
const MADE_MAX: usize = 64;

/// What one node knows of a call.
#[derive(Serialize, Deserialize)]
pub(super) struct Known {
    /// What it decided, if it took the call.
    report: Option<WhyReport>,
    /// The calls that the function made while it ran there.
    made: Vec<WhyCall>,
    /// How far back its memory goes, in milliseconds.
    reach_back_ms: Option<u64>,
}

/// What this node knows of a call.
pub(super) fn known(shared: &Shared, router: &Router, invocation: InvocationId) -> Known {
    let names = Names { catalog: &shared.consensus.catalog(), me: &shared.name() };
    Known {
        report: router.decision(invocation).map(|decision| names.report(&decision)),
        made: router.made_by(invocation, MADE_MAX).iter().map(|decision| names.call(decision)).collect(),
        reach_back_ms: router.reach_back().map(millis),
    }
}

/// What the mesh knows of a call.
///
/// # Errors
/// `not-found` if no node that answers took it or keeps it any more.
pub(super) async fn why(shared: &Shared, router: &Router, invocation: InvocationId) -> Result<WhyReport, Failure> {
    let me = shared.transport.local();
    let peers: Vec<NodeId> =
        shared.membership.view().alive().map(|peer| peer.node).filter(|node| *node != me).collect();
    let deadline = Instant::now() + ASK_DEADLINE;
    let asked =
        join_all(peers.into_iter().map(async |node| (node, ask(shared, node, invocation, deadline).await))).await;
    let mut all = vec![(me, known(shared, router, invocation))];
    let mut silent = Vec::new();
    for (node, answer) in asked {
        match answer {
            Ok(known) => all.push((node, known)),
            Err(failure) => {
                tracing::debug!(%node, %failure, "a node did not say what it knows of a call");
                silent.push(node);
            }
        }
    }
    let made: Vec<WhyCall> = all.iter_mut().flat_map(|(_, known)| std::mem::take(&mut known.made)).collect();
    match all.iter_mut().find_map(|(_, known)| known.report.take()) {
        Some(report) => Ok(WhyReport { made, ..report }),
        None => Err(unknown(shared, invocation, &all, &silent)),
    }
}

async fn ask(shared: &Shared, node: NodeId, invocation: InvocationId, deadline: Instant) -> Result<Known, Failure> {
    let body = codec::encode(&ControlRequest::Why { invocation })?;
    Ok(codec::decode(&shared.transport.call(node, Service::Control, body, deadline).await?)?)
}

fn unknown(shared: &Shared, invocation: InvocationId, all: &[(NodeId, Known)], silent: &[NodeId]) -> Failure {
    let names = Names { catalog: &shared.consensus.catalog(), me: &shared.name() };
    let reach = all.iter().map(|(node, known)| match known.reach_back_ms {
        Some(ms) => format!("{} for {}.{} s now", names.node(*node), ms / 1_000, ms / 100 % 10),
        None => format!("{} has taken none yet", names.node(*node)),
    });
    let reach: Vec<String> = reach.collect();
    let mut message = format!(
        "no node that answers knows the call {invocation}: each keeps its last {KEPT} calls, until it stops ({})",
        reach.join(", ")
    );
    if !silent.is_empty() {
        let silent: Vec<String> = silent.iter().map(|node| names.node(*node).to_string()).collect();
        message.push_str(&format!("; {} did not answer", silent.join(", ")));
    }
    Failure::not_executed(ErrorCode::NotFound, message)
}

/// Ids as people know them.
struct Names<'a> {
    catalog: &'a Catalog,
    me: &'a NodeName,
}

impl Names<'_> {
    fn node(&self, node: NodeId) -> NodeName {
        match self.catalog.member(node) {
            Some(member) => member.name.clone(),
            // A node that was removed meanwhile. The form fits the rule for names.
            None => format!("node-{node}").parse().unwrap_or_else(|_| self.me.clone()),
        }
    }

    fn function(&self, version: VersionId) -> String {
        match self.catalog.function_by_id(version.function) {
            Some(function) => format!("{}/{}@{}", function.app, function.name, version.number),
            None => format!("{version} (deleted)"),
        }
    }

    fn report(&self, decision: &Decision) -> WhyReport {
        let chosen = ran_on(decision);
        let app = decision.version.and_then(|version| self.catalog.function_by_id(version.function));
        WhyReport {
            invocation: decision.invocation,
            function: decision.version.map(|version| self.function(version)),
            app: app.map(|function| function.app.clone()),
            taken_by: self.me.clone(),
            at_ms: now_ms().saturating_sub(millis(decision.began.elapsed())),
            caller: decision.caller,
            depth: decision.depth,
            ran_on: chosen.map(|node| self.node(node)),
            start: match decision.end {
                End::Replied { start, .. } => Some(start),
                _ => None,
            },
            placed: self.placed(decision),
            started: self.started(decision),
            failure: failure(&decision.end),
            candidates: decision.ranked.iter().map(|one| self.candidate(one, chosen)).collect(),
            candidates_total: decision.candidates,
            rankings: decision.rankings,
            attempts: self.attempts(decision),
            times: times(decision),
            made: Vec::new(),
        }
    }

    fn candidate(&self, one: &Ranked, chosen: Option<NodeId>) -> WhyCandidate {
        WhyCandidate {
            node: self.node(one.candidate.node),
            is_chosen: chosen == Some(one.candidate.node),
            is_warm: one.candidate.is_warm,
            group: one.group.as_str().to_owned(),
            reason: one.words(),
            load: one.candidate.pressure(),
            figures: one.figures(),
        }
    }

    fn attempts(&self, decision: &Decision) -> Vec<WhyAttempt> {
        let failed = decision.failed.iter().map(|attempt| WhyAttempt {
            node: self.node(attempt.node),
            after_us: micros(attempt.after),
            took_us: micros(attempt.took),
            failure: Some(WhyFailure {
                code: attempt.code,
                progress: attempt.progress,
                message: attempt.message.clone(),
            }),
        });
        let mut attempts: Vec<WhyAttempt> = failed.collect();
        if let End::Replied { node, after, took, .. } = decision.end {
            let (after_us, took_us) = (micros(after), micros(took));
            attempts.push(WhyAttempt { node: self.node(node), after_us, took_us, failure: None });
        }
        attempts
    }

    /// Why the call ran where it did.
    fn placed(&self, decision: &Decision) -> String {
        let ran_on = ran_on(decision);
        let failed: Vec<String> = before(decision)
            .iter()
            .map(|FailedAttempt { node, code, .. }| format!("{} ({code})", self.node(*node)))
            .collect();
        let after = match failed.is_empty() {
            true => String::new(),
            false => format!("; tried before: {}", failed.join(", ")),
        };
        if let Some(node) = ran_on {
            let words = decision.ranked.iter().find(|one| one.candidate.node == node).map(Ranked::words);
            return format!(
                "{}{after}",
                words.unwrap_or_else(|| "it was among the nodes ranked further down".to_owned())
            );
        }
        match &decision.end {
            End::Replied { .. } => String::new(),
            End::Abandoned => format!("it ran nowhere to its end: its caller went away{after}"),
            End::Failed { .. } if decision.ranked.is_empty() => "it was refused before a node was chosen".to_owned(),
            End::Failed { .. } if failed.is_empty() => "no node could be tried".to_owned(),
            End::Failed { .. } => format!("it was answered nowhere{after}"),
        }
    }

    /// Why the call was cold or warm.
    fn started(&self, decision: &Decision) -> String {
        let End::Replied { node, start, usage, .. } = &decision.end else { return String::new() };
        let ahead = match usage.is_foreseen {
            true => "; it had been started ahead of this call, its first, as functions that started usually call it",
            false => "",
        };
        let is_elsewhere = |one: &&Ranked| one.candidate.node != *node && one.candidate.is_warm;
        let was_warm = decision.ranked.iter().any(|one| one.candidate.node == *node && one.candidate.is_warm);
        match start {
            Start::Reused => format!("warm: an instance that had served before served it{ahead}"),
            Start::Warm => format!("warm: an activation was there, and the call had a fresh instance in it{ahead}"),
            Start::Cold => {
                let cause = match decision.ranked.iter().find(is_elsewhere) {
                    _ if was_warm => "it was on its way up or down there when the call was sent".to_owned(),
                    Some(other) => format!(
                        "it was warm on {}, which came behind ({})",
                        self.node(other.candidate.node),
                        other.group.as_str()
                    ),
                    None => "it was not known to be warm on any node".to_owned(),
                };
                let there = usage.cold.map_or(String::new(), |cold| format!("; {}", cold.as_words()));
                let (wait, load) = (usage.start_us, usage.load_us);
                format!(
                    "cold: {cause}{there}{ahead}; the call waited {wait} µs for it to start, of which {load} µs loading its code"
                )
            }
        }
    }

    fn call(&self, decision: &Decision) -> WhyCall {
        WhyCall {
            invocation: decision.invocation,
            function: decision.version.map(|version| self.function(version)),
            ran_on: ran_on(decision).map(|node| self.node(node)),
            failure: failure(&decision.end),
            took_us: micros(decision.took),
        }
    }
}

/// The node that ran the call to its end, whether it replied or failed there.
fn ran_on(decision: &Decision) -> Option<NodeId> {
    match &decision.end {
        End::Replied { node, .. } => Some(*node),
        End::Failed { progress: Progress::Executed, .. } => {
            decision.failed.last().filter(|last| last.progress == Progress::Executed).map(|last| last.node)
        }
        _ => None,
    }
}

/// The attempts on which another one followed, or that came to nothing.
fn before(decision: &Decision) -> &[FailedAttempt] {
    match (&decision.end, decision.failed.split_last()) {
        (End::Failed { .. }, Some((_, before))) if ran_on(decision).is_some() => before,
        _ => &decision.failed,
    }
}

fn failure(end: &End) -> Option<WhyFailure> {
    let progress = skein_proto::Progress::MaybeExecuted;
    match end {
        End::Replied { .. } => None,
        End::Failed { code, progress, message } => {
            Some(WhyFailure { code: *code, progress: *progress, message: message.clone() })
        }
        End::Abandoned => {
            let message = "its caller went away, and it was stopped".to_owned();
            Some(WhyFailure { code: ErrorCode::Cancelled, progress, message })
        }
    }
}

fn times(decision: &Decision) -> WhyTimes {
    let mut times = WhyTimes {
        total_us: micros(decision.took),
        route_us: micros(decision.routed),
        retry_us: before(decision).iter().map(|attempt| micros(attempt.took)).sum(),
        ..WhyTimes::default()
    };
    // Of a call that failed, nothing more is known than how long it took there.
    if let (End::Failed { .. }, Some(_), Some(last)) = (&decision.end, ran_on(decision), decision.failed.last()) {
        times.run_us = micros(last.took);
    }
    if let End::Replied { took, usage, .. } = &decision.end {
        times.queue_us = usage.queue_us;
        times.start_us = usage.start_us;
        // The figures are a peer's: whatever it says is only a number.
        times.run_us = usage.instantiate_us.saturating_add(usage.run_us);
        let used = times.queue_us.saturating_add(times.start_us).saturating_add(times.run_us);
        times.return_us = micros(*took).saturating_sub(used);
    }
    times
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
