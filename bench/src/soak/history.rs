//! What happened when, and whether that explains how a call ended. Pure: a record in, a verdict out.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    faults::Kind,
    traffic::{Asked, Ended},
};

/// How long a change that was acknowledged may take to reach every node that is well: it is acknowledged by a majority.
const GRACE: Duration = Duration::from_secs(1);
/// Longest a call is caught by a node that died or stopped, after it did: peers give it up within two seconds.
const CAUGHT: Duration = Duration::from_secs(2);

/// A change of what `versioned` answers.
#[derive(Debug)]
struct Change {
    says: u64,
    from: Instant,
    /// When it was acknowledged; none if it failed or is under way.
    done: Option<Instant>,
}

/// A fault at a node.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    node: usize,
    from: Instant,
    to: Option<Instant>,
}

/// A key that some calls show.
#[derive(Debug)]
struct Key {
    made: Instant,
    /// From when on it may be refused, and from when on it must be.
    revoked: Option<(Instant, Option<Instant>)>,
}

/// A call that ended as none should.
struct Wrong {
    kind: String,
    call: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Vec<Change>,
    troubles: Vec<Trouble>,
    keys: Vec<Key>,
    refused: BTreeMap<String, u64>,
    pub(super) faults_done: u64,
}

/// What is to be said of the calls.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    good: u64,
    explained: BTreeMap<String, u64>,
    /// What is wrong, by kind: how often, and the first of each.
    wrong: BTreeMap<String, (u64, String)>,
    latencies: Vec<Duration>,
    changes: (u64, BTreeMap<String, u64>),
    faults: u64,
}

impl History {
    pub(super) fn begin(&mut self, says: u64) -> usize {
        self.changes.push(Change { says, from: Instant::now(), done: None });
        self.changes.len() - 1
    }

    pub(super) fn done(&mut self, change: usize) {
        self.changes[change].done = Some(Instant::now());
    }

    pub(super) fn failed(&mut self, _: usize, what: &str, stderr: &str) {
        let code = stderr.rsplit_once('[').and_then(|(_, rest)| rest.split(']').next()).unwrap_or("no code");
        *self.refused.entry(format!("{what}: {code}")).or_default() += 1;
    }

    pub(super) fn trouble(&mut self, kind: Kind, node: usize) -> usize {
        self.troubles.push(Trouble { kind, node, from: Instant::now(), to: None });
        self.troubles.len() - 1
    }

    pub(super) fn over(&mut self, trouble: usize) {
        self.troubles[trouble].to = Some(Instant::now());
    }

    pub(super) fn key_made(&mut self, made: Instant) -> usize {
        self.keys.push(Key { made, revoked: None });
        self.keys.len() - 1
    }

    pub(super) fn revoked(&mut self, key: usize, from: Instant, done: Instant) {
        self.keys[key].revoked = Some((from, Some(done)));
    }

    /// It may be revoked or not.
    pub(super) fn unsure(&mut self, key: usize) {
        self.keys[key].revoked = Some((Instant::now(), None));
    }

    /// Whether `versioned` may have answered so at some moment of the call.
    fn may_say(&self, says: u64, due: Instant, end: Instant) -> bool {
        self.changes.iter().enumerate().filter(|(_, change)| change.says == says).any(|(at, change)| {
            // It holds until a later one is acknowledged, and a little longer at nodes that are behind.
            let until = self.changes[at + 1..].iter().find_map(|later| later.done).map(|done| done + GRACE);
            change.from <= end && until.is_none_or(|until| due <= until)
        })
    }

    /// Which fault explains that a call at this gateway got no good answer.
    fn explained(&self, gateway: usize, due: Instant, end: Instant) -> Option<Kind> {
        let catches = |trouble: &&Trouble| {
            let to = trouble.to.unwrap_or(end) + CAUGHT;
            let is_then = trouble.from <= end && due <= to;
            is_then
                && match trouble.kind {
                    // Who calls a node that dies hears nothing of it.
                    Kind::Kill | Kind::Move => trouble.node == gateway,
                    // A call may be on the stopped node, whichever gateway it came by, and nobody knows until it is given up.
                    Kind::Stop => true,
                    // Whoever leaves in order answers what it took.
                    Kind::Terminate | Kind::Drain | Kind::Replace => false,
                }
        };
        self.troubles.iter().find(catches).map(|trouble| trouble.kind)
    }

    /// Whether this key may be good, and whether it may be refused, at some moment of the call.
    fn key_may(&self, key: usize, due: Instant, end: Instant) -> (bool, bool) {
        let key = &self.keys[key];
        let is_new = due < key.made + GRACE;
        match key.revoked {
            None => (true, is_new),
            Some((from, done)) => (done.is_none_or(|done| due <= done + GRACE), is_new || end >= from),
        }
    }

    pub(super) fn judge(&self, calls: &[Ended]) -> Verdict {
        let changes = self.changes.iter().filter(|change| change.done.is_some()).count() as u64;
        let mut verdict =
            Verdict { changes: (changes, self.refused.clone()), faults: self.faults_done, ..Verdict::default() };
        let began = calls.iter().map(|call| call.due).min();
        for call in calls {
            match self.fault_of(call) {
                None => {
                    verdict.good += 1;
                    verdict.latencies.push(call.end - call.due);
                }
                // Only what failed can be explained: an answer that must not be is wrong whatever happens.
                Some((why, is_failure)) => match self.explained(call.gateway, call.due, call.end) {
                    Some(kind) if is_failure => *verdict.explained.entry(format!("{kind:?}")).or_default() += 1,
                    _ => verdict.note_wrong(Wrong { call: format!("{}, {}", why.call, self.when(call, began)), ..why }),
                },
            }
        }
        verdict.latencies.sort_unstable();
        verdict
    }

    /// When a call was due and how long it took, and what went wrong last before it ended.
    fn when(&self, call: &Ended, began: Option<Instant>) -> String {
        let [due, took] = [began.map_or(Duration::ZERO, |began| call.due - began), call.end - call.due];
        let last = self.troubles.iter().rfind(|trouble| trouble.from <= call.end);
        let last = last.map_or("nothing before it".to_owned(), |trouble| {
            let over = trouble.to.map_or("not over".to_owned(), |to| format!("over {:.1?} before", call.end - to));
            format!(
                "{:?} of {} began {:.1?} before its end, {over}",
                trouble.kind,
                trouble.node,
                call.end - trouble.from
            )
        });
        format!("due after {due:.1?}, took {took:.1?}; {last}")
    }

    /// What is wrong with how a call ended, and whether that is only that it failed.
    fn fault_of(&self, call: &Ended) -> Option<(Wrong, bool)> {
        let failed = || {
            let problem: serde_json::Value = serde_json::from_str(&call.body).unwrap_or_default();
            let kind = match (problem["code"].as_str(), problem["detail"].as_str()) {
                // Without what differs from call to call: nodes, indices, times.
                (Some(code), Some(detail)) => {
                    format!("{} {code}: {}", call.status, detail.replace(|sign: char| sign.is_ascii_digit(), "#"))
                }
                _ => format!("{} {}", call.status, call.body.chars().take(200).collect::<String>()),
            };
            Some((Wrong { kind, call: format!("{:?} at gateway {}", call.asked, call.gateway) }, true))
        };
        let wrong = |kind: &str, call: String| Some((Wrong { kind: kind.to_owned(), call }, false));
        match &call.asked {
            Asked::Doomed { key } => match (call.status, self.key_may(*key, call.due, call.end)) {
                (200, (true, _)) | (401, (_, true)) => None,
                (200, _) => wrong("a revoked key was taken", format!("at gateway {}", call.gateway)),
                _ => failed(),
            },
            _ if call.status != 200 => failed(),
            Asked::Echo { payload } if call.body == *payload => None,
            Asked::Echo { payload } => {
                wrong("an answer of another call", format!("echo of {payload} was {}", call.body))
            }
            Asked::Hog => None,
            Asked::Versioned => {
                let says = call.body.trim().parse().ok();
                let may = says.is_some_and(|says| self.may_say(says, call.due, call.end));
                let what = || format!("{} at gateway {}", call.body, call.gateway);
                (!may).then(|| wrong("an answer by a version that was not allowed", what())).flatten()
            }
        }
    }
}

impl Verdict {
    fn note_wrong(&mut self, wrong: Wrong) {
        self.wrong.entry(wrong.kind).or_insert((0, wrong.call)).0 += 1;
    }

    pub(super) fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }

    pub(super) fn show(&self, calls: &[Ended]) {
        let at = |permille: usize| {
            let at = (self.latencies.len() * permille / 1_000).min(self.latencies.len().saturating_sub(1));
            format!("{:.1?}", self.latencies.get(at).copied().unwrap_or_default())
        };
        println!(
            "{} calls, {} as they should be: p50 {}, p99 {}, most {}",
            calls.len(),
            self.good,
            at(500),
            at(990),
            at(1_000)
        );
        println!("{} faults; failed and explained by one: {:?}", self.faults, self.explained);
        println!("{} changes acknowledged; refused: {:?}", self.changes.0, self.changes.1);
        println!("wrong: {}", self.wrong.values().map(|(count, _)| count).sum::<u64>());
        for (kind, (count, call)) in &self.wrong {
            println!("  {count} × {kind} (first: {call})");
        }
    }
}
