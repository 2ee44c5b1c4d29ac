//! Examples of apps, and of what became of calls.

use std::collections::BTreeMap;

use skein_catalog::Binding;
use skein_proto::{ErrorCode, InvocationId, Progress, Start};
use uuid::Uuid;

use super::{Example, PUBLISHED_MS, name, nodes};
use crate::api::{AppList, AppRequest, AppStatus, WhyAttempt, WhyCall, WhyCandidate, WhyFailure, WhyReport, WhyTimes};

fn binding() -> Binding {
    Binding { labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]), nodes: [name("node-1")].into() }
}

fn app() -> AppStatus {
    AppStatus {
        name: name("shop"),
        binding: binding(),
        bound_to: binding().to_string(),
        nodes: nodes(),
        functions: 12,
        index: 42,
    }
}

fn failure() -> WhyFailure {
    WhyFailure {
        code: ErrorCode::Draining,
        progress: Progress::NotExecuted,
        message: "this node is leaving and takes no new calls".to_owned(),
    }
}

fn invocation(number: u128) -> InvocationId {
    InvocationId(Uuid::from_u128(0x0199_f3a0_0000_7000_8000_0000_0000_0000 + number))
}

fn candidate() -> WhyCandidate {
    WhyCandidate {
        node: name("node-1"),
        is_chosen: true,
        is_warm: true,
        group: "warm".to_owned(),
        reason: "the version is warm there and there is room; here, and no other is clearly less busy".to_owned(),
        load: 3,
        figures: "load 3 (3 running, 0 waiting), CPU 12 %, memory 50 % of 1024 MiB".to_owned(),
    }
}

fn times() -> WhyTimes {
    WhyTimes { total_us: 450, route_us: 20, retry_us: 0, queue_us: 5, start_us: 0, run_us: 300, return_us: 95 }
}

fn report() -> WhyReport {
    WhyReport {
        invocation: invocation(2),
        function: Some("shop/price@3".to_owned()),
        app: Some(name("shop")),
        taken_by: name("node-1"),
        at_ms: PUBLISHED_MS,
        caller: Some(invocation(1)),
        depth: 1,
        ran_on: Some(name("node-1")),
        start: Some(Start::Warm),
        placed: candidate().reason,
        started: "warm: an activation was there, and the call had a fresh instance in it".to_owned(),
        failure: Some(failure()),
        candidates: vec![candidate()],
        candidates_total: 3,
        rankings: 1,
        attempts: vec![WhyAttempt { node: name("node-1"), after_us: 20, took_us: 400, failure: Some(failure()) }],
        times: times(),
        made: vec![WhyCall {
            invocation: invocation(3),
            function: Some("shop/tax@1".to_owned()),
            ran_on: Some(name("node-1")),
            failure: Some(failure()),
            took_us: 120,
        }],
    }
}

example!(Binding, binding());
example!(AppRequest, AppRequest { name: name("shop"), binding: binding() });
example!(AppStatus, app());
example!(AppList, AppList { apps: vec![app()], index: 42 });
example!(WhyReport, report());
