//! Peers from which nothing is heard any more: calls are told to go elsewhere, and those under way are not left to wait.

use std::sync::atomic::AtomicBool;

use tokio::net::UdpSocket;

use super::*;

/// A wire between two nodes that can be cut.
struct Wire {
    addr: SocketAddr,
    is_cut: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    /// Passes on what comes here to `to`, and back what comes from there.
    async fn to(to: SocketAddr) -> Self {
        let (near, far) = (UdpSocket::bind(localhost()).await.unwrap(), UdpSocket::bind(localhost()).await.unwrap());
        far.connect(to).await.unwrap();
        let (addr, is_cut) = (near.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let cut = is_cut.clone();
        let task = tokio::spawn(async move {
            let (mut there, mut back, mut from) = ([0; 2048], [0; 2048], None);
            loop {
                tokio::select! {
                    Ok((bytes, sender)) = near.recv_from(&mut there) => {
                        from = Some(sender);
                        if !cut.load(SeqCst) {
                            let _ = far.send(&there[..bytes]).await;
                        }
                    }
                    Ok(bytes) = far.recv(&mut back) => if let Some(from) = from.filter(|_| !cut.load(SeqCst)) {
                        let _ = near.send_to(&back[..bytes], from).await;
                    },
                }
            }
        });
        Self { addr, is_cut, _task: AbortOnDropHandle::new(task) }
    }
}

/// Waits until the network says of the peer what it should.
async fn until_doubted(node: &Node, peer: NodeId, is_doubted: bool) {
    let said = async {
        while node.network.is_doubted(peer) != is_doubted {
            // tidy: sleeps because nobody is told of a doubt, callers look
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, said).await.expect("the doubt comes or goes in time");
}

#[tokio::test]
async fn a_peer_behind_a_cut_wire_is_doubted_until_it_answers_again() {
    let mesh = TestMesh::new();
    let (one, two) = (mesh.node(1).await, mesh.node(2).await);
    let wire = Wire::to(two.network.local_addr()).await;
    one.network.set_address(NodeId(2), wire.addr);
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
    assert!(!one.network.is_doubted(NodeId(2)));
    let (network, began) = (one.network.clone(), Instant::now());
    let under_way = tokio::spawn(async move {
        network.call(NodeId(2), Service::Control, Bytes::from_static(b"hang"), began + 2 * PATIENCE).await
    });
    two.echo.until(|echo| echo.started.load(SeqCst) == 2).await;
    wire.is_cut.store(true, SeqCst);
    until_doubted(&one, NodeId(2), true).await;
    assert_eq!(code(under_way.await.unwrap()), (ErrorCode::PeerLost, Progress::MaybeExecuted));
    assert_eq!(code(one.ask(&two, "x").await), (ErrorCode::Unreachable, Progress::NotExecuted));
    assert!(one.network.is_doubted(NodeId(2)));
    wire.is_cut.store(false, SeqCst);
    // What dials it meanwhile is gossip.
    let answered = async {
        while one.ask(&two, "y").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
    until_doubted(&one, NodeId(2), false).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_peer_that_is_quiet_because_nobody_asks_it_is_not_doubted() {
    let mesh = TestMesh::new();
    let mut config = NetworkConfig::new(localhost());
    config.keep_alive = Duration::from_millis(200);
    let (one, two) = (Node::configured(config, mesh.identity(1)).await, mesh.node(2).await);
    one.meet(&two);
    assert_eq!(one.ask(&two, "x").await.unwrap(), "x");
    // tidy: sleeps because what must not happen takes no event: longer than until a silent peer is doubted
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!one.network.is_doubted(NodeId(2)));
    assert!(one.network.inner.peers.open_link(NodeId(2), Purpose::Calls).is_some());
    one.stop().await;
    two.stop().await;
}
