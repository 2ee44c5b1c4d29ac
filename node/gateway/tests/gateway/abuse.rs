//! Clients that are slow, greedy or broken: bounded, answered where there is something to answer, never fatal.

use std::time::Duration;

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::time::timeout;

use crate::{
    fakes::echo,
    fixture::{Fixture, SOON, problem},
    raw::Raw,
};

const PRICE: &str = "/fn/shop/price";

#[tokio::test]
async fn requests_over_the_limit_are_told_to_come_back() {
    let fixture = Fixture::with(|config| config.requests_max = 1).await;
    fixture.invoke.set(|call| async move {
        if call.payload == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(echo(&call))
    });
    let hanging = tokio::spawn(fixture.call(PRICE).body("hang").send());
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    let response = fixture.call(PRICE).body("x").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    problem(response, 429, "overloaded").await;
    // The admin listener has its own places.
    assert_eq!(fixture.admin("GET", "/v1/status").send().await.unwrap().status(), 200);
    hanging.abort();
    timeout(SOON, fixture.invoke.dropped.notified()).await.unwrap();
    let again = async {
        while fixture.call(PRICE).body("x").send().await.unwrap().status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn bodies_over_the_budget_are_told_to_come_back() {
    let fixture = Fixture::with(|config| config.body_bytes_max = 2 << 10).await;
    fixture.invoke.set(|_| std::future::pending());
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(fixture.call(PRICE).body(vec![b'x'; 1_000]).send())).collect();
    while fixture.invoke.count() < 2 {
        timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    }
    problem(fixture.call(PRICE).body("x").send().await.unwrap(), 429, "overloaded").await;
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let fixture = Fixture::with(|config| config.body_idle_timeout = Duration::from_millis(50)).await;
    let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
    let key = fixture.key("invoke");
    let head =
        format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 9\r\n\r\nabc");
    raw.send(head.as_bytes()).await;
    let response = raw.read_response().await;
    assert!(response.starts_with("HTTP/1.1 408") && response.contains("\"bad-request\""), "{response}");
    assert_eq!(fixture.invoke.count(), 0);
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up_at_the_deadline() {
    let fixture = Fixture::start().await;
    let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
    let key = fixture.key("invoke");
    let head = format!(
        "POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nskein-deadline: 50ms\r\ncontent-length: 9\r\n\r\na"
    );
    raw.send(head.as_bytes()).await;
    let response = raw.read_response().await;
    assert!(response.starts_with("HTTP/1.1 504") && response.contains("\"not-executed\""), "{response}");
}

#[tokio::test]
async fn who_says_nothing_or_half_a_head_is_hung_up_on() {
    let fixture = Fixture::with(|config| config.head_timeout = Duration::from_millis(50)).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "POST / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
        raw.send(sent.as_bytes()).await;
        let seen = raw.read_to_end().await;
        assert!(!seen.contains(" 200 "), "{sent:?}: {seen}");
    }
}

#[tokio::test]
async fn while_all_connections_are_busy_others_wait_for_a_place() {
    let fixture = Fixture::with(|config| config.connections_max = 1).await;
    fixture.invoke.set(|_| std::future::pending());
    let key = fixture.key("invoke");
    let mut first = Raw::connect(fixture.gateway.http_addr()).await;
    let request =
        format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n");
    first.send(request.as_bytes()).await;
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    let mut second = Raw::connect(fixture.gateway.http_addr()).await;
    second.send(format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
    let mut byte = [0];
    let unanswered = timeout(Duration::from_millis(100), second.0.peek(&mut byte)).await;
    assert!(unanswered.is_err(), "answered beside the first");
    drop(first);
    assert!(second.read_response().await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn who_says_nothing_leaves_for_who_asks() {
    let fixture = Fixture::with(|config| config.connections_max = 2).await;
    let mut silent = Raw::connect(fixture.gateway.http_addr()).await;
    let mut half = Raw::connect(fixture.gateway.http_addr()).await;
    half.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-a: ").await;
    let mut asking = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
        raw.send(format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        assert!(raw.read_response().await.starts_with("HTTP/1.1 401"));
        asking.push(raw);
    }
    assert_eq!((silent.read_to_end().await, half.read_to_end().await), (String::new(), String::new()));
}

#[tokio::test]
async fn one_address_has_its_part_of_the_connections_and_no_more() {
    let fixture = Fixture::with(|config| config.connections_per_address_max = 2).await;
    fixture.invoke.set(|_| std::future::pending());
    let key = fixture.key("invoke");
    let request =
        format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n");
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
        raw.send(request.as_bytes()).await;
        timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
        busy.push(raw);
    }
    assert_eq!(Raw::connect(fixture.gateway.http_addr()).await.read_to_end().await, "", "one too many is closed");
    busy.pop();
    timeout(SOON, fixture.invoke.dropped.notified()).await.unwrap();
    let again = async {
        loop {
            let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
            raw.send(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            if raw.read_to_end().await.starts_with("HTTP/1.1 404") {
                return;
            }
        }
    };
    timeout(SOON, again).await.unwrap();
}

/// The preface of an HTTP/2 client and its settings, which give each stream a window of this many bytes.
fn http2(window: u32) -> Vec<u8> {
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..], &window.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat()
}

/// A request of HTTP/2 without a body: each field is a literal that is not indexed (RFC 7541, section 6.2.2).
fn http2_request(stream: u32, path: &str, key: &str) -> Vec<u8> {
    let authorization = format!("Bearer {key}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("authorization", &authorization),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
        block.extend([&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat());
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    [&length[1..], &[1, 0x05], &stream.to_be_bytes(), &block].concat()
}

#[tokio::test]
async fn an_http2_connection_without_a_request_is_sent_away() {
    let fixture = Fixture::with(|config| config.head_timeout = Duration::from_millis(100)).await;
    let mut idle = Raw::connect(fixture.gateway.http_addr()).await;
    idle.send(&http2(65_535)).await;
    let mut used = Raw::connect(fixture.gateway.http_addr()).await;
    used.send(&http2(65_535)).await;
    used.send(&http2_request(1, PRICE, fixture.key("invoke"))).await;
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    // Both are closed by the gateway, though their clients still answer.
    idle.read_to_end().await;
    used.read_to_end().await;
}

#[tokio::test]
async fn answers_that_an_http2_client_does_not_take_end_its_connection() {
    let fixture = Fixture::with(|config| config.write_timeout = Duration::from_millis(100)).await;
    fixture.invoke.set(|call| async move { Ok(skein_proto::Reply { payload: "x".into(), ..echo(&call) }) });
    let mut deaf = Raw::connect(fixture.gateway.http_addr()).await;
    deaf.send(&http2(0)).await;
    deaf.send(&http2_request(1, PRICE, fixture.key("invoke"))).await;
    deaf.read_to_end().await;
    assert_eq!(fixture.invoke.count(), 1);
}

#[tokio::test]
async fn answers_that_nobody_takes_keep_no_others_out() {
    let fixture = Fixture::with(|config| config.answer_bytes_max = 4 << 10).await;
    fixture
        .invoke
        .set(|call| async move { Ok(skein_proto::Reply { payload: vec![b'x'; 1 << 10].into(), ..echo(&call) }) });
    let mut deaf = Raw::connect(fixture.gateway.http_addr()).await;
    deaf.send(&http2(0)).await;
    for stream in 0..4 {
        deaf.send(&http2_request(1 + 2 * stream, PRICE, fixture.key("invoke"))).await;
        timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    }
    let taken = async {
        loop {
            let response = fixture.call(PRICE).send().await.unwrap();
            match response.status().as_u16() {
                200 => return,
                429 => drop(response.text().await.unwrap()),
                status => panic!("{status}"),
            }
        }
    };
    timeout(SOON, taken).await.unwrap();
    deaf.read_to_end().await;
}

#[tokio::test]
async fn bodies_that_are_announced_and_do_not_come_keep_no_others_out() {
    let fixture = Fixture::with(|config| config.body_bytes_max = 2 << 10).await;
    let key = fixture.key("invoke-shop");
    let mut announcing = Vec::new();
    for _ in 0..16 {
        let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
        let head =
            format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 1000\r\n\r\n");
        raw.send(head.as_bytes()).await;
        announcing.push(raw);
    }
    for _ in 0..16 {
        assert_eq!(fixture.call(PRICE).body(vec![b'x'; 1_000]).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn one_apps_keys_leave_half_of_the_requests_to_others() {
    let fixture = Fixture::with(|config| config.requests_max = 4).await;
    fixture.invoke.set(|call| async move {
        if call.payload == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(echo(&call))
    });
    let url = format!("http://{}{PRICE}", fixture.gateway.http_addr());
    let of_shop = |body| fixture.http.post(&url).bearer_auth(fixture.key("invoke-shop")).body(body).send();
    let hanging: Vec<_> = (0..2).map(|_| tokio::spawn(of_shop("hang"))).collect();
    while fixture.invoke.count() < 2 {
        timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    }
    let refused = problem(of_shop("x").await.unwrap(), 429, "overloaded").await;
    assert!(refused.detail.contains("the keys of app `shop` have 2 requests"), "{}", refused.detail);
    assert_eq!(fixture.call(PRICE).body("x").send().await.unwrap().status(), 200);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_does_not_read_the_answer_loses_its_place() {
    let configure = |config: &mut skein_gateway::GatewayConfig| {
        (config.connections_max, config.write_timeout) = (1, Duration::from_millis(50));
    };
    let fixture = Fixture::with(configure).await;
    fixture.invoke.set(|call| async move {
        let payload = vec![b'x'; 64 << 20].into();
        Ok(skein_proto::Reply { payload, ..echo(&call) })
    });
    let key = fixture.key("invoke");
    let request =
        format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n");
    let mut deaf = Raw::connect(fixture.gateway.http_addr()).await;
    deaf.send(request.as_bytes()).await;
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    fixture.invoke.set(|call| async move { Ok(echo(&call)) });
    let mut next = Raw::connect(fixture.gateway.http_addr()).await;
    next.send(request.as_bytes()).await;
    assert!(next.read_response().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_is_no_http_is_answered_or_hung_up_on() {
    let fixture = Fixture::with(|config| config.head_timeout = Duration::from_millis(200)).await;
    let long = format!("GET /fn/{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    let smuggled = "POST /fn/shop/price HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n";
    let twice = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx";
    for sent in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}hello", long.as_str(), many.as_str(), smuggled, twice]
    {
        let mut raw = Raw::connect(fixture.gateway.http_addr()).await;
        raw.send(sent.as_bytes()).await;
        let seen = raw.read_to_end().await;
        assert!(!seen.contains(" 200 "), "{seen}");
    }
    assert_eq!(fixture.call(PRICE).send().await.unwrap().status(), 200);
}

#[test]
fn any_path_is_answered_by_a_result_or_a_problem() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::start());
    let path = "/(fn|v1)/[!-\"$->@-~]{0,40}|/fn/shop/price[@:/%0-9a-z]{0,12}|/[!-\"$->@-~]{0,30}";
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) });
    let outcome = runner.run(&path, |path| {
        for addr in [fixture.gateway.http_addr(), fixture.gateway.admin_addr()] {
            let response = runtime.block_on(async {
                let mut raw = Raw::connect(addr).await;
                let key = fixture.key("admin");
                let head = format!(
                    "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
                );
                raw.send(head.as_bytes()).await;
                raw.read_to_end().await
            });
            let is_problem = response.contains("application/problem+json");
            // What hyper refuses as no HTTP at all it answers itself, with an empty 400.
            let is_refused = response.starts_with("HTTP/1.1 400") && response.contains("content-length: 0");
            prop_assert!(response.starts_with("HTTP/1.1 200") || is_problem || is_refused, "{path}: {response}");
        }
        Ok(())
    });
    outcome.unwrap();
}
