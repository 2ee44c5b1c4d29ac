//! The receiving side, rule by rule.

use proptest::prelude::*;

use super::*;

const PEER: Caller = Caller::Peer(NodeId(2));

fn service() -> (Arc<Fake>, watch::Sender<Arc<Catalog>>, Arc<dyn Serve>) {
    let fake = Arc::new(Fake::default());
    let (sender, catalog): (_, Watch) = watch::channel(Arc::new(catalog()));
    let service = invoke_service(fake.clone(), catalog);
    (fake, sender, service)
}

fn attempt(index_min: u64) -> Attempt {
    Attempt::new(&call(), version(), index_min)
}

async fn send(service: &Arc<dyn Serve>, from: Caller, attempt: &Attempt) -> Result<Reply, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let answer = service.call(from, codec::encode(attempt).unwrap(), deadline).await?;
    Ok(codec::decode(&answer).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_peers_attempt_goes_to_the_runtime() {
    let (_, _sender, service) = service();
    let reply = send(&service, PEER, &attempt(5)).await.unwrap();
    assert_eq!((reply.version, &reply.payload[..]), (version(), &b"in"[..]));
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused() {
    let (fake, _sender, service) = service();
    assert_eq!(send(&service, Caller::Stranger, &attempt(0)).await.unwrap_err().code, ErrorCode::Untrusted);
    assert_eq!(fake.nodes_tried(), []);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_the_callers() {
    let (fake, _sender, service) = service();
    send(&service, PEER, &Attempt { deadline_ms: 250, ..attempt(0) }).await.unwrap();
    send(&service, PEER, &Attempt { deadline_ms: u64::MAX, ..attempt(0) }).await.unwrap();
    let left: Vec<_> = fake.seen.lock().unwrap().iter().map(|(_, attempt)| attempt.deadline_ms).collect();
    assert_eq!(left, [250, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_waits_for_its_catalogue() {
    let (_, sender, service) = service();
    let catches_up = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        sender.send_modify(|shared| Arc::make_mut(shared).advance(8));
    };
    let attempt = attempt(8);
    let (outcome, ()) = tokio::join!(send(&service, PEER, &attempt), catches_up);
    assert!(outcome.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_too_far_sends_the_call_back() {
    let (fake, _sender, service) = service();
    for (left_ms, waited_ms) in [(10_000, 500), (200, 200)] {
        let began = Instant::now();
        let failure = send(&service, PEER, &Attempt { deadline_ms: left_ms, ..attempt(8) }).await.unwrap_err();
        assert_eq!((failure.code, failure.progress), (ErrorCode::Moved, Progress::NotExecuted));
        assert_eq!(began.elapsed(), Duration::from_millis(waited_ms));
    }
    assert_eq!(fake.nodes_tried(), []);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_not_found() {
    let (_, _sender, service) = service();
    let gone = VersionId { number: 9, ..version() };
    let failure = send(&service, PEER, &Attempt { version: gone, ..attempt(5) }).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::VersionNotFound, Progress::NotExecuted));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_too_deep_ends_here_too() {
    let (_, _sender, service) = service();
    let failure = send(&service, PEER, &Attempt { depth: u8::MAX, ..attempt(5) }).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::LimitExceeded);
}

#[tokio::test(start_paused = true)]
async fn the_runtimes_failure_is_passed_on_as_it_is() {
    let (fake, _sender, service) = service();
    let failed = Failure { exit_code: Some(2), ..Failure::executed(ErrorCode::FunctionFailed, "exit 2") };
    fake.plan.lock().unwrap().insert(1, [Does::Fails(failed.clone())].into());
    assert_eq!(send(&service, PEER, &attempt(5)).await.unwrap_err(), failed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_malformed_and_reaches_no_runtime(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (fake, _sender, service) = service();
            let deadline = Instant::now() + Duration::from_secs(1);
            let failure = service.call(PEER, Bytes::from(body), deadline).await.unwrap_err();
            assert_eq!((failure.code, failure.progress), (ErrorCode::Malformed, Progress::NotExecuted));
            assert_eq!(fake.nodes_tried(), []);
        });
    }
}
