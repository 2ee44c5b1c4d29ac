//! Fetching and replicating among sound peers.

use skein_proto::codec;

use super::*;

const CODE: Bytes = Bytes::from_static(b"some code");

#[tokio::test]
async fn what_is_fetched_is_kept_and_not_fetched_again() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let code = Bytes::from(vec![7; 600_000]);
    let digest = one.artifacts.put(code.clone()).await.unwrap();
    assert_eq!(two.artifacts.get(digest).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(two.artifacts.fetch(digest, &ids([2, 9, 1]), soon()).await.unwrap(), code);
    }
    assert!(two.artifacts.has(digest));
    assert_eq!(net.opened(), 1);
}

#[tokio::test]
async fn an_artifact_of_no_bytes_travels_too() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(Bytes::new()).await.unwrap();
    assert_eq!(two.artifacts.fetch(digest, &ids([1]), soon()).await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn concurrent_fetches_share_one_transfer() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    let mut fetches = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let artifacts = two.artifacts.clone();
        fetches.spawn(async move { artifacts.fetch(digest, &ids([1]), soon()).await });
    }
    while let Some(fetched) = fetches.join_next().await {
        assert_eq!(fetched.unwrap().unwrap(), CODE);
    }
    assert_eq!(net.opened(), 1);
}

#[tokio::test]
async fn a_fetch_that_is_given_up_does_not_stop_those_who_waited_for_it() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    net.bad(3, Bad { answer: None, bytes: b"", is_silent: true });
    let first = two.artifacts.clone();
    let first = tokio::spawn(async move { first.fetch(digest, &ids([3]), soon()).await });
    while net.opened() == 0 {
        tokio::task::yield_now().await;
    }
    let peers = ids([1]);
    let second = two.artifacts.fetch(digest, &peers, soon());
    tokio::pin!(second);
    tokio::select! {
        biased;
        _ = &mut second => panic!("the first fetch has the turn"),
        () = tokio::task::yield_now() => first.abort(),
    }
    assert_eq!(second.await.unwrap(), CODE);
}

#[tokio::test]
async fn a_peer_of_which_nothing_is_heard_is_asked_last() {
    let net = Net::default();
    let (one, two, three) = (net.node(1).await, net.node(2).await, net.node(3).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    net.bad(4, Bad { answer: None, bytes: b"", is_silent: true });
    net.silent.lock().unwrap().insert(NodeId(4));
    assert_eq!(two.artifacts.fetch(digest, &ids([4, 1]), soon()).await.unwrap(), CODE);
    assert_eq!(net.opened(), 1, "the one that is heard was asked alone");
    // It may have what nobody else has.
    net.silent.lock().unwrap().insert(NodeId(1));
    assert_eq!(three.artifacts.fetch(digest, &ids([1, 9]), soon()).await.unwrap(), CODE);
}

#[tokio::test]
async fn who_knows_more_peers_goes_on_where_another_failed() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    let (few, more) = (ids([8]), ids([8, 1]));
    let (lost, had) =
        tokio::join!(two.artifacts.fetch(digest, &few, soon()), two.artifacts.fetch(digest, &more, soon()));
    assert_eq!(lost.unwrap_err().code, ErrorCode::ArtifactUnavailable);
    assert_eq!(had.unwrap(), CODE);
}

/// A sound peer on a slow way.
struct Slow(Arc<dyn Serve>);

#[async_trait]
impl Serve for Slow {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.0.call(from, body, deadline).await
    }

    async fn stream(&self, from: Caller, stream: Box<dyn Duplex>) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        self.0.stream(from, stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_more_time_goes_on_where_a_hasty_one_failed() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    for slow in [8, 9] {
        net.nodes.lock().unwrap().insert(NodeId(slow), Arc::new(Slow(one.artifacts.service())));
    }
    // 100 ms for each of the two.
    let peers = ids([8, 9]);
    let hasty = two.artifacts.fetch(digest, &peers, Instant::now() + Duration::from_millis(200));
    let (hasty, patient) = tokio::join!(hasty, two.artifacts.fetch(digest, &peers, soon()));
    hasty.unwrap_err();
    assert_eq!(patient.unwrap(), CODE);
}

#[tokio::test]
async fn a_peer_says_which_of_many_artifacts_it_has() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let here = one.artifacts.put(CODE).await.unwrap();
    // Over the bound of one call, so that it is asked in pieces.
    let mut digests: Vec<Digest> = (0..=wire::WHICH_MAX as u64).map(|n| Digest::of(&n.to_le_bytes())).collect();
    digests.push(here);
    for (asker, peer) in [(&two, NodeId(1)), (&one, NodeId(1))] {
        let has = asker.artifacts.which_at(peer, &digests, soon()).await.unwrap();
        assert_eq!(has.iter().filter(|has| **has).count(), 1);
        assert_eq!(has.last(), Some(&true));
    }
    let body = codec::encode(&Request::Which { digests }).unwrap();
    let refused = one.artifacts.service().call(Caller::Peer(NodeId(2)), body, soon()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn what_a_publish_has_claimed_is_not_collected() {
    let net = Net::default();
    let one = net.node(1).await;
    let digest = one.artifacts.put(CODE).await.unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(7_200);
    std::fs::File::options().append(true).open(file(&one, digest)).unwrap().set_modified(old).unwrap();
    assert_eq!(one.artifacts.claim(digest).await.unwrap(), Some(CODE));
    let report = one.artifacts.collect(&HashSet::new(), Duration::from_secs(3_600)).await;
    assert_eq!((report.kept, report.removed), (1, 0));
}

#[tokio::test]
async fn a_copy_is_durable_on_as_many_peers_as_asked_for() {
    let net = Net::default();
    let one = net.node(1).await;
    let peers = [net.node(2).await, net.node(3).await, net.node(4).await];
    let digest = one.artifacts.put(CODE).await.unwrap();
    let holders = one.artifacts.replicate(digest, &ids([9, 1, 2, 2, 3, 4]), 2, soon()).await.unwrap();
    assert_eq!(holders.len(), 2);
    for peer in &peers {
        let is_holder = holders.contains(&peer.artifacts.transport.local());
        assert_eq!(file(peer, digest).exists(), is_holder);
        assert_eq!(one.artifacts.has_at(peer.artifacts.transport.local(), digest, soon()).await, Ok(is_holder));
    }
}

#[tokio::test]
async fn copies_that_are_lost_or_broken_are_made_good() {
    let net = Net::default();
    let one = net.node(1).await;
    let (two, three) = (net.node(2).await, net.node(3).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    assert_eq!(one.artifacts.replicate(digest, &ids([2, 3]), 2, soon()).await.unwrap(), ids([2, 3]));
    std::fs::remove_file(file(&two, digest)).unwrap();
    std::fs::write(file(&three, digest), b"rot").unwrap();
    assert_eq!(one.artifacts.replicate(digest, &ids([3, 2]), 5, soon()).await.unwrap(), ids([3, 2]));
    for peer in [&two, &three] {
        assert_eq!(peer.artifacts.get(digest).await.unwrap(), Some(CODE));
    }
}

#[tokio::test]
async fn what_is_not_here_cannot_be_replicated() {
    let net = Net::default();
    let one = net.node(1).await;
    let failure = one.artifacts.replicate(Digest::of(b"x"), &ids([2]), 1, soon()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ArtifactUnavailable);
}

#[tokio::test]
async fn a_peer_without_room_is_passed_over_and_keeps_nothing_half_done() {
    let net = Net::default();
    let one = net.node(1).await;
    let full = net.node_with(2, Config { bytes_max: 5 }).await;
    let three = net.node(3).await;
    let digest = one.artifacts.put(CODE).await.unwrap();
    assert_eq!(one.artifacts.replicate(digest, &ids([2, 3]), 1, soon()).await.unwrap(), ids([3]));
    assert!(three.artifacts.has(digest) && !full.artifacts.has(digest));
    assert_eq!(std::fs::read_dir(full.dir.path().join("tmp")).unwrap().count(), 0);

    let failure = full.artifacts.put(CODE).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::DiskFull, skein_proto::Progress::NotExecuted));
    // A full disk does not keep a node from running what it can fetch.
    assert_eq!(full.artifacts.fetch(digest, &ids([1]), soon()).await.unwrap(), CODE);
    assert!(!full.artifacts.has(digest));
}

#[tokio::test]
async fn a_file_that_rots_is_fetched_again() {
    let net = Net::default();
    let (one, two) = (net.node(1).await, net.node(2).await);
    let digest = one.artifacts.put(CODE).await.unwrap();
    two.artifacts.put(CODE).await.unwrap();
    std::fs::write(file(&two, digest), b"rotten co").unwrap();
    assert_eq!(two.artifacts.get(digest).await.unwrap(), None);
    assert!(file(&two, digest).with_extension("corrupt").exists());
    assert_eq!(two.artifacts.fetch(digest, &ids([1]), soon()).await.unwrap(), CODE);
    assert_eq!(two.artifacts.get(digest).await.unwrap(), Some(CODE));
}

#[tokio::test]
async fn garbage_is_collected_through_the_handle() {
    let net = Net::default();
    let one = net.node(1).await;
    let kept = one.artifacts.put(CODE).await.unwrap();
    let dropped = one.artifacts.put(Bytes::from_static(b"old")).await.unwrap();
    let report = one.artifacts.collect(&HashSet::from([kept]), Duration::ZERO).await;
    assert_eq!(report, CollectReport { kept: 1, removed: 1, freed_bytes: 3 });
    assert!(one.artifacts.has(kept) && !one.artifacts.has(dropped));
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_an_open_error() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("artifacts");
    std::fs::write(&place, b"").unwrap();
    let end = Arc::new(End { net: Net::default(), me: NodeId(1) });
    let error = Artifacts::open(place, end).await.err().unwrap();
    assert!(error.to_string().contains("cannot be used"), "{error}");
}
