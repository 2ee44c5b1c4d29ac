//! The beginning and the end: a busy port, and a shutdown that waits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use skein_gateway::{Gateway, GatewayConfig, GatewayError, Parts};
use tokio::{
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

async fn until_refused(addr: SocketAddr) {
    let refused = async { while tokio::net::TcpStream::connect(addr).await.is_ok() {} };
    timeout(SOON, refused).await.unwrap();
}
