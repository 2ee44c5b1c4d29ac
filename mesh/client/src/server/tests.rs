//! The service alone: bytes in, bytes out.

use std::sync::atomic::Ordering::SeqCst;

use skein_proto::{InvocationId, Progress};

use super::*;
use crate::testing::{Functions, KEY, Keys};

fn request(reference: &str) -> ClientRequest {
    ClientRequest {
        invocation: InvocationId::random(),
        reference: reference.parse().unwrap(),
        payload: Bytes::from_static(b"hi"),
        headers: vec![("a".into(), "b".into())],
        deadline_ms: 500,
        traceparent: Some("00-1-2-01".into()),
        index_min: 9,
        is_idempotent: true,
        was_lost: true,
    }
}

async fn ask(functions: &Arc<Functions>, body: Bytes) -> Result<ClientReply, Failure> {
    ask_with(KEY, functions, body).await
}

async fn ask_with(key: &str, functions: &Arc<Functions>, body: Bytes) -> Result<ClientReply, Failure> {
    let service = ClientService::new(functions.clone(), Arc::new(Keys::default()));
    let deadline = Instant::now() + Duration::from_secs(60);
    let answer = service.call_with_key(key, body, deadline).await?;
    Ok(codec::decode(&answer)?)
}

async fn check(request: &ClientRequest, code: ErrorCode) {
    let functions = Arc::new(Functions::default());
    let failure = ask(&functions, codec::encode(request).unwrap()).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (code, Progress::NotExecuted), "{failure}");
    assert!(functions.seen.lock().unwrap().is_empty(), "nothing was called");
}

#[tokio::test(start_paused = true)]
async fn a_call_arrives_as_it_was_sent() {
    let functions = Arc::new(Functions { node: 1, ..Functions::default() });
    let request = request("shop/echo:canary");
    let answer = ask(&functions, codec::encode(&request).unwrap()).await.unwrap();
    assert_eq!((answer.reply.payload.as_ref(), answer.node_name.as_str()), (&b"hi"[..], "goose"));
    let seen = functions.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.id, request.invocation);
    assert_eq!(seen.target, InvocationTarget::Reference(request.reference));
    assert_eq!(seen.headers[..], request.headers[..]);
    assert_eq!(seen.traceparent.as_deref(), request.traceparent.as_deref());
    assert_eq!((seen.index_min, seen.depth, seen.is_idempotent, seen.was_lost), (9, 0, true, true));
    assert_eq!(seen.remaining(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn no_deadline_is_longer_than_the_transports() {
    let functions = Arc::new(Functions::default());
    let request = ClientRequest { deadline_ms: u64::MAX, ..request("echo") };
    ask(&functions, codec::encode(&request).unwrap()).await.unwrap();
    assert_eq!(functions.seen.lock().unwrap()[0].remaining(), Duration::from_secs(60));
}

#[tokio::test]
async fn keys_are_checked_before_anything_is_called() {
    let functions = Arc::new(Functions::default());
    let refused = ask_with("sk_other", &functions, codec::encode(&request("echo")).unwrap()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert!(functions.seen.lock().unwrap().is_empty(), "nothing was called");
    let service = ClientService::new(functions.clone(), Arc::new(Keys::default()));
    service.admit(KEY).await.unwrap();
    assert_eq!(service.admit("sk_other").await.unwrap_err().code, ErrorCode::Unauthenticated);
    let keyless = service.call(Caller::Stranger, codec::encode(&request("echo")).unwrap(), Instant::now()).await;
    assert_eq!(keyless.unwrap_err().code, ErrorCode::Unauthenticated);
    check(&request("secret/echo"), ErrorCode::Forbidden).await;
}

#[tokio::test]
async fn keys_are_checked_by_the_catalogue_that_was_waited_for_and_nobody_waits_without_one() {
    for (key, revoked, expected) in
        [(KEY, 9, (ErrorCode::Unauthenticated, 9, 0)), ("sk_other", 0, (ErrorCode::Unauthenticated, 0, 0))]
    {
        let (functions, keys) = (Arc::new(Functions::default()), Arc::new(Keys::default()));
        keys.revoked.store(revoked, SeqCst);
        let service = ClientService::new(functions.clone(), keys.clone());
        let body = codec::encode(&request("echo")).unwrap();
        let failure = service.call_with_key(key, body, Instant::now() + Duration::from_secs(60)).await.unwrap_err();
        let (waited_for, called) = (keys.index.load(SeqCst), functions.seen.lock().unwrap().len());
        assert_eq!((failure.code, waited_for, called), expected, "{failure}");
    }
}

#[tokio::test]
async fn headers_that_are_too_many_or_too_long_are_refused() {
    let header = |name: &str, bytes| (name.to_owned(), "x".repeat(bytes));
    for (count, is_taken) in [(HEADERS_MAX - 1, true), (HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
        let request = ClientRequest { headers: vec![header("a", 1); count], ..request("echo") };
        match is_taken {
            true => drop(ask(&Arc::default(), codec::encode(&request).unwrap()).await.unwrap()),
            false => check(&request, ErrorCode::TooLarge).await,
        }
    }
    let long = vec![header("a", HEADERS_BYTES_MAX)];
    check(&ClientRequest { headers: long, ..request("echo") }, ErrorCode::TooLarge).await;
    let traceparent = Some("0".repeat(TRACEPARENT_BYTES_MAX + 1));
    check(&ClientRequest { traceparent, ..request("echo") }, ErrorCode::TooLarge).await;
}

#[tokio::test]
async fn bytes_that_are_no_request_are_malformed() {
    for body in [&b""[..], b"\xc1", b"hello", b"\x80", &[0xdd, 0xff, 0xff, 0xff, 0xff]] {
        let failure = ask(&Arc::default(), Bytes::copy_from_slice(body)).await.unwrap_err();
        assert_eq!((failure.code, failure.progress), (ErrorCode::Malformed, Progress::NotExecuted), "{body:?}");
    }
}

#[tokio::test]
async fn a_functions_failure_is_passed_on_whole() {
    let failure = ask(&Arc::default(), codec::encode(&request("fail")).unwrap()).await.unwrap_err();
    assert_eq!((failure.code, failure.exit_code), (ErrorCode::FunctionFailed, Some(3)));
}

#[tokio::test]
async fn which_nodes_there_are_is_told_to_holders_of_a_key() {
    let keys = Arc::new(Keys::default());
    let known = NodeAddress { name: "goose".into(), mesh: "127.0.0.1:1".into() };
    keys.nodes.lock().unwrap().push(known.clone());
    let service = NodesService::new(keys);
    let ask = async |key: &str| {
        let body = codec::encode(&NodesRequest {}).unwrap();
        service.call_with_key(key, body, Instant::now() + Duration::from_secs(60)).await
    };
    let reply: NodesReply = codec::decode(&ask(KEY).await.unwrap()).unwrap();
    assert_eq!(reply.nodes, [known]);
    assert_eq!(ask("sk_other").await.unwrap_err().code, ErrorCode::Unauthenticated);
}
