//! Who gets in, and how much each may have under way.

use super::*;
use crate::{CaPin, Stranger};

async fn stranger(mesh: &TestMesh, node: &Node) -> Result<Arc<Stranger>, Failure> {
    let pin = CaPin::Fingerprint(mesh.authority.fingerprint());
    Stranger::connect(node.network.local_addr(), pin, soon()).await.map(|stranger| Arc::new(stranger.with_key(KEY)))
}

fn hang(stranger: &Arc<Stranger>) -> AbortOnDropHandle<Result<Bytes, Failure>> {
    let stranger = stranger.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { stranger.call(Service::Client, "hang".into(), soon()).await }))
}

async fn configured(mesh: &TestMesh, configure: impl FnOnce(&mut NetworkConfig)) -> Node {
    let mut config = NetworkConfig::new(localhost());
    configure(&mut config);
    Node::configured(config, mesh.identity(1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_take_no_strangers_places_and_strangers_none_of_members() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| config.client_connections_max = 2).await;
    let (two, three) = (mesh.node(2).await, mesh.node(3).await);
    for member in [&two, &three] {
        member.meet(&node);
        for service in [Service::Control, Service::Raft] {
            member.network.call(NodeId(1), service, "x".into(), soon()).await.unwrap();
        }
    }
    let first = stranger(&mesh, &node).await.unwrap();
    assert_eq!(first.call(Service::Client, "x".into(), soon()).await.unwrap(), "x");
    let second = stranger(&mesh, &node).await.unwrap();
    assert_eq!(second.call(Service::Client, "x".into(), soon()).await.unwrap(), "x");
    let third = stranger(&mesh, &node).await.unwrap();
    let refused = third.call(Service::Client, "x".into(), soon()).await;
    assert_eq!(code(refused), (ErrorCode::Unavailable, Progress::NotExecuted));
    second.close().await;
    let place = async { while third.call(Service::Client, "x".into(), soon()).await.is_err() {} };
    timeout(PATIENCE, place).await.expect("its place is free");
    let four = mesh.node(4).await;
    four.meet(&node);
    assert_eq!(four.ask(&node, "members still get in").await.unwrap(), "members still get in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_shown_a_key_may_have_more_under_way_and_is_told_at_the_bound() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| {
        // One is the hello's.
        (config.streams_per_stranger_max, config.streams_per_client_max) = (3, 32);
    })
    .await;
    let client = stranger(&mesh, &node).await.unwrap();
    assert_eq!(client.call(Service::Nodes, "key".into(), soon()).await.unwrap(), "key");
    let before = node.echo.started.load(SeqCst);
    // QUIC tells of new room when there is an eighth of the whole.
    let _hanging: Vec<_> = (0..24).map(|_| hang(&client)).collect();
    node.echo.until(|echo| echo.started.load(SeqCst) == before + 24).await;
    let mut more = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let call = hang(&client);
        more.spawn(call);
    }
    // None that is let in ends.
    let refused = more.join_next().await.unwrap().unwrap().unwrap().unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Unavailable, Progress::NotExecuted));
    assert!(refused.retry_after_ms.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_idle_stranger_leaves_for_a_newcomer_and_who_has_shown_a_key_stays() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| config.stranger_connections_per_address_max = 3).await;
    let client = stranger(&mesh, &node).await.unwrap();
    assert_eq!(client.call(Service::Nodes, "key".into(), soon()).await.unwrap(), "key");
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(stranger(&mesh, &node).await.unwrap());
    }
    let is_gone = |idle: &[Arc<Stranger>]| idle.iter().map(|stranger| stranger.is_closed()).collect::<Vec<_>>();
    assert_eq!(is_gone(&idle), [false; 3], "as many as may be");
    idle.push(stranger(&mesh, &node).await.unwrap());
    timeout(PATIENCE, idle[0].connection().closed()).await.expect("one more: the first leaves");
    assert_eq!(is_gone(&idle), [true, false, false, false]);
    // Of hundreds that stay, none keeps one out that shows a key.
    for _ in 0..100 {
        idle.push(stranger(&mesh, &node).await.unwrap());
    }
    let late = stranger(&mesh, &node).await.unwrap();
    assert_eq!(late.call(Service::Client, "key".into(), soon()).await.unwrap(), "key");
    assert_eq!(client.call(Service::Client, "still here".into(), soon()).await.unwrap(), "still here");
    let member = mesh.node(2).await;
    member.meet(&node);
    assert_eq!(member.ask(&node, "members too").await.unwrap(), "members too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_never_end_keep_nobody_out() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| {
        (config.handshakes_max, config.handshakes_per_address_max) = (8, 3);
        config.handshake_timeout = 10 * PATIENCE;
    })
    .await;
    // A first packet, sent anew from port after port and never followed up.
    let hello = first_packet(&mesh).await;
    let sockets: Vec<_> = (0..20).map(|_| std::net::UdpSocket::bind(localhost()).unwrap()).collect();
    for socket in &sockets {
        socket.send_to(&hello, node.network.local_addr()).unwrap();
    }
    let member = mesh.node(2).await;
    member.meet(&node);
    assert_eq!(member.ask(&node, "in").await.unwrap(), "in");
    let client = stranger(&mesh, &node).await.unwrap();
    assert_eq!(client.call(Service::Client, "in".into(), soon()).await.unwrap(), "in");
}

/// What a client sends first.
async fn first_packet(mesh: &TestMesh) -> Vec<u8> {
    let nobody = tokio::net::UdpSocket::bind(localhost()).await.unwrap();
    let pin = CaPin::Fingerprint(mesh.authority.fingerprint());
    let dial = AbortOnDropHandle::new(tokio::spawn(Stranger::connect(nobody.local_addr().unwrap(), pin, soon())));
    let mut packet = vec![0; 2_000];
    let length = timeout(PATIENCE, nobody.recv(&mut packet)).await.unwrap().unwrap();
    drop(dial);
    packet.truncate(length);
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_not_followed_up_gets_at_most_three_times_its_bytes() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let hello = first_packet(&mesh).await;
    let socket = tokio::net::UdpSocket::bind(localhost()).await.unwrap();
    socket.send_to(&hello, node.network.local_addr()).await.unwrap();
    let (mut received, mut packet) = (0, vec![0; 2_000]);
    let (mut sizes, began) = (Vec::new(), Instant::now());
    // The handshake is given up after three seconds: repetitions count, too.
    let until = Instant::now() + Duration::from_secs(4);
    while let Ok(length) = tokio::time::timeout_at(until, socket.recv(&mut packet)).await {
        let length = length.unwrap();
        received += length;
        sizes.push((began.elapsed().as_millis(), length));
    }
    assert!(received > 0 && received <= 3 * hello.len(), "{received} bytes for {}: {sizes:?}", hello.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_may_send_little_before_it_shows_a_key_and_much_after() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let client = stranger(&mesh, &node).await.unwrap();
    // Of a frame that never is whole nobody reads on, and beyond the window nothing leaves.
    let (mut sender, _receiver) = client.connection().open_bi().await.unwrap();
    sender.write_all(&[0, 0, 3, 0xff]).await.unwrap();
    let mut sent = 0;
    let flood = async {
        while let Ok(written) = sender.write(&[0; 1 << 10]).await {
            sent += written;
        }
    };
    let _ = timeout(Duration::from_millis(500), flood).await;
    let most = usize::try_from(quic::STRANGER_WINDOW_BYTES).unwrap();
    assert!(sent <= 2 * most, "{sent} bytes left");
    let large = Bytes::from(vec![7; 5 << 20]);
    assert_eq!(client.call(Service::Client, large.clone(), soon()).await.unwrap(), large);
}

/// A stranger's request of which only the first frame is sent: the answer, though no body follows.
async fn begun(stranger: &Stranger, service: Service, key: Option<&str>) -> Option<Frame> {
    let (mut sender, receiver) = stranger.connection().open_bi().await.unwrap();
    let key = key.map(|key| crate::frame::ShownKey(key.into()));
    let open = Frame::Open { service: Some(service), deadline_ms: 60_000, is_stream: false, key };
    sender.write_chunk(open.to_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, crate::stream::FrameReader::new(receiver).next()).await;
    answer.expect("it is answered before its body arrives").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_key_is_refused_before_a_byte_of_its_body_is_read() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let other = stranger(&mesh, &node).await.unwrap();
    for service in [Service::Client, Service::Nodes] {
        for (key, asked) in [(None, 0), (Some("sk_other"), 1)] {
            let before = node.echo.asked.load(SeqCst);
            let answer = begun(&other, service, key).await;
            let Some(Frame::Fail { failure, .. }) = answer else { panic!("{answer:?}") };
            assert_eq!((failure.code, failure.progress), (ErrorCode::Unauthenticated, Progress::NotExecuted));
            assert_eq!(node.echo.asked.load(SeqCst) - before, asked, "{service:?} {key:?}");
        }
    }
    assert_eq!(node.echo.started.load(SeqCst), 0, "no handler was called");
    assert_eq!(other.call(Service::Client, "with a key".into(), soon()).await.unwrap(), "with a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_no_free_streams() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let client = stranger(&mesh, &node).await.unwrap();
    for service in [Service::Client, Service::Nodes, Service::Join] {
        let (mut sender, mut receiver) = client.connection().open_bi().await.unwrap();
        let key = Some(crate::frame::ShownKey(KEY.into()));
        let open = Frame::Open { service: Some(service), deadline_ms: 60_000, is_stream: true, key };
        sender.write_chunk(open.to_bytes()).await.unwrap();
        // A handler would send back what it is sent.
        let _ = sender.write_chunk(Bytes::from_static(b"echo")).await;
        let answer = timeout(PATIENCE, receiver.read_chunk(10, true)).await.unwrap();
        assert_eq!(answer.unwrap_err(), quinn::ReadError::Reset(crate::close::STREAM_REFUSED), "{service:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_frame_of_a_stranger_is_small() {
    use crate::frame::STRANGER_FRAME_BYTES_MAX;
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let client = stranger(&mesh, &node).await.unwrap();
    for (bytes, is_read) in
        [(STRANGER_FRAME_BYTES_MAX - 1, true), (STRANGER_FRAME_BYTES_MAX, true), (STRANGER_FRAME_BYTES_MAX + 1, false)]
    {
        let (mut sender, receiver) = client.connection().open_bi().await.unwrap();
        let key = |length| Some(crate::frame::ShownKey("k".repeat(length).into()));
        let open = |key| Frame::Open { service: Some(Service::Client), deadline_ms: 9_000, is_stream: false, key };
        // What the key is longer by, the frame is.
        let spare = bytes + 4 - open(key(300)).to_bytes().len();
        let frame = open(key(300 + spare)).to_bytes();
        assert_eq!(frame.len(), bytes + 4);
        sender.write_chunk(frame).await.unwrap();
        let answer = timeout(PATIENCE, crate::stream::FrameReader::new(receiver).next()).await.unwrap();
        assert_eq!(matches!(answer, Ok(Some(Frame::Fail { .. }))), is_read, "{bytes}: {answer:?}");
        assert_eq!(answer.is_err(), !is_read, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_clients_are_bounded_and_keep_nobody_from_showing_a_key() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| config.client_requests_max = 3).await;
    let one = stranger(&mesh, &node).await.unwrap();
    let mut hanging: Vec<_> = (0..2).map(|_| hang(&one)).collect();
    node.echo.until(|echo| echo.started.load(SeqCst) == 2).await;
    let two = stranger(&mesh, &node).await.unwrap();
    assert_eq!(two.call(Service::Client, "third".into(), soon()).await.unwrap(), "third");
    hanging.push(hang(&one));
    node.echo.until(|echo| echo.started.load(SeqCst) == 4).await;
    let refused = two.call(Service::Client, "fourth".into(), soon()).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Unavailable, Progress::NotExecuted));
    assert!(refused.retry_after_ms.is_some());
    assert_eq!(two.call(Service::Nodes, "key".into(), soon()).await.unwrap(), "key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_would_take_too_much_memory_are_refused_before_they_are_held() {
    let mesh = TestMesh::new();
    let node = configured(&mesh, |config| config.client_body_bytes_max = 100 << 10).await;
    let client = stranger(&mesh, &node).await.unwrap();
    for (bytes, is_held) in [((100 << 10) - 1, true), (100 << 10, true), ((100 << 10) + 1, false)] {
        let body = Bytes::from(vec![0; bytes]);
        match client.call(Service::Client, body.clone(), soon()).await {
            Ok(answer) => assert!(is_held && answer == body, "{bytes}"),
            refused => {
                assert_eq!(code(refused), (ErrorCode::Unavailable, Progress::NotExecuted), "{bytes}");
                assert!(!is_held, "{bytes}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_to_a_peer_that_is_gone_take_no_place_of_those_to_others() {
    let mesh = TestMesh::new();
    let (one, two) = mesh.pair().await;
    let silent = std::net::UdpSocket::bind(localhost()).unwrap();
    one.network.set_address(NodeId(9), silent.local_addr().unwrap());
    for _ in 0..1_000 {
        one.network.datagram(NodeId(9), Service::Gossip, Bytes::from_static(b"anybody there?"));
    }
    one.network.datagram(NodeId(2), Service::Gossip, Bytes::from_static(b"hello"));
    two.echo.until(|echo| echo.datagrams.lock().unwrap().len() == 1).await;
}

/// Trusts a node once, and has it removed while that is being asked.
struct RemovedMeanwhile(Mutex<Option<Network>>, AtomicUsize);

impl Trust for RemovedMeanwhile {
    fn is_trusted(&self, node: NodeId, _: Digest) -> bool {
        let is_first = self.1.fetch_add(1, SeqCst) == 0;
        if let Some(network) = self.0.lock().unwrap().as_ref().filter(|_| is_first) {
            // What the catalogue's followers do of it: there is no connection yet that they could close.
            network.remove_address(node);
            network.disconnect(node);
        }
        is_first
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_while_it_shakes_hands_is_not_let_in() {
    let mesh = TestMesh::new();
    let trust = Arc::new(RemovedMeanwhile(Mutex::default(), AtomicUsize::default()));
    let network = Network::bind(NetworkConfig::new(localhost()), mesh.identity(1), trust.clone()).await.unwrap();
    let echo = Arc::<Echo>::default();
    network.handle(Service::Control, Arc::new(Handler(echo.clone())));
    network.start();
    *trust.0.lock().unwrap() = Some(network.clone());
    let two = mesh.node(2).await;
    two.network.set_address(NodeId(1), network.local_addr());
    let refused = two.network.call(NodeId(1), Service::Control, "let me in".into(), soon()).await;
    assert_eq!(code(refused), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert!(trust.1.load(SeqCst) >= 2, "it was asked again after the handshake");
    assert_eq!(echo.started.load(SeqCst), 0);
    trust.0.lock().unwrap().take();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_any_more_is_named_with_its_open_connections() {
    let (one, two) = TestMesh::new().pair().await;
    two.ask(&one, "accepted").await.unwrap();
    one.ask(&two, "dialed").await.unwrap();
    assert!(one.network.untrusted().is_empty());
    one.removed.0.lock().unwrap().insert(NodeId(2));
    assert_eq!(one.network.untrusted().into_iter().collect::<Vec<_>>(), [NodeId(2)]);
    one.network.disconnect(NodeId(2));
    assert!(one.network.untrusted().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_end_with_their_connection_whoever_sees_its_end_first() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    for round in 1..=60 {
        let (_endpoint, connection) = super::hostile::raw(&mesh.identity(3), &node).await;
        let (mut sender, _reader) = super::hostile::lane(&connection).await;
        let call = Frame::Call { id: 5, service: Some(Service::Control), deadline_ms: 60_000, body: "hang".into() };
        sender.write_chunk(call.to_bytes()).await.unwrap();
        node.echo.until(|echo| echo.started.load(SeqCst) == round).await;
        // They wake the connection's own task, which then may see the end before the lane does.
        let mut gossip = BytesMut::new();
        Frame::Datagram { service: Some(Service::Gossip), body: "x".into() }.write_bare(&mut gossip);
        for _ in 0..8 {
            let _ = connection.send_datagram(gossip.clone().freeze());
        }
        if round % 2 == 0 {
            connection.close(CLOSE_DONE, b"");
        } else {
            node.network.disconnect(NodeId(3));
        }
        node.echo.until(|echo| echo.dropped.load(SeqCst) == round).await;
    }
}
