//! The end of a node: whatever was sent to it is answered, or certainly did not run.

use tokio::task::JoinSet;

use super::*;
use crate::{CaPin, Stranger};

/// What became of calls that were made one after another while a node left.
#[derive(Debug, Default)]
struct Became {
    not_executed: usize,
    uncertain: Vec<Failure>,
}

impl Became {
    fn note(&mut self, answer: Result<Bytes, Failure>) {
        match answer {
            Ok(_) => {}
            Err(failure) if failure.progress == Progress::NotExecuted => self.not_executed += 1,
            Err(failure) => self.uncertain.push(failure),
        }
    }
}

/// Callers at a time, so that some call is on its way at any moment.
const CALLERS: usize = 16;

async fn stranger(mesh: &TestMesh, node: &Node) -> Result<Stranger, Failure> {
    let pin = CaPin::Fingerprint(mesh.authority.fingerprint());
    Ok(Stranger::connect(node.network.local_addr(), pin, soon()).await?.with_key(KEY))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_finishes_leaves_no_peers_call_in_doubt() {
    let (one, two) = TestMesh::new().pair().await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let network = one.network.clone();
        callers.spawn(async move {
            let mut became = Became::default();
            while became.not_executed == 0 && became.uncertain.is_empty() {
                let body = Bytes::from(vec![caller as u8; if caller == 0 { 40 << 10 } else { 100 }]);
                became.note(network.call(NodeId(2), Service::Control, body, soon()).await);
            }
            became
        });
    }
    two.echo.until(|echo| echo.started.load(SeqCst) > 10 * CALLERS).await;
    two.network.finish(soon()).await;
    for became in callers.join_all().await {
        assert!(became.uncertain.is_empty(), "{became:?}");
    }
    assert_eq!(two.network.inner.host.lanes.len(), 0, "the peer has ended its lanes by itself");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_finishes_leaves_no_clients_call_in_doubt() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let stranger = stranger(&mesh, &node).await.unwrap();
        callers.spawn(async move {
            let mut became = Became::default();
            while !stranger.is_leaving() && became.uncertain.is_empty() {
                became.note(stranger.call(Service::Client, "call".into(), soon()).await);
            }
            stranger.close().await;
            became
        });
    }
    node.echo.until(|echo| echo.started.load(SeqCst) > 10 * CALLERS).await;
    node.network.finish(soon()).await;
    for became in callers.join_all().await {
        assert!(became.uncertain.is_empty(), "{became:?}");
    }
    assert_eq!(node.network.inner.host.strangers.len(), 0, "they were told to go, and went");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_farewell_a_node_answers_those_who_are_there_and_takes_no_new_ones() {
    let mesh = TestMesh::new();
    let (node, peer) = mesh.pair().await;
    let client = Arc::new(stranger(&mesh, &node).await.unwrap());
    assert!(!client.is_leaving());
    let asker = client.clone();
    let under_way = tokio::spawn(async move { asker.call(Service::Client, "hang".into(), soon()).await });
    node.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    node.network.farewell();
    let told = async {
        while !client.is_leaving() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told");
    assert_eq!(client.call(Service::Client, "still".into(), soon()).await.unwrap(), "still");
    // Who waits for nothing more goes by itself, so that the node need not wait for that.
    under_way.abort();
    timeout(PATIENCE, client.connection().closed()).await.expect("it goes");
    // The refusal may come with the hello or before it.
    let refused = stranger(&mesh, &node).await;
    assert_eq!(code(refused), (ErrorCode::Draining, Progress::NotExecuted));
    assert_eq!(peer.ask(&node, "peers notice nothing").await.unwrap(), "peers notice nothing");
    node.stop().await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_a_request_that_does_not_arrive() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let client = stranger(&mesh, &node).await.unwrap();
    let (mut sender, _receiver) = client.connection().open_bi().await.unwrap();
    let key = Some(crate::frame::ShownKey(KEY.into()));
    let open = Frame::Open { service: Some(Service::Client), deadline_ms: 60_000, is_stream: false, key };
    sender.write_chunk(open.to_bytes()).await.unwrap();
    let requests = node.network.inner.host.requests.clone();
    let read = async {
        while requests.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, read).await.expect("the request has begun");
    let finished = node.network.finish(Instant::now() + 10 * PATIENCE);
    timeout(PATIENCE, finished).await.expect("it does not wait for the body");
}
