//! Bindings, redirects by a newer catalogue, and what is kept of each call.

use skein_catalog::Binding;
use skein_placement::{Reason, Standing};

use super::*;

/// Binds the app to the one node that is a member, at `index`.
fn bind(bench: &Bench, index: u64) {
    bench.catalog.send_modify(|shared| {
        let binding = Binding { nodes: ["one".parse().unwrap()].into(), ..Binding::default() };
        let command = Command::BindApp { app: Default::default(), binding };
        let request = RequestId(Uuid::from_u128(u128::from(index)));
        let mut next = Catalog::clone(shared);
        next.apply(index, &Proposal { request, at_ms: 0, command });
        *shared = Arc::new(next);
    });
}

fn moved(index: u64) -> Does {
    Does::Fails(Failure::not_executed(ErrorCode::Moved, "bound elsewhere").as_of(index))
}

fn warm_at(peer: &mut Peer) {
    peer.load.warm = vec![(version().function.0, version().number)];
}

#[tokio::test(start_paused = true)]
async fn a_bound_app_runs_on_its_nodes_only() {
    let bench = Bench::of(3).with(2, warm_at);
    bind(&bench, 6);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    assert_eq!(bench.fake.seen.lock().unwrap()[0].1.index_min, 6, "a node that knows an older binding must catch up");
    let bench = bench.with(1, |peer| peer.load.is_draining = true);
    let failure = bench.invoke(|_| {}).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Unavailable, Progress::NotExecuted));
    for word in ["app default is bound to one", "one is draining", "skein app bind default"] {
        assert!(failure.message.contains(word), "{failure}");
    }
    assert_eq!(bench.fake.nodes_tried(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_sent_on_waits_for_the_catalogue_that_sent_it() {
    let bench = Bench::of(3).with(2, warm_at).with(3, warm_at).plan(2, [moved(9)]).plan(3, [moved(9)]);
    let catches_up = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bind(&bench, 9);
    };
    let invocation = call();
    let id = invocation.id;
    let (outcome, ()) = tokio::join!(bench.router.invoke(invocation), catches_up);
    assert_eq!(outcome.unwrap().node, NodeId(1));
    assert_eq!(bench.fake.nodes_tried().len(), 2, "the other old place was not asked");
    let decision = bench.router.decision(id).unwrap();
    assert_eq!((decision.rankings, decision.failed.len(), decision.candidates), (2, 1, 3));
    assert_eq!(decision.failed[0].code, ErrorCode::Moved);
    let standings = |standing| decision.ranked.iter().filter(|one| one.candidate.standing == standing).count();
    assert_eq!((standings(Standing::Good), standings(Standing::Unbound)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_turn_calls_away_at_once_do_not_use_up_the_retries() {
    for code in [ErrorCode::Moved, ErrorCode::Draining] {
        let bench = Bench::of(2).plan(1, std::iter::repeat_n(not_executed(code), 200));
        for _ in 0..200 {
            assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "{code}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_call_can_be_asked_for() {
    let bench = Bench::of(3).plan(1, [not_executed(ErrorCode::DiskFull)]);
    let invocation = Invocation { caller: Some(skein_proto::InvocationId(Uuid::from_u128(1))), ..call() };
    let id = invocation.id;
    let node = bench.router.invoke(invocation).await.unwrap().node;
    let decision = bench.router.decision(id).unwrap();
    assert_eq!((decision.version, decision.candidates, decision.rankings), (Some(version()), 3, 1));
    assert_eq!((decision.ranked[0].candidate.node, decision.ranked[0].reason), (NodeId(1), Reason::Here));
    assert_eq!((decision.failed[0].node, decision.failed[0].code), (NodeId(1), ErrorCode::DiskFull));
    assert!(matches!(decision.end, End::Replied { node: replied, .. } if replied == node), "{decision:?}");
    let made = bench.router.made_by(skein_proto::InvocationId(Uuid::from_u128(1)), 9);
    assert_eq!(made.iter().map(|made| made.invocation).collect::<Vec<_>>(), [id]);

    let unknown = Invocation::new("other".parse().unwrap(), Bytes::new(), call().deadline);
    let id = unknown.id;
    bench.router.invoke(unknown).await.unwrap_err();
    let decision = bench.router.decision(id).unwrap();
    assert!(matches!(decision.end, End::Failed { code: ErrorCode::FunctionNotFound, .. }), "{decision:?}");
    assert_eq!((decision.version, decision.candidates), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_goes_away_is_kept_too_and_old_ones_are_forgotten() {
    let bench = Bench::of(1).plan(1, [Does::Hangs]);
    assert_eq!(bench.router.reach_back(), None);
    let invocation = call();
    let id = invocation.id;
    let given_up = tokio::time::timeout(Duration::from_millis(30), bench.router.invoke(invocation)).await;
    assert!(given_up.is_err());
    let decision = bench.router.decision(id).unwrap();
    assert!(matches!(decision.end, End::Abandoned), "{decision:?}");
    assert_eq!(decision.took, Duration::from_millis(30));
    assert_eq!(bench.router.reach_back(), Some(decision.took));
    for _ in 0..crate::KEPT {
        bench.invoke(|_| {}).await.unwrap();
    }
    assert!(bench.router.decision(id).is_none());
}
