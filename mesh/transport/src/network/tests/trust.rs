//! Who is let in, and who is not.

use std::time::SystemTime;

use super::*;
use crate::{CaPin, Stranger};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_mesh_is_refused_in_both_directions() {
    let (ours, theirs) = (TestMesh::new().node(1).await, TestMesh::new().node(2).await);
    ours.meet(&theirs);
    theirs.meet(&ours);
    assert_eq!(code(ours.ask(&theirs, "x").await), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert_eq!(code(theirs.ask(&ours, "x").await), (ErrorCode::Untrusted, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_mesh_that_believes_anybody_is_refused_all_the_same() {
    let ours = TestMesh::new();
    let node = ours.node(1).await;
    let pin = || CaPin::Fingerprint(ours.authority.fingerprint());
    // It believes our CA, yet shows a certificate of its own.
    assert!(super::hostile::connect_showing(&TestMesh::new().identity(2), pin(), &node).await.is_err());
    super::hostile::connect_showing(&ours.identity(2), pin(), &node).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_at_its_next_handshake_and_told_why() {
    let (one, two) = TestMesh::new().pair().await;
    two.ask(&one, "member").await.unwrap();
    assert_eq!(*two.network.removal().borrow(), None);
    one.removed.0.lock().unwrap().insert(NodeId(2));
    one.network.disconnect(NodeId(2));
    let refused = loop {
        match two.ask(&one, "removed").await {
            Err(failure) if failure.code == ErrorCode::PeerLost => {}
            answer => break answer,
        }
    };
    assert_eq!(code(refused), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert_eq!(*two.network.removal().borrow(), Some(NodeId(1)), "who says so");
    assert_eq!(code(one.ask(&two, "removed").await), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert_eq!(
        *one.network.removal().borrow(),
        None,
        "one that is refused by who was removed takes nobody's word for it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_removal_without_the_proof_of_the_handshake_is_not_believed() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    // As far as the code goes, anybody on the way could have said this.
    let server = tls::server(&mesh.identity(2), Arc::new(Removed::default())).unwrap();
    let server = quic::server(&NetworkConfig::new(localhost()), server);
    let endpoint = quinn::Endpoint::server(server, localhost()).unwrap();
    one.network.set_address(NodeId(2), endpoint.local_addr().unwrap());
    let refuses = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        connection.close(crate::close::CLOSE_REMOVED, &[0; 32]);
        connection.closed().await
    };
    let call = one.network.call(NodeId(2), Service::Control, "x".into(), soon());
    let (answer, _) = tokio::join!(call, refuses);
    assert_eq!(code(answer), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert_eq!(*one.network.removal().borrow(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_the_one_dialed_is_refused() {
    let (one, two) = TestMesh::new().pair().await;
    one.network.set_address(NodeId(3), two.network.local_addr());
    let answer = one.network.call(NodeId(3), Service::Control, "x".into(), soon()).await;
    assert_eq!(code(answer), (ErrorCode::Untrusted, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_refused_in_both_directions() {
    let mesh = TestMesh::new();
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    // The authority itself holds from a day ago.
    let past = Validity { not_before: now - day / 2, not_after: now - day / 4 };
    let good = mesh.node(1).await;
    let expired = Node::start(mesh.identity_until(2, past), localhost()).await;
    good.meet(&expired);
    expired.meet(&good);
    assert_eq!(code(good.ask(&expired, "x").await), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert_eq!(code(expired.ask(&good, "x").await), (ErrorCode::Untrusted, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_may_join_and_be_a_client_and_nothing_else() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let pin = CaPin::Fingerprint(mesh.authority.fingerprint());
    let stranger = Stranger::connect(node.network.local_addr(), pin, soon()).await.unwrap().with_key(KEY);
    assert_eq!(stranger.node(), NodeId(1));
    for size in [5, 100_000] {
        let body = Bytes::from(vec![1; size]);
        let joined = stranger.call(Service::Join, body.clone(), soon()).await;
        match size {
            5 => assert_eq!(joined.unwrap(), body),
            _ => assert_eq!(code(joined), (ErrorCode::TooLarge, Progress::NotExecuted)),
        }
        assert_eq!(stranger.call(Service::Client, body.clone(), soon()).await.unwrap(), body);
        for service in [Service::Raft, Service::Invoke, Service::Propose, Service::Artifact, Service::Control] {
            let answer = stranger.call(service, body.clone(), soon()).await;
            assert_eq!(code(answer), (ErrorCode::Untrusted, Progress::NotExecuted), "{service:?}");
        }
    }
    assert_eq!(node.echo.started.load(SeqCst), 3);
    stranger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_believes_only_the_authority_it_pinned() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let addr = node.network.local_addr();
    let other = Authority::found(MeshId::random()).unwrap();
    let right = CaPin::from_pem(&mesh.identity(5).ca_pem()).unwrap();
    Stranger::connect(addr, right, soon()).await.unwrap();
    for wrong in [
        CaPin::Fingerprint(other.fingerprint()),
        CaPin::Certificate(Bytes::copy_from_slice(other.certificate())),
        // The leaf is shown in the handshake, too, but is no authority.
        CaPin::Fingerprint(Digest::of(b"nothing")),
    ] {
        let refused = Stranger::connect(addr, wrong, soon()).await.unwrap_err();
        assert_eq!((refused.code, refused.progress), (ErrorCode::Untrusted, Progress::NotExecuted));
        assert!(refused.message.ends_with("is of another mesh than the one that is asked for"), "{refused}");
    }
    assert!(CaPin::from_pem("junk").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_meets_nobody_is_told_by_its_deadline() {
    let silent = std::net::UdpSocket::bind(localhost()).unwrap();
    let pin = CaPin::Fingerprint(Digest::of(b"ca"));
    let deadline = Instant::now() + Duration::from_millis(100);
    let refused = Stranger::connect(silent.local_addr().unwrap(), pin, deadline).await;
    assert_eq!(code(refused), (ErrorCode::DeadlineExceeded, Progress::NotExecuted));
}
