//! Calls: what arrives at the function, what comes back, and every way to fail.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use skein_catalog::RequestId;
use skein_proto::{ErrorCode, Failure, InvocationTarget, Progress};
use tokio::time::{Instant, timeout};

use crate::{
    fakes::echo,
    fixture::{Fixture, PAYLOAD_BYTES, SOON, problem},
    raw::Raw,
};

const PRICE: &str = "/fn/shop/price";

#[tokio::test]
async fn a_call_comes_back_with_its_headers() {
    let fixture = Fixture::start().await;
    let response = fixture.call(PRICE).body("{\"a\":1}").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let call = fixture.invoke.last();
    assert_eq!(header("skein-invocation"), call.id.to_string());
    assert_eq!(header("skein-version"), "1");
    assert_eq!(header("skein-node"), "node-1");
    assert_eq!(header("skein-start"), "warm");
    let timing = "queue;dur=0.010, start;dur=0.000, load;dur=0.000, instantiate;dur=0.000, run;dur=2.500, wait;dur=0.000, reset;dur=0.000";
    assert_eq!(header("server-timing"), timing);
    assert_eq!(Some(header("traceparent").as_str()), call.traceparent.as_deref());
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(response.text().await.unwrap(), "{\"a\":1}");
}

#[tokio::test]
async fn a_function_gets_body_headers_path_and_query() {
    let fixture = Fixture::start().await;
    let request = fixture
        .http
        .put(format!("http://{}/fn/shop/price:live/a%2Fb?x=1&y", fixture.gateway.http_addr()))
        .bearer_auth(fixture.key("invoke"))
        .header("x-own", "value")
        .header("idempotency-key", "order-7")
        .header("skein-min-index", "3")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    request.body("body").send().await.unwrap().error_for_status().unwrap();
    let call = fixture.invoke.last();
    let reference = InvocationTarget::Reference("shop/price:live".parse().unwrap());
    assert_eq!((call.target, call.payload, call.depth), (reference, Bytes::from("body"), 0));
    assert_eq!((call.is_idempotent, call.index_min), (true, 3));
    assert!(call.traceparent.unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    let header = |name: &str| call.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    assert_eq!(header("skein-method"), Some("PUT"));
    assert_eq!(header("skein-path"), Some("/a%2Fb"));
    assert_eq!(header("skein-query"), Some("x=1&y"));
    assert_eq!(header("x-own"), Some("value"));
    assert_eq!(header("authorization"), None);
    assert_eq!(header("content-length"), None);
}

#[tokio::test]
async fn the_default_deadline_is_the_functions_and_a_margin() {
    let fixture = Fixture::start().await;
    let begun = Instant::now();
    fixture.call(PRICE).send().await.unwrap();
    let deadline = fixture.invoke.last().deadline - begun;
    assert!((Duration::from_secs(3)..Duration::from_secs(10)).contains(&deadline), "{deadline:?}");
    fixture.call(PRICE).header("skein-deadline", "250ms").send().await.unwrap();
    assert!(fixture.invoke.last().deadline <= Instant::now() + Duration::from_millis(250));
}

#[tokio::test]
async fn every_failure_becomes_a_problem_that_says_how_far_it_got() {
    let fixture = Fixture::start().await;
    for code in ErrorCode::ALL {
        fixture.invoke.set(move |_| async move { Err(Failure::maybe_executed(*code, "what happened")) });
        let response = fixture.call(PRICE).body("x").send().await.unwrap();
        let id = response.headers()["skein-invocation"].to_str().unwrap().to_owned();
        assert!(response.headers().contains_key("traceparent"));
        let problem = problem(response, code.http_status(), code.as_str()).await;
        assert_eq!((problem.detail.as_str(), problem.progress), ("what happened", Progress::MaybeExecuted));
        assert_eq!(problem.invocation.unwrap().to_string(), id);
    }
}

#[tokio::test]
async fn a_failed_function_shows_exit_code_and_log() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|_| async {
        let mut failure = Failure::executed(ErrorCode::FunctionFailed, "exit code 3");
        (failure.exit_code, failure.log_tail) = (Some(3), "no such currency\n".to_owned());
        Err(failure)
    });
    let problem = problem(fixture.call(PRICE).send().await.unwrap(), 502, "function-failed").await;
    assert_eq!((problem.exit_code, problem.log_tail.as_str()), (Some(3), "no such currency\n"));
    assert_eq!(problem.progress, Progress::Executed);
}

#[tokio::test]
async fn what_is_overloaded_says_when_to_come_back() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|_| async {
        Err(Failure::not_executed(ErrorCode::Overloaded, "full").retry_after(Duration::from_millis(2_500)))
    });
    let response = fixture.call(PRICE).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "3");
    assert_eq!(problem(response, 429, "overloaded").await.retry_after_ms, Some(2_500));
}

#[tokio::test]
async fn a_call_that_overruns_its_deadline_is_given_up() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|_| std::future::pending());
    let response = fixture.call(PRICE).header("skein-deadline", "50ms").send().await.unwrap();
    let problem = problem(response, 504, "deadline-exceeded").await;
    assert_eq!(problem.progress, Progress::MaybeExecuted);
    assert_eq!(fixture.invoke.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bad_options_are_refused_before_anything_runs() {
    let fixture = Fixture::start().await;
    for (name, value, status) in [
        ("skein-deadline", "5", 400),
        ("skein-deadline", "1h", 400),
        ("skein-min-index", "x", 400),
        ("prefer", "respond-async", 501),
    ] {
        let response = fixture.call(PRICE).header(name, value).body("x").send().await.unwrap();
        problem(response, status, "bad-request").await;
    }
    assert_eq!(fixture.invoke.count(), 0);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let fixture = Fixture::start().await;
    for (path, code) in [
        ("/fn/shop/other", "function-not-found"),
        ("/fn/other/price", "function-not-found"),
        ("/fn/shop/price@2", "version-not-found"),
        ("/fn/shop/price:canary", "alias-not-found"),
        ("/", "not-found"),
        ("/fn/", "not-found"),
        ("/v1/functions", "not-found"),
    ] {
        problem(fixture.call(path).body("x").send().await.unwrap(), 404, code).await;
    }
    for path in ["/fn/price", "/fn/Shop/price", "/fn/shop/price@0", "/fn/shop/%ff", "/fn/%2fshop/price"] {
        problem(fixture.call(path).send().await.unwrap(), 400, "bad-request").await;
    }
    assert_eq!(fixture.invoke.count(), 0);
}

#[tokio::test]
async fn a_payload_is_held_to_the_versions_limit() {
    let fixture = Fixture::start().await;
    let limit = usize::try_from(PAYLOAD_BYTES).unwrap();
    for (size, is_refused) in [(0, false), (limit - 1, false), (limit, false), (limit + 1, true), (8 << 20, true)] {
        for is_chunked in [false, true] {
            let before = fixture.invoke.count();
            let bytes = vec![b'x'; size];
            let body = if is_chunked {
                let pieces: Vec<_> = bytes.chunks(300).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
                reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
            } else {
                bytes.into()
            };
            let response = fixture.call(PRICE).body(body).send().await.unwrap();
            if is_refused {
                let problem = problem(response, 413, "too-large").await;
                assert_eq!(problem.progress, Progress::NotExecuted);
                assert_eq!(fixture.invoke.count(), before);
            } else {
                assert_eq!(response.bytes().await.unwrap().len(), size);
            }
        }
    }
}

#[tokio::test]
async fn a_caller_is_never_served_by_an_older_catalogue() {
    let fixture = Fixture::start().await;
    let next = fixture.consensus.apply(RequestId(uuid::Uuid::now_v7()), crate::fixture::noop()).index + 1;
    let request = || fixture.call(PRICE).header("skein-min-index", next.to_string());
    let response = request().header("skein-deadline", "50ms").send().await.unwrap();
    problem(response, 503, "unavailable").await;
    let (response, ()) = tokio::join!(request().send(), async {
        crate::fixture::publish(&fixture.consensus, "shop", "later");
    });
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_back() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|_| std::future::pending());
    let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
    let key = fixture.key("invoke");
    let head = format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 1\r\n\r\nx");
    raw.send(head.as_bytes()).await;
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    drop(raw);
    timeout(SOON, fixture.invoke.dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn cleartext_http2_works_and_a_reset_stream_takes_its_call_back() {
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioTimer},
    };
    let fixture = Fixture::start().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .timer(TokioTimer::new())
        .build_http::<http_body_util::Full<Bytes>>();
    let request = |body: &'static str| {
        http::Request::post(format!("http://{}{PRICE}", fixture.gateway.http_addr()))
            .header("authorization", format!("Bearer {}", fixture.key("invoke")))
            .body(http_body_util::Full::from(body))
            .unwrap()
    };
    let response = client.request(request("two")).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    fixture.invoke.set(|call| async move {
        if call.payload == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(echo(&call))
    });
    // Both use one connection: taking back the first leaves the second alone.
    let hanging = tokio::spawn(client.request(request("hang")));
    while fixture.invoke.count() < 2 {
        timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    }
    hanging.abort();
    timeout(SOON, fixture.invoke.dropped.notified()).await.unwrap();
    assert_eq!(client.request(request("three")).await.unwrap().status(), 200);
}
