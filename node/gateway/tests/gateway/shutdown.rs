//! The beginning and the end: a busy port, and a shutdown that waits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use skein_gateway::{Gateway, GatewayConfig, GatewayError, Parts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    fakes::echo,
    fixture::{Fixture, SOON},
};

const PRICE: &str = "/fn/shop/price";

#[tokio::test]
async fn a_busy_port_is_named_and_nothing_is_left_listening() {
    let fixture = Fixture::start().await;
    let parts = Parts {
        invoke: fixture.invoke.clone(),
        consensus: fixture.consensus.clone(),
        operations: fixture.operations.clone(),
        metrics_text: Arc::new(String::new),
    };
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let busy = fixture.gateway.admin_addr();
    let refused = Gateway::serve(GatewayConfig::new(free, busy), parts).await;
    assert!(matches!(refused, Err(GatewayError::AddressInUse { addr }) if addr == busy));
    TcpListener::bind(free).await.unwrap();
}

#[tokio::test]
async fn shutdown_lets_a_running_call_end_and_takes_no_more() {
    let fixture = Fixture::start().await;
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    fixture.invoke.set(move |call| {
        let opened = opened.clone();
        async move {
            opened.notified().await;
            Ok(echo(&call))
        }
    });
    let running = tokio::spawn(fixture.call(PRICE).body("x").send());
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    // A connection that never said anything must not hold the end up.
    let _silent = tokio::net::TcpStream::connect(fixture.gateway.http_addr()).await.unwrap();
    let addr = fixture.gateway.http_addr();
    let ending = tokio::spawn(fixture.gateway.shutdown(Instant::now() + SOON));
    until_refused(addr).await;
    gate.notify_one();
    let response = running.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "x");
    timeout(SOON, ending).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_cuts_off_what_outlives_the_deadline() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|_| std::future::pending());
    let running = tokio::spawn(fixture.call(PRICE).body("x").send());
    timeout(SOON, fixture.invoke.entered.notified()).await.unwrap();
    let ending = fixture.gateway.shutdown(Instant::now() + Duration::from_millis(50));
    timeout(SOON, ending).await.unwrap();
    timeout(SOON, fixture.invoke.dropped.notified()).await.unwrap();
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn a_lame_duck_answers_everything_and_tells_everybody_not_to_come_again() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|call| {
        let reply = echo(&call);
        async move { Ok(reply) }
    });
    let ready = || fixture.http.get(format!("http://{}/readyz", fixture.gateway.admin_addr())).send();
    assert_eq!(ready().await.unwrap().status(), 200);
    fixture.gateway.lame_duck();
    let not_ready = ready().await.unwrap();
    assert_eq!(not_ready.status(), 503);
    assert!(not_ready.text().await.unwrap().contains("draining"));
    // New connections too: each answer ends its own.
    for _ in 0..2 {
        let response = fixture.call(PRICE).body("x").send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["connection"].as_bytes()), (200, &b"close"[..]));
        assert_eq!(response.text().await.unwrap(), "x");
    }
    timeout(SOON, fixture.gateway.shutdown(Instant::now() + SOON)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_listener_ends_is_answered() {
    let fixture = Fixture::start().await;
    fixture.invoke.set(|call| {
        let reply = echo(&call);
        async move { Ok(reply) }
    });
    // In the kernel's queue, not accepted yet: this test has one thread, and the listener has had no turn.
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(std::net::TcpStream::connect(fixture.gateway.http_addr()).unwrap());
    }
    let key = fixture.key("invoke").to_owned();
    let request =
        format!("POST {PRICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 1\r\n\r\nx");
    let ending = tokio::spawn(fixture.gateway.shutdown(Instant::now() + SOON));
    tokio::task::yield_now().await;
    let mut answers = Vec::new();
    for stream in streams {
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        answers.push(tokio::spawn(async move {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        }));
    }
    for answer in answers {
        let answer = timeout(SOON, answer).await.unwrap().unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\nx"), "{answer:?}");
    }
    timeout(SOON, ending).await.unwrap().unwrap();
}

async fn until_refused(addr: SocketAddr) {
    let refused = async { while tokio::net::TcpStream::connect(addr).await.is_ok() {} };
    timeout(SOON, refused).await.unwrap();
}
