//! The sending side, rule by rule.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use skein_placement::Line;

use super::*;

fn check_failed(outcome: Result<Reply, Failure>, code: ErrorCode, progress: Progress) -> Failure {
    let failure = outcome.unwrap_err();
    assert_eq!((failure.code, failure.progress), (code, progress), "{failure:?}");
    assert!(!failure.message.contains("leader"), "{failure}");
    failure
}

#[tokio::test(start_paused = true)]
async fn a_call_runs_here_when_nothing_speaks_against_it() {
    let bench = Bench::of(3);
    let reply = bench.invoke(|_| {}).await.unwrap();
    assert_eq!((reply.node, reply.version, &reply.payload[..]), (NodeId(1), version(), &b"in"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_where_the_version_is_warm() {
    let id = version();
    let bench = Bench::of(3).with(2, |peer| peer.load.warm = vec![(id.function.0, id.number)]);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_carries_the_whole_invocation() {
    let bench = Bench::of(2).with(1, |peer| peer.load.is_draining = true);
    let sent = |invocation: &mut Invocation| {
        invocation.headers = [("k".into(), "v".into())].into();
        invocation.traceparent = Some("00-x".into());
        invocation.depth = 3;
        invocation.is_idempotent = true;
        invocation.deadline = Instant::now() + Duration::from_millis(700);
    };
    assert_eq!(bench.invoke(sent).await.unwrap().node, NodeId(2));
    let seen = bench.fake.seen.lock().unwrap();
    let attempt = &seen[0].1;
    assert_eq!((attempt.version, attempt.depth, attempt.is_idempotent), (version(), 3, true));
    assert_eq!((&attempt.payload[..], attempt.deadline_ms), (&b"in"[..], 630));
    assert_eq!((attempt.headers[0].0.as_str(), attempt.traceparent.as_deref()), ("k", Some("00-x")));
    assert_eq!(attempt.index_min, 5, "the publication's index, not all that is applied here");
}

#[tokio::test(start_paused = true)]
async fn names_that_do_not_exist_reach_no_node() {
    let bench = Bench::of(2);
    let unknown =
        |name: &'static str| bench.router.invoke(Invocation::new(name.parse().unwrap(), Bytes::new(), call().deadline));
    check_failed(unknown("other").await, ErrorCode::FunctionNotFound, Progress::NotExecuted);
    check_failed(unknown("price@2").await, ErrorCode::VersionNotFound, Progress::NotExecuted);
    check_failed(unknown("price:beta").await, ErrorCode::AliasNotFound, Progress::NotExecuted);
    let missing = VersionId { function: FunctionId(77), number: 1 };
    let outcome = bench.invoke(|call| call.target = InvocationTarget::Version(missing)).await;
    check_failed(outcome, ErrorCode::VersionNotFound, Progress::NotExecuted);
    assert_eq!(bench.fake.nodes_tried(), []);
}

#[tokio::test(start_paused = true)]
async fn a_chain_deeper_than_the_limit_is_refused() {
    let bench = Bench::of(1);
    let outcome = bench.invoke(|call| call.depth = Invocation::DEPTH_MAX + 1).await;
    check_failed(outcome, ErrorCode::LimitExceeded, Progress::NotExecuted);
    assert!(bench.invoke(|call| call.depth = Invocation::DEPTH_MAX).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_past_its_deadline_reaches_no_node() {
    let bench = Bench::of(1);
    let outcome = bench.invoke(|call| call.deadline = Instant::now()).await;
    check_failed(outcome, ErrorCode::DeadlineExceeded, Progress::NotExecuted);
    assert_eq!(bench.fake.nodes_tried(), []);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_run_is_tried_on_another_node() {
    let bench = Bench::of(2).plan(1, [not_executed(ErrorCode::ArtifactUnavailable)]);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    let seen = bench.fake.seen.lock().unwrap();
    assert_eq!(seen[0].1.id, seen[1].1.id, "one invocation, two attempts");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_run_is_repeated_if_nobody_could_tell() {
    // The function has no grant by which it reaches out of its sandbox; what else may be repeated, `attempt` tests.
    let lost = || Does::Fails(Failure::maybe_executed(ErrorCode::PeerLost, "connection lost"));
    let bench = Bench::of(2).plan(1, [lost(), lost()]);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    assert_eq!(bench.invoke(|call| call.is_idempotent = true).await.unwrap().node, NodeId(2));
    assert_eq!(bench.fake.nodes_tried(), [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_the_function_did_is_passed_on_and_never_repeated() {
    for code in [ErrorCode::FunctionFailed, ErrorCode::FunctionTrapped, ErrorCode::MemoryExceeded] {
        let failed = Failure { exit_code: Some(3), log_tail: "log".into(), ..Failure::executed(code, "it failed") };
        let bench = Bench::of(3).plan(1, [Does::Fails(failed.clone())]);
        assert_eq!(bench.invoke(|call| call.is_idempotent = true).await.unwrap_err(), failed);
        assert_eq!(bench.fake.nodes_tried(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn three_attempts_are_the_most_and_the_last_cause_is_told() {
    let mut bench = Bench::of(5);
    for node in 1..=5 {
        bench = bench.plan(node, [not_executed(ErrorCode::Unreachable)]);
    }
    let failure = check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::NotExecuted);
    let tried = bench.fake.nodes_tried();
    assert_eq!((tried.len(), tried[0]), (3, 1));
    let cause = format!("default/price@1 (3 tried, the last, node {}: said unreachable)", tried[2]);
    assert!(failure.message.contains(&cause), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn one_redirect_is_followed_and_no_second() {
    let mut bench = Bench::of(3);
    for node in 1..=3 {
        bench = bench.plan(node, [not_executed(ErrorCode::Moved)]);
    }
    check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::NotExecuted);
    assert_eq!(bench.fake.nodes_tried().len(), 2);
}

fn moved_to(node: u64) -> Does {
    Does::Fails(Failure { moved_to: Some(NodeId(node)), ..Failure::not_executed(ErrorCode::Moved, "it moved") })
}

#[tokio::test(start_paused = true)]
async fn a_call_follows_a_version_that_moved_and_moved_again() {
    // Node 2 is ranked last by its load.
    let bench = Bench::of(4).plan(1, [moved_to(4)]).plan(4, [moved_to(2)]).with(2, |peer| peer.load.queued = 9);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    assert_eq!(bench.fake.nodes_tried(), [1, 4, 2]);
    let back = Bench::of(2).plan(1, [moved_to(2)]).plan(2, [moved_to(1)]);
    assert_eq!(back.invoke(|_| {}).await.unwrap().node, NodeId(1), "it returned meanwhile");
    assert_eq!(back.fake.nodes_tried(), [1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn following_a_version_takes_nothing_from_the_retry_budget() {
    let bench = Bench::of(2).plan(1, std::iter::repeat_n(moved_to(2), 500));
    for _ in 0..500 {
        assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_point_at_each_other_end_a_call() {
    let bench =
        Bench::of(2).plan(1, std::iter::repeat_n(moved_to(2), 50)).plan(2, std::iter::repeat_n(moved_to(1), 50));
    check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::NotExecuted);
    assert!(bench.fake.nodes_tried().len() < 12, "{:?}", bench.fake.nodes_tried());
}

#[tokio::test(start_paused = true)]
async fn where_a_version_moved_to_a_dead_place_the_old_one_takes_the_call() {
    let unreachable = || [not_executed(ErrorCode::Unreachable)];
    let bench = Bench::of(2).plan(1, [moved_to(2)]).plan(2, unreachable());
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    let seen: Vec<_> = bench.fake.seen.lock().unwrap().iter().map(|(node, call)| (*node, call.is_insistent)).collect();
    assert_eq!(seen, [(1, false), (2, false), (1, true)]);
    // The same if it is known to be gone, or not known at all.
    for gone in [2, 9] {
        let bench = Bench::of(2).plan(1, [moved_to(gone)]).with(2, |peer| peer.state = PeerState::Down);
        assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
        assert_eq!(bench.fake.nodes_tried(), [1, 1]);
    }
    // And if all the others point there, none of them costs an attempt.
    let bench = Bench::of(3).plan(3, unreachable()).plan(1, [moved_to(3)]).plan(2, [moved_to(3)]);
    let bench = bench.with(1, |peer| peer.load.queued = 9).with(2, |peer| peer.load.queued = 9);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    let seen: Vec<_> = bench.fake.seen.lock().unwrap().iter().map(|(node, call)| (*node, call.is_insistent)).collect();
    assert_eq!(seen, [(3, false), (1, false), (1, true)]);
    // But whoever else there is comes first.
    let bench = Bench::of(3).plan(1, [moved_to(2)]).plan(2, unreachable());
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(3));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_node_passes_the_call_to_one_with_room() {
    let bench = Bench::of(3).plan(1, [not_executed(ErrorCode::Overloaded)]).with(2, |peer| peer.load.queued = 3);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(3));
}

#[tokio::test(start_paused = true)]
async fn where_every_cpu_is_busy_an_overloaded_node_still_passes_calls_on() {
    let bench = Bench::of(2).plan(1, [not_executed(ErrorCode::Overloaded)]);
    let bench = bench.with(1, |peer| peer.load.cpu_permille = 990).with(2, |peer| peer.load.cpu_permille = 990);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn overload_is_passed_on_when_no_node_has_room() {
    let overloaded =
        Failure::not_executed(ErrorCode::Overloaded, "at its limit").retry_after(Duration::from_millis(40));
    let bench = Bench::of(2).plan(1, [Does::Fails(overloaded.clone())]).with(2, |peer| peer.load.queued = 3);
    assert_eq!(bench.invoke(|_| {}).await.unwrap_err(), overloaded);
    assert_eq!(bench.fake.nodes_tried(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_it_is_full_is_not_asked_again_until_it_may_have_a_place() {
    // Digests show room everywhere, as they do for half a second after a line was empty for a moment.
    let full = |ms| {
        let failure = Failure::not_executed(ErrorCode::Overloaded, "at its limit");
        Does::Fails(failure.retry_after(Duration::from_millis(ms)))
    };
    let bench = Bench::of(2).plan(1, [full(40), full(40), full(40)]).plan(2, [full(40)]);
    for _ in 0..2 {
        check_failed(bench.invoke(|_| {}).await, ErrorCode::Overloaded, Progress::NotExecuted);
    }
    assert_eq!(bench.fake.nodes_tried(), [1, 2, 1]);
    tokio::time::advance(Duration::from_millis(40)).await;
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn overload_is_what_the_caller_hears_even_if_the_next_node_was_gone() {
    let bench =
        Bench::of(2).plan(1, [not_executed(ErrorCode::Overloaded)]).plan(2, [not_executed(ErrorCode::Unreachable)]);
    check_failed(bench.invoke(|_| {}).await, ErrorCode::Overloaded, Progress::NotExecuted);
}

#[tokio::test(start_paused = true)]
async fn a_node_short_of_memory_passes_the_call_to_one_that_has_some_however_busy_its_processor() {
    let starved = Failure { lacks_memory: true, ..Failure::not_executed(ErrorCode::Overloaded, "no memory") };
    let bench = Bench::of(3).plan(1, [Does::Fails(starved.clone())]);
    let bench = bench.with(2, |peer| peer.load.cpu_permille = 1_000).with(3, |peer| {
        (peer.load.cpu_permille, peer.load.memory_mib, peer.load.memory_budget_mib) = (1_000, 190, 192);
    });
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    assert_eq!(bench.fake.nodes_tried(), [1, 2]);
    let bench = Bench::of(2).plan(1, [Does::Fails(starved.clone())]);
    let bench = bench.with(2, |peer| (peer.load.memory_mib, peer.load.memory_budget_mib) = (190, 192));
    assert_eq!(bench.invoke(|_| {}).await.unwrap_err(), starved, "it would be refused there, too");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_without_memory_does_not_draw_the_calls_of_busy_nodes() {
    let bench = Bench::of(3).with(3, |peer| {
        (peer.load.cpu_permille, peer.load.memory_mib, peer.load.memory_budget_mib) = (700, 185, 192);
    });
    let busy = |peer: &mut Peer| {
        (peer.load.cpu_permille, peer.load.memory_mib, peer.load.memory_budget_mib) = (1_000, 200, 1_024);
    };
    let bench = bench.with(1, busy).with(2, busy);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_lost_with_two_nodes_is_tried_on_no_third_and_its_version_on_no_second() {
    let lost = || Does::Fails(Failure::maybe_executed(ErrorCode::PeerLost, "connection lost"));
    let mut bench = Bench::of(4);
    for node in 1..=4 {
        bench = bench.plan(node, std::iter::repeat_n(lost(), 9));
    }
    for tried in [2, 3, 4] {
        let outcome = bench.invoke(|call| call.is_idempotent = true).await;
        check_failed(outcome, ErrorCode::PeerLost, Progress::MaybeExecuted);
        assert_eq!(bench.fake.nodes_tried().len(), tried);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let _ = bench.invoke(|_| {}).await;
    assert_eq!(bench.fake.nodes_tried().len(), 6, "after a while it is tried on a second again");
}

/// A node that is cut off loses all its peers at once: that is no fault of the function's.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_lost_with_a_node_goes_last_to_those_that_have_fallen_silent_too() {
    let lost = || Does::Fails(Failure::maybe_executed(ErrorCode::PeerLost, "connection lost"));
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(3).with(2, warm).with(3, warm).with(1, |peer| peer.load.in_flight = 500);
    let bench = bench.plan(2, [lost(), lost()]).plan(3, [lost(), lost()]);
    *bench.fake.silent.lock().unwrap() = vec![2, 3];
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    assert_eq!(bench.fake.nodes_tried().len(), 2, "it runs here before it is lost again");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_lost_with_a_node_that_was_silent_before_does_not_count_against_its_version() {
    let lost = || Does::Fails(Failure::maybe_executed(ErrorCode::PeerLost, "connection lost"));
    let bench = Bench::of(3).with(1, |peer| peer.load.is_draining = true);
    let bench = bench.plan(2, std::iter::repeat_n(lost(), 9)).plan(3, std::iter::repeat_n(lost(), 9));
    *bench.fake.silent.lock().unwrap() = vec![2, 3];
    for tried in [2, 4] {
        check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::MaybeExecuted);
        assert_eq!(bench.fake.nodes_tried().len(), tried);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_lost_before_it_came_here_is_lost_with_one_node_at_most() {
    let lost = || Does::Fails(Failure::maybe_executed(ErrorCode::PeerLost, "connection lost"));
    let bench = Bench::of(3).with(1, |peer| peer.load.is_draining = true);
    let bench = bench.plan(2, std::iter::repeat_n(lost(), 9)).plan(3, std::iter::repeat_n(lost(), 9));
    let again = |call: &mut Invocation| (call.is_idempotent, call.was_lost) = (true, true);
    check_failed(bench.invoke(again).await, ErrorCode::PeerLost, Progress::MaybeExecuted);
    assert_eq!(bench.fake.nodes_tried().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_had_not_left_when_its_node_went_down_did_not_run() {
    let dial = Failure::not_executed(ErrorCode::Unreachable, "it does not answer");
    let bench = Bench::of(2).with(1, |peer| peer.load.is_draining = true);
    let bench = bench.plan(2, [Does::FailsAfter(Duration::from_millis(1_500), dial)]);
    let went_down = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.view.send_modify(|view| {
            let mut next = View::clone(view);
            next.peers.get_mut(&NodeId(2)).unwrap().state = PeerState::Down;
            *view = Arc::new(next);
        });
    };
    let (outcome, ()) = tokio::join!(bench.invoke(|_| {}), went_down);
    check_failed(outcome, ErrorCode::Unavailable, Progress::NotExecuted);
}

#[tokio::test(start_paused = true)]
async fn a_node_at_which_calls_hang_while_it_gossips_is_learned() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(2).with(2, warm).plan(2, std::iter::repeat_n(Does::Hangs, 3));
    let hasty = |call: &mut Invocation| call.deadline = Instant::now() + Duration::from_secs(1);
    for _ in 0..2 {
        check_failed(bench.invoke(hasty).await, ErrorCode::DeadlineExceeded, Progress::MaybeExecuted);
    }
    assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(1));
    tokio::time::advance(Duration::from_secs(5)).await;
    check_failed(bench.invoke(hasty).await, ErrorCode::DeadlineExceeded, Progress::MaybeExecuted);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(1), "it goes elsewhere for longer");
    tokio::time::advance(Duration::from_secs(5)).await;
    for _ in 0..2 {
        assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(2), "it answers again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_on_which_starts_hang_is_learned_though_it_has_the_time_to_say_so() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let late = Failure::not_executed(ErrorCode::DeadlineExceeded, "it was still starting when the deadline passed");
    let says_so = Does::FailsAfter(Duration::from_millis(900), late);
    let bench = Bench::of(2).with(2, warm).plan(2, std::iter::repeat_n(says_so, 2));
    let hasty = |call: &mut Invocation| call.deadline = Instant::now() + Duration::from_secs(1);
    for _ in 0..2 {
        check_failed(bench.invoke(hasty).await, ErrorCode::DeadlineExceeded, Progress::NotExecuted);
    }
    assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(1));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(2), "it is tried again");
    assert_eq!(bench.invoke(hasty).await.unwrap().node, NodeId(2), "and answers");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_runs_to_its_callers_deadline_is_no_node_that_hangs() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let runs = Does::RunsToItsDeadline(Duration::from_millis(90));
    let bench = Bench::of(2).with(2, warm).plan(2, std::iter::repeat_n(runs, 4));
    for _ in 0..4 {
        let deadline = Instant::now() + Duration::from_secs(1);
        let failure = bench.invoke(|call| call.deadline = deadline).await.unwrap_err();
        assert!(Instant::now() < deadline, "its word comes first");
        assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed), "{failure}");
    }
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "calls go there still");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_peer_says_that_it_used_is_only_a_number() {
    let usage = Usage { queue_us: u64::MAX, run_us: u64::MAX, ..Usage::default() };
    let bench = Bench::of(2).with(1, |peer| peer.load.is_draining = true).plan(2, [Does::Uses(usage)]);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_drains_or_is_dead_has_no_place() {
    let bench = Bench::of(2).with(1, |peer| peer.load.is_draining = true).with(2, |peer| peer.state = PeerState::Down);
    let failure = check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::NotExecuted);
    assert!(failure.message.contains("down or draining"), "{failure}");
    assert_eq!(bench.fake.nodes_tried(), []);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_the_catalogue_calls_draining_gets_nothing() {
    let bench = Bench::of(2);
    bench.catalog.send_modify(|shared| {
        let mut next = Catalog::clone(shared);
        let command = Command::SetDraining { node: NodeId(1), is_draining: true };
        next.apply(6, &Proposal { request: RequestId(Uuid::from_u128(6)), at_ms: 0, command });
        *shared = Arc::new(next);
    });
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn retries_stop_when_the_budget_is_spent() {
    let failing = || std::iter::repeat_n(not_executed(ErrorCode::Internal), 200);
    let bench = Bench::of(2).plan(1, failing()).plan(2, failing());
    for _ in 0..100 {
        let failure = check_failed(bench.invoke(|_| {}).await, ErrorCode::Unavailable, Progress::NotExecuted);
        let is_refused = bench.fake.nodes_tried().len() > 100 && failure.message.contains("(1 tried");
        assert!(!is_refused || failure.retry_after_ms == Some(1_000), "{failure:?}");
    }
    // A hundred calls: ten retries in reserve and one for each ten calls.
    assert_eq!(bench.fake.nodes_tried().len(), 120);
    tokio::time::advance(Duration::from_secs(1)).await;
    let _ = bench.invoke(|_| {}).await;
    assert_eq!(bench.fake.nodes_tried().len(), 122);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_never_heard_of_takes_calls_that_nobody_else_takes() {
    let refused = || [not_executed(ErrorCode::Unavailable)];
    let bench = Bench::of(3).with(2, |peer| peer.state = PeerState::Unheard).plan(1, refused()).plan(3, refused());
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    assert_eq!(bench.fake.nodes_tried()[2], 2, "those that are heard come first");
}

#[tokio::test(start_paused = true)]
async fn calls_whose_code_cannot_be_had_at_a_node_go_on_to_another_all_of_them() {
    // All that waited for it there are told at once, which is more than the budget has.
    let has_no_code = std::iter::repeat_n(not_executed(ErrorCode::ArtifactUnavailable), 200);
    let bench = Bench::of(2).plan(1, has_no_code).with(2, |peer| peer.load.queued = 9);
    for _ in 0..200 {
        assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
    }
    assert_eq!(bench.fake.nodes_tried().len(), 400);
}

#[tokio::test(start_paused = true)]
async fn no_retry_begins_after_the_deadline() {
    let bench = Bench::of(2).with(1, |peer| peer.load.is_draining = true).plan(2, [Does::Hangs]);
    let began = Instant::now();
    let outcome = bench.invoke(|call| call.deadline = began + Duration::from_millis(300)).await;
    check_failed(outcome, ErrorCode::DeadlineExceeded, Progress::MaybeExecuted);
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    assert_eq!(bench.fake.nodes_tried(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_a_node_that_went_down() {
    let mut bench = Bench::of(3).with(1, |peer| peer.load.is_draining = true);
    bench = bench.plan(2, [Does::Hangs]).with(3, |peer| peer.load.in_flight = 50);
    let went_down = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.view.send_modify(|view| {
            let mut next = View::clone(view);
            next.peers.get_mut(&NodeId(2)).unwrap().state = PeerState::Down;
            *view = Arc::new(next);
        });
    };
    let (outcome, ()) = tokio::join!(bench.invoke(|call| call.is_idempotent = true), went_down);
    assert_eq!(outcome.unwrap().node, NodeId(3));
    assert_eq!(bench.fake.nodes_tried(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_points_at_one_that_went_down_meanwhile_takes_the_call_itself() {
    let id = version();
    let bench = Bench::of(3).with(3, |peer| peer.load.warm = vec![(id.function.0, id.number)]);
    let bench = bench.plan(3, std::iter::repeat_n(Does::Hangs, 9)).plan(1, [moved_to(3)]).plan(2, [moved_to(3)]);
    let went_down = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.view.send_modify(|view| {
            let mut next = View::clone(view);
            next.peers.get_mut(&NodeId(3)).unwrap().state = PeerState::Down;
            *view = Arc::new(next);
        });
    };
    let (outcome, ()) = tokio::join!(bench.invoke(|call| call.is_idempotent = true), went_down);
    assert_eq!(outcome.unwrap().node, NodeId(1));
    let seen: Vec<_> = bench.fake.seen.lock().unwrap().iter().map(|(node, call)| (*node, call.is_insistent)).collect();
    assert_eq!(seen, [(3, false), (1, false), (1, true)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_took_with_it_is_repeated_whatever_the_budget() {
    // Warm on the other node, so that all calls go there first.
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(2).with(2, warm).with(1, |peer| peer.load.in_flight = 500);
    let bench = bench.plan(2, std::iter::repeat_n(Does::Hangs, 300));
    let calls: Vec<_> = (0..300).map(|_| bench.invoke(|call| call.is_idempotent = true)).collect();
    let mut calls = Box::pin(futures_join(calls));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut calls).await.is_err());
    let hanging = bench.fake.nodes_tried().iter().filter(|node| **node == 2).count();
    bench.view.send_modify(|view| {
        let mut next = View::clone(view);
        next.peers.get_mut(&NodeId(2)).unwrap().state = PeerState::Down;
        *view = Arc::new(next);
    });
    calls.await;
    let here = bench.fake.nodes_tried().iter().filter(|node| **node == 1).count();
    assert!(hanging > 100 && here == 300, "{hanging} hung, {here} ran here in the end");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_be_reached_is_avoided_for_a_second() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(2).with(2, warm).plan(2, [not_executed(ErrorCode::Unreachable)]);
    for _ in 0..2 {
        assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    }
    assert_eq!(bench.fake.nodes_tried(), [2, 1, 1]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn a_node_from_which_the_network_hears_nothing_is_tried_last() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(2).with(2, warm);
    *bench.fake.doubted.lock().unwrap() = Some(2);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    let bench = bench.with(1, |peer| peer.load.is_draining = true);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "the last one is tried whatever is thought of it");
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_follow_a_version_to_where_this_node_hears_nothing_from() {
    let bench = Bench::of(3).plan(1, [moved_to(3)]).with(2, |peer| peer.load.is_draining = true);
    *bench.fake.doubted.lock().unwrap() = Some(3);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
    assert_eq!(bench.fake.nodes_tried(), [1, 1]);
    let insistent: Vec<bool> =
        bench.fake.seen.lock().unwrap().iter().map(|(_, attempt)| attempt.is_insistent).collect();
    assert_eq!(insistent, [false, true], "the old place has to take it after all");
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_gets_fewer_calls_for_a_while_and_all_of_them_when_it_is_the_last() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let bench = Bench::of(2).with(2, warm).plan(2, [Does::Lingers(Duration::from_millis(80))]);
    for expected in [2, 1, 1] {
        assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(expected));
    }
    let bench = bench.with(1, |peer| peer.load.is_draining = true);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "the last one is tried however slow it is");
    let bench = bench.with(1, |peer| peer.load.is_draining = false);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "it is given another chance");
}

#[tokio::test(start_paused = true)]
async fn what_is_warm_here_is_asked_here_not_read_from_the_digest() {
    let id = version();
    let bench = Bench::of(2).with(2, |peer| peer.load.warm = vec![(id.function.0, id.number)]);
    bench.router.ask_here(move |version| (version == id).then_some(Line::default()));
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_here_is_asked_here_not_read_from_the_digest() {
    let id = version();
    let warm = |peer: &mut Peer| peer.load.warm = vec![(id.function.0, id.number)];
    let waited = Arc::new(AtomicU32::new(0));
    let bench = Bench::of(2).with(2, warm).with(1, |peer| peer.load.queued = 5);
    let line = waited.clone();
    bench.router.ask_here(move |_| Some(Line { queued: line.load(SeqCst), age_ms: 0 }));
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1), "the line has gone since the digest");
    waited.store(1, SeqCst);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "there is a line that the digest does not show");
}

#[tokio::test(start_paused = true)]
async fn own_calls_count_before_gossip_tells_of_them() {
    let bench = Bench::of(2).plan(1, std::iter::repeat_n(Does::Hangs, 9));
    let under_way: Vec<_> = (0..9).map(|_| bench.invoke(|_| {})).collect();
    let mut all = Box::pin(futures_join(under_way));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut all).await.is_err());
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(2), "nine hang here, none there");
    drop(all);
    assert_eq!(bench.invoke(|_| {}).await.unwrap().node, NodeId(1), "cancelled calls are not under way");
}

async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        pinned.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if pinned.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_saw_a_newer_catalogue_waits_for_it_a_little() {
    let bench = Bench::of(1);
    let began = Instant::now();
    check_failed(bench.invoke(|call| call.index_min = 9).await, ErrorCode::Unavailable, Progress::NotExecuted);
    assert_eq!(began.elapsed(), Duration::from_millis(500));
    let catches_up = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.catalog.send_modify(|shared| Arc::make_mut(shared).advance(9));
    };
    let (outcome, ()) = tokio::join!(bench.invoke(|call| call.index_min = 9), catches_up);
    assert!(outcome.is_ok());
}
