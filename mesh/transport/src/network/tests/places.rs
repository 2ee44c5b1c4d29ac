//! A peer is found wherever it may be, and only if it proves to be that peer.

use super::*;
use crate::Address;

/// A place where nobody answers.
fn dead() -> (std::net::UdpSocket, Address) {
    let socket = std::net::UdpSocket::bind(localhost()).unwrap();
    let address = socket.local_addr().unwrap().into();
    (socket, address)
}

fn place(node: &Node) -> Address {
    node.network.local_addr().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_called_is_answered_where_it_called_from() {
    let mesh = TestMesh::new();
    let (one, two) = (mesh.node(1).await, mesh.node(2).await);
    one.meet(&two);
    assert_eq!(code(two.ask(&one, "x").await), (ErrorCode::Unreachable, Progress::NotExecuted));
    let mut reached = two.network.reached();
    assert!(!*reached.borrow());
    one.ask(&two, "x").await.unwrap();
    timeout(PATIENCE, reached.wait_for(|is_reached| *is_reached)).await.unwrap().unwrap();
    assert_eq!(two.ask(&one, "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moved_and_calls_is_found_though_its_old_address_is_still_written_down() {
    let mesh = TestMesh::new();
    let one = mesh.node(1).await;
    let (_silent, old) = dead();
    one.network.set_addresses(NodeId(2), vec![old]);
    let two = mesh.node(2).await;
    assert_eq!(code(one.ask(&two, "x").await), (ErrorCode::Unreachable, Progress::NotExecuted));
    two.meet(&one);
    two.ask(&one, "x").await.unwrap();
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_places_are_tried_and_names_are_looked_up() {
    let mesh = TestMesh::new();
    let (one, two, three) = (mesh.node(1).await, mesh.node(2).await, mesh.node(3).await);
    let (_silent, dead) = dead();
    let unknown: Address = "no-such-host.invalid:7070".parse().unwrap();
    let named: Address = format!("localhost:{}", two.network.local_addr().port()).parse().unwrap();
    // Somebody else lives at the second place by now.
    one.network.set_addresses(NodeId(2), vec![dead, place(&three), unknown, named]);
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
    assert_eq!(three.echo.started.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_under_way_tries_the_places_it_hears_of_meanwhile() {
    let mesh = TestMesh::new();
    let mut config = NetworkConfig::new(localhost());
    // One that would wait for the dead place for as long as the test may take.
    config.dial_timeout = 2 * PATIENCE;
    let (one, two) = (Node::configured(config, mesh.identity(1)).await, mesh.node(2).await);
    let (_silent, dead) = dead();
    // Another word of where it is, or that it is somewhere else.
    for places in [vec![dead.clone(), place(&two)], vec![place(&two)]] {
        one.network.disconnect(NodeId(2));
        one.network.set_addresses(NodeId(2), vec![dead.clone()]);
        let asked = begin(&one);
        one.network.set_addresses(NodeId(2), places);
        assert_eq!(asked.await.unwrap().unwrap(), "x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_dial_to_a_peer_that_is_given_up_is_told_at_once() {
    let mesh = TestMesh::new();
    let mut config = NetworkConfig::new(localhost());
    config.dial_timeout = 2 * PATIENCE;
    let (one, two) = (Node::configured(config, mesh.identity(1)).await, mesh.node(2).await);
    let (_silent, dead) = dead();
    one.network.set_addresses(NodeId(2), vec![dead]);
    let asked = begin(&one);
    // As when it is believed dead.
    one.network.disconnect(NodeId(2));
    assert_eq!(code(asked.await.unwrap()), (ErrorCode::Unreachable, Progress::NotExecuted));
    // It comes back elsewhere.
    one.network.set_addresses(NodeId(2), vec![place(&two)]);
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
}

/// A call of the second node that has begun to dial.
fn begin(one: &Node) -> tokio::task::JoinHandle<Result<Bytes, Failure>> {
    let (network, began) = (one.network.clone(), Instant::now());
    let call = async move { network.call(NodeId(2), Service::Control, "x".into(), began + PATIENCE).await };
    let mut call = Box::pin(call);
    // Polled once here: the dial is under way when this returns.
    assert!(futures_util::FutureExt::now_or_never(&mut call).is_none());
    tokio::spawn(call)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_at_a_place_is_told_by_its_certificate() {
    let mesh = TestMesh::new();
    let (one, two) = (mesh.node(1).await, mesh.node(2).await);
    assert_eq!(one.network.meet(&place(&two), soon()).await.unwrap(), NodeId(2));
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
    assert_eq!(one.network.meet(&place(&one), soon()).await.unwrap(), NodeId(1), "itself is no peer");
    let stranger = TestMesh::new().node(3).await;
    assert_eq!(code(one.network.meet(&place(&stranger), soon()).await), (ErrorCode::Untrusted, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_peer_is_not_looked_for_where_it_called_from() {
    let mesh = TestMesh::new();
    let (one, two) = (mesh.node(1).await, mesh.node(2).await);
    one.meet(&two);
    one.ask(&two, "x").await.unwrap();
    two.network.remove_address(NodeId(1));
    two.network.disconnect(NodeId(1));
    assert_eq!(code(two.ask(&one, "x").await), (ErrorCode::Unreachable, Progress::NotExecuted));
}
