//! Calls, streams and datagrams between nodes that trust each other.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_all_sizes_come_back_whole_in_both_directions() {
    let (one, two) = TestMesh::new().pair().await;
    for size in [0, 100, 16 << 10, (16 << 10) + 1, 64 << 10, 5 << 20] {
        let body = Bytes::from((0..size).map(|at| at as u8).collect::<Vec<_>>());
        assert_eq!(one.ask(&two, body.clone()).await.unwrap(), body, "{size}");
        assert_eq!(two.ask(&one, body.clone()).await.unwrap(), body, "{size}");
        let raft = one.network.call(NodeId(2), Service::Raft, body.clone(), soon()).await;
        assert_eq!(raft.unwrap(), body, "{size}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_to_a_small_call_comes_on_a_stream_of_its_own() {
    let (one, two) = TestMesh::new().pair().await;
    assert_eq!(one.ask(&two, "large").await.unwrap().len(), 5 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_calls_each_get_their_own_answer() {
    let (one, two) = TestMesh::new().pair().await;
    let calls = (0..256_u32).map(|number| {
        let body = Bytes::from(number.to_be_bytes().repeat(if number % 16 == 0 { 10_000 } else { 25 }));
        let (network, expected) = (one.network.clone(), body.clone());
        tokio::spawn(async move {
            let answer = network.call(NodeId(2), Service::Control, body, soon()).await;
            assert_eq!(answer.unwrap(), expected);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(two.echo.started.load(SeqCst), 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_stops_its_handler() {
    let (one, two) = TestMesh::new().pair().await;
    let network = one.network.clone();
    let call = tokio::spawn(async move { network.call(NodeId(2), Service::Control, "hang".into(), soon()).await });
    two.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    assert_eq!(two.echo.dropped.load(SeqCst), 0);
    call.abort();
    two.echo.until(|echo| echo.dropped.load(SeqCst) == 1).await;
    assert_eq!(one.ask(&two, "after").await.unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_on_a_stream_of_its_own_stops_its_handler() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let pin = crate::CaPin::Fingerprint(mesh.authority.fingerprint());
    let stranger = crate::Stranger::connect(node.network.local_addr(), pin, soon()).await.unwrap().with_key(KEY);
    let stranger = Arc::new(stranger);
    let asker = stranger.clone();
    let call = tokio::spawn(async move { asker.call(Service::Client, "hang".into(), soon()).await });
    node.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    call.abort();
    node.echo.until(|echo| echo.dropped.load(SeqCst) == 1).await;
    assert_eq!(stranger.call(Service::Client, "after".into(), soon()).await.unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_is_told_from_what_is_made_of_its_silence() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let pin = crate::CaPin::Fingerprint(mesh.authority.fingerprint());
    let stranger = crate::Stranger::connect(node.network.local_addr(), pin, soon()).await.unwrap();
    let stranger = Arc::new(stranger.with_key(KEY));
    let ask = |what: &'static str| stranger.ask(Service::Client, what.into(), soon());
    assert_eq!(ask("hello").await.unwrap().unwrap(), "hello");
    assert_eq!(code(ask("fail").await.unwrap()), (ErrorCode::FunctionFailed, Progress::Executed));
    let asker = stranger.clone();
    let call = tokio::spawn(async move { asker.ask(Service::Client, "hang".into(), soon()).await.map(drop) });
    node.echo.until(|echo| echo.started.load(SeqCst) == 3).await;
    node.network.shutdown(Instant::now()).await;
    let failure = call.await.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::PeerLost, Progress::MaybeExecuted), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_call_and_its_handler() {
    let (one, two) = TestMesh::new().pair().await;
    one.ask(&two, "connect first").await.unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let answer = one.network.call(NodeId(2), Service::Control, "hang".into(), deadline).await;
    assert_eq!(code(answer), (ErrorCode::DeadlineExceeded, Progress::MaybeExecuted));
    two.echo.until(|echo| echo.dropped.load(SeqCst) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_and_panics_of_handlers_reach_the_caller() {
    let (one, two) = TestMesh::new().pair().await;
    assert_eq!(code(one.ask(&two, "fail").await), (ErrorCode::FunctionFailed, Progress::Executed));
    assert_eq!(code(one.ask(&two, "panic").await), (ErrorCode::Internal, Progress::MaybeExecuted));
    let unknown = one.network.call(NodeId(2), Service::Invoke, Bytes::new(), soon()).await;
    assert_eq!(code(unknown), (ErrorCode::Unavailable, Progress::NotExecuted));
    assert_eq!(one.ask(&two, "still there").await.unwrap(), "still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_oneself_needs_no_connection() {
    let node = TestMesh::new().node(1).await;
    assert_eq!(node.ask(&node, "me").await.unwrap(), "me");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_carries_bytes_both_ways_and_a_dropped_one_is_reset() {
    let (one, _two) = TestMesh::new().pair().await;
    let mut stream = one.network.open(NodeId(2), Service::Control, soon()).await.unwrap();
    let sent = vec![3; 1 << 20];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut received));
    read.unwrap();
    assert_eq!(received, sent);
    let mut refused = one.network.open(NodeId(2), Service::Invoke, soon()).await.unwrap();
    assert!(refused.read_u8().await.is_err(), "nobody offers this service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_arrives_once_a_connection_is_up() {
    let (one, two) = TestMesh::new().pair().await;
    one.network.datagram(NodeId(2), Service::Gossip, Bytes::from(vec![1; DATAGRAM_BYTES_MAX]));
    two.echo.until(|echo| echo.datagrams.lock().unwrap().len() == 1).await;
    one.network.datagram(NodeId(2), Service::Gossip, Bytes::from_static(b"second"));
    two.echo.until(|echo| echo.datagrams.lock().unwrap().last().is_some_and(|last| last == "second")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let mesh = TestMesh::new();
    let mut config = NetworkConfig::new(localhost());
    config.body_bytes_max = 100_000;
    let one = mesh.node(1).await;
    let two = Node::configured(config.clone(), mesh.identity(2)).await;
    one.meet(&two);
    two.meet(&one);
    let body = vec![0; 100_001];
    assert_eq!(code(two.ask(&one, body.clone()).await), (ErrorCode::TooLarge, Progress::NotExecuted));
    assert_eq!(code(one.ask(&two, body).await), (ErrorCode::TooLarge, Progress::NotExecuted));
    assert_eq!(code(two.ask(&one, "large").await), (ErrorCode::TooLarge, Progress::Executed));
    assert_eq!(code(one.ask(&two, "large").await), (ErrorCode::TooLarge, Progress::Executed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_says_so_and_runs_nothing() {
    let mesh = TestMesh::new();
    let mut config = NetworkConfig::new(localhost());
    config.calls_per_lane_max = 1;
    let (one, two) = (Node::configured(config, mesh.identity(1)).await, mesh.node(2).await);
    one.meet(&two);
    let mut hanging = tokio::task::JoinSet::new();
    for started in 1..=4 {
        let network = one.network.clone();
        hanging.spawn(async move { network.call(NodeId(2), Service::Control, "hang".into(), soon()).await });
        two.echo.until(|echo| echo.started.load(SeqCst) == started).await;
    }
    assert_eq!(code(one.ask(&two, "fifth").await), (ErrorCode::Overloaded, Progress::NotExecuted));
    assert_eq!(two.echo.started.load(SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_address_and_one_that_is_not_there_fail_fast() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    let unknown = one.network.call(NodeId(9), Service::Control, Bytes::new(), soon()).await;
    assert_eq!(code(unknown), (ErrorCode::Unreachable, Progress::NotExecuted));
    let silent = std::net::UdpSocket::bind(localhost()).unwrap();
    one.network.set_address(NodeId(9), silent.local_addr().unwrap());
    for _ in 0..2 {
        let absent = one.network.call(NodeId(9), Service::Control, Bytes::new(), soon()).await;
        assert_eq!(code(absent), (ErrorCode::Unreachable, Progress::NotExecuted));
    }
    let before = Instant::now();
    let _ = one.network.call(NodeId(9), Service::Control, Bytes::new(), soon()).await;
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_is_reached_again() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    let identity = mesh.identity(2);
    let two = Node::start(identity.clone(), localhost()).await;
    one.meet(&two);
    one.ask(&two, "before").await.unwrap();
    let addr = two.network.local_addr();
    two.stop().await;
    let gone = one.network.call(NodeId(2), Service::Control, "gone".into(), soon()).await;
    assert_eq!(code(gone), (ErrorCode::Unreachable, Progress::NotExecuted));
    let two = Node::start(identity, addr).await;
    two.meet(&one);
    // Its first call tells the other side that it is back, whatever that remembers of failed dials.
    two.ask(&one, "hello").await.unwrap();
    for _ in 0..10 {
        assert_eq!(one.ask(&two, "after").await.unwrap(), "after");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_died_without_a_word_and_came_back_is_noticed_at_once() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    let identity = mesh.identity(2);
    let two = Node::start(identity.clone(), localhost()).await;
    one.meet(&two);
    one.ask(&two, "before").await.unwrap();
    let addr = two.network.local_addr();
    // As SIGKILL: the thread and its socket go, and no connection is closed.
    two.network.inner.io.stop().await;
    drop(two);
    let two = loop {
        match Network::bind(NetworkConfig::new(addr), identity.clone(), Arc::<Removed>::default()).await {
            Ok(network) => break network,
            Err(BindError::AddressInUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let echo = Arc::<Echo>::default();
    two.handle(Service::Control, Arc::new(Handler(echo)));
    two.start();
    // The first call may be lost with the old connection; it must learn that far sooner than by the idle timeout.
    let before = Instant::now();
    let first = one.network.call(NodeId(2), Service::Control, "first".into(), soon()).await;
    assert!(first.is_ok() || code(first) == (ErrorCode::PeerLost, Progress::MaybeExecuted));
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    let second = one.network.call(NodeId(2), Service::Control, "second".into(), soon()).await;
    assert_eq!(second.unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_running_requests_finish_and_takes_no_new_ones() {
    let (one, two) = TestMesh::new().pair().await;
    let network = one.network.clone();
    let call = tokio::spawn(async move { network.call(NodeId(2), Service::Control, "large".into(), soon()).await });
    two.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    two.network.shutdown(Instant::now() + PATIENCE).await;
    assert_eq!(call.await.unwrap().unwrap().len(), 5 << 20);
    assert_eq!(code(two.ask(&one, "late").await), (ErrorCode::Draining, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_port_is_named() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    let config = NetworkConfig::new(one.network.local_addr());
    let second = Network::bind(config, mesh.identity(2), Arc::<Removed>::default()).await;
    assert!(matches!(second.map(drop), Err(BindError::AddressInUse { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_closes_the_old_connection() {
    let mesh = TestMesh::new();
    let (one, old, new) = (mesh.node(1).await, mesh.node(2).await, mesh.node(2).await);
    one.meet(&old);
    one.ask(&old, "old").await.unwrap();
    one.meet(&new);
    one.ask(&new, "new").await.unwrap();
    assert_eq!((old.echo.started.load(SeqCst), new.echo.started.load(SeqCst)), (1, 1));
}
