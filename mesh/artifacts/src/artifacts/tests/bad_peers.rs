//! Peers that lie, break off or go silent, and strangers.

use super::*;

/// What fetching `good` says when node 2 is `bad`, and whether a sound node 3 makes it good.
async fn check(bad: Bad, says: &str) {
    let net = Net::default();
    let (one, three) = (net.node(1).await, net.node(3).await);
    let digest = three.artifacts.put(Bytes::from_static(b"good")).await.unwrap();
    net.bad(2, bad);
    let failure = one.artifacts.fetch(digest, &ids([2]), soon()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ArtifactUnavailable);
    assert!(failure.message.contains(says), "{failure}");
    assert!(!one.artifacts.has(digest));
    assert_eq!(std::fs::read_dir(one.dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(one.artifacts.fetch(digest, &ids([2, 3]), soon()).await.unwrap(), "good");
    // Nor is such a peer ever counted as a holder.
    assert_eq!(one.artifacts.replicate(digest, &ids([2]), 1, soon()).await.unwrap(), []);
}

fn bad(answer: Option<Answer>, bytes: &'static [u8]) -> Bad {
    Bad { answer, bytes, is_silent: false }
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    check(bad(Some(Answer::Bytes { size: 4 }), b"evil"), "node 2: the bytes have digest sha256:").await;
}

#[tokio::test]
async fn a_truncated_stream_is_refused() {
    check(bad(Some(Answer::Bytes { size: 4 }), b"goo"), "node 2: the stream broke").await;
}

#[tokio::test]
async fn a_stream_that_closes_at_once_is_refused() {
    check(bad(None, b""), "node 2: the stream broke").await;
}

#[tokio::test]
async fn an_announcement_over_the_limit_is_refused_before_a_byte_is_read() {
    check(bad(Some(Answer::Bytes { size: u64::MAX }), b""), "was announced").await;
}

#[tokio::test]
async fn garbage_for_an_answer_is_refused() {
    check(bad(None, b"\x03\0\0\0abc"), "could not be decoded").await;
    check(bad(None, b"\xff\xff\xff\xffabc"), "a message of 4294967295 bytes").await;
}

#[tokio::test]
async fn an_answer_to_something_else_is_refused() {
    check(bad(Some(Answer::Send), b""), "what was not asked").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_left_for_the_next() {
    let silent = Bad { answer: Some(Answer::Bytes { size: 4 }), bytes: b"go", is_silent: true };
    check(silent, "nothing moved for").await;
    check(Bad { answer: None, bytes: b"", is_silent: true }, "nothing moved for").await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_by_its_deadline() {
    let net = Net::default();
    let one = net.node(1).await;
    net.bad(2, Bad { answer: None, bytes: b"", is_silent: true });
    let deadline = Instant::now() + Duration::from_millis(100);
    let (digest, peers) = (Digest::of(b"x"), ids([2]));
    let (first, second) =
        tokio::join!(one.artifacts.fetch(digest, &peers, soon()), one.artifacts.fetch(digest, &peers, deadline));
    assert_eq!(first.unwrap_err().code, ErrorCode::ArtifactUnavailable);
    assert_eq!(second.unwrap_err().code, ErrorCode::DeadlineExceeded);
    assert!(one.artifacts.flights.is_empty());
}

#[tokio::test]
async fn no_peers_or_none_that_answer_is_said() {
    let net = Net::default();
    let one = net.node(1).await;
    for (peers, says) in [(&ids([1])[..], "no node was named"), (&ids([7, 8])[..], "node 7: nobody there; node 8")] {
        let failure = one.artifacts.fetch(Digest::of(b"x"), peers, soon()).await.unwrap_err();
        assert!(failure.message.contains(says), "{failure}");
    }
}

/// What the service of a node answers to `request` on a stream, followed by `bytes` and the end.
async fn answer(node: &Node, from: Caller, request: &Request, bytes: &[u8]) -> Vec<Answer> {
    let (mut here, there) = tokio::io::duplex(1 << 20);
    let patience = Duration::from_secs(60);
    wire::send(&mut here, request, patience).await.unwrap();
    here.write_all(bytes).await.unwrap();
    here.shutdown().await.unwrap();
    node.artifacts.service().stream(from, Box::new(there)).await;
    let mut answers = Vec::new();
    while let Ok(answer) = wire::receive(&mut here, patience).await {
        answers.push(answer);
    }
    answers
}

fn code(answers: &[Answer]) -> Option<ErrorCode> {
    match answers.last() {
        Some(Answer::Failed(failure)) => Some(failure.code),
        _ => None,
    }
}

#[tokio::test]
async fn the_service_refuses_strangers_and_what_does_not_fit() {
    let net = Net::default();
    let one = net.node(1).await;
    let digest = Digest::of(b"good");
    let (peer, get) = (Caller::Peer(NodeId(2)), Request::Get { digest });
    assert_eq!(code(&answer(&one, Caller::Stranger, &get, b"").await), Some(ErrorCode::Untrusted));
    assert_eq!(code(&answer(&one, peer, &get, b"").await), Some(ErrorCode::ArtifactUnavailable));
    assert_eq!(code(&answer(&one, peer, &Request::Has { digest }, b"").await), Some(ErrorCode::BadRequest));
    let put = |size| Request::Put { digest, size };
    assert_eq!(code(&answer(&one, peer, &put(u64::MAX), b"").await), Some(ErrorCode::TooLarge));
    assert_eq!(code(&answer(&one, peer, &put(4), b"evil").await), Some(ErrorCode::BadRequest));
    assert_eq!(answer(&one, peer, &put(4), b"goo").await, [Answer::Send]);
    assert!(!one.artifacts.has(digest));
    assert_eq!(answer(&one, peer, &put(4), b"good").await, [Answer::Send, Answer::Kept]);
    assert_eq!(answer(&one, peer, &put(4), b"").await, [Answer::Kept]);
}

#[tokio::test]
async fn the_service_refuses_garbage_and_strangers_in_calls() {
    let net = Net::default();
    let node = net.node(1).await;
    let service = node.artifacts.service();
    let peer = Caller::Peer(NodeId(2));
    let has = skein_proto::codec::encode(&Request::Has { digest: Digest::of(b"x") }).unwrap();
    let get = skein_proto::codec::encode(&Request::Get { digest: Digest::of(b"x") }).unwrap();
    for (from, body, code) in [
        (peer, Bytes::from_static(b"\xc1garbage"), ErrorCode::Malformed),
        (peer, get, ErrorCode::BadRequest),
        (Caller::Stranger, has, ErrorCode::Untrusted),
    ] {
        assert_eq!(service.call(from, body, soon()).await.unwrap_err().code, code);
    }
}
