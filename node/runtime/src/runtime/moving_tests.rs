//! A version leaves a node and comes back, with calls in flight, in line, and on their way.

use skein_proto::Progress;

use super::{
    tests::{LONG, Node, eventually, invocation, slow},
    *,
};
use crate::testing::{ECHO, NAP, manifest};

const HOLD: Duration = Duration::from_secs(3);
const THERE: NodeId = NodeId(9);

fn check_moved(failure: &Failure) {
    assert_eq!((failure.code, failure.progress), (ErrorCode::Moved, Progress::NotExecuted), "{failure}");
    assert_eq!(failure.moved_to, Some(THERE), "{failure}");
}

#[tokio::test]
async fn a_version_is_warm_before_its_first_call() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    for _ in 0..2 {
        node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
    }
    let status = node.runtime.activations();
    assert_eq!((status.len(), status[0].state, status[0].generation), (1, ActivationState::Ready, 1));
    assert_eq!(node.call(version, b"x").await.unwrap().start, Start::Warm);
    let unknown = VersionId { number: 99, ..version };
    let failure = node.runtime.warm(unknown, Instant::now() + LONG).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::VersionNotFound);
    node.end().await;
}

#[tokio::test]
async fn what_runs_goes_on_and_what_waits_or_comes_goes_where_the_version_went() {
    let node = Node::start().await;
    let mut manifest = slow("nap");
    manifest.limits.concurrency = 1;
    let version = node.publish(manifest, NAP);
    let running = invocation(version, b"", LONG);
    let (runtime, call) = (node.runtime.clone(), running.clone());
    let running = tokio::spawn(async move { runtime.invoke(call).await });
    node.running(1).await;
    let runtime = node.runtime.clone();
    let waiting = tokio::spawn(async move { runtime.invoke(invocation(version, b"", LONG)).await });
    node.busy(1, 1).await;
    assert_eq!(node.runtime.release(version, THERE, HOLD).await, Some(1));
    check_moved(&waiting.await.unwrap().unwrap_err());
    check_moved(&node.call(version, b"").await.unwrap_err());
    // It still runs, and is counted.
    assert_eq!((node.runtime.load().in_flight, node.runtime.load().warm.len()), (1, 0));
    assert_eq!(node.runtime.release(version, THERE, HOLD).await, Some(0), "told twice, the same is true");
    running.abort();
    eventually(|| node.runtime.activations().is_empty()).await;
    check_moved(&node.call(version, b"").await.unwrap_err());
    node.end().await;
}

#[tokio::test]
async fn a_version_that_is_not_live_is_not_released() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    assert_eq!(node.runtime.release(version, THERE, HOLD).await, None);
    assert_eq!(node.call(version, b"x").await.unwrap().start, Start::Cold);
    node.end().await;
}

#[tokio::test]
async fn a_version_comes_back_when_it_is_warmed_insisted_on_or_its_new_place_is_gone() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    for way in ["warmed", "insisted on", "new place gone"] {
        node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
        node.runtime.release(version, THERE, HOLD).await.unwrap();
        check_moved(&node.call(version, b"x").await.unwrap_err());
        match way {
            "warmed" => node.runtime.warm(version, Instant::now() + LONG).await.unwrap(),
            "insisted on" => {
                let call = Invocation { is_insistent: true, ..invocation(version, b"x", LONG) };
                node.runtime.invoke(call).await.unwrap();
            }
            _ => node.runtime.forget_moves(|gone| gone == THERE),
        }
        assert_eq!(node.call(version, b"x").await.unwrap().payload.as_ref(), b"x", "{way}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_start_of_a_version_that_leaves_is_sent_on() {
    let node = Node::start().await;
    node.store.hold();
    let version = node.publish(manifest("echo"), ECHO);
    let runtime = node.runtime.clone();
    let call = tokio::spawn(async move { runtime.invoke(invocation(version, b"x", LONG)).await });
    node.busy(1, 0).await;
    node.runtime.release(version, THERE, HOLD).await.unwrap();
    check_moved(&call.await.unwrap().unwrap_err());
    node.end().await;
}

#[tokio::test]
async fn moved_to_and_fro_under_load_no_call_fails() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let runtime = node.runtime.clone();
            tokio::spawn(async move {
                let (mut answered, mut moved) = (0, 0);
                while answered + moved < 500 {
                    match runtime.invoke(invocation(version, b"x", LONG)).await {
                        Ok(_) => answered += 1,
                        Err(failure) => {
                            check_moved(&failure);
                            moved += 1;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                (answered, moved)
            })
        })
        .collect();
    let mut moves = 0;
    while calls.iter().any(|call| !call.is_finished()) {
        moves += usize::from(node.runtime.release(version, THERE, HOLD).await.is_some());
        node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
    }
    let mut answered = 0;
    for call in calls {
        answered += call.await.unwrap().0;
    }
    assert!(answered > 0 && moves > 1, "{answered} answered, {moves} moves");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_for_the_state_never_waits_for_a_change_of_it() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
    let stop = CancellationToken::new();
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let (runtime, stop) = (node.runtime.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    runtime.load();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..300 {
        node.runtime.release(version, THERE, HOLD).await.unwrap();
        node.runtime.warm(version, Instant::now() + LONG).await.unwrap();
    }
    stop.cancel();
    for one in asking {
        one.await.unwrap();
    }
    node.end().await;
}
