//! Bytes that no Skein would send.

use quinn::{Connection, RecvStream, SendStream};

use super::*;
use crate::{
    frame::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
    stream::FrameReader,
};

/// A member's connection without Skein on top.
pub(super) async fn raw(identity: &Identity, node: &Node) -> (Endpoint, Connection) {
    let tls = tls::peer(identity, Arc::new(|_, _| true)).unwrap();
    let endpoint = Endpoint::client(localhost()).unwrap();
    let name = crate::certificate::node_name(node.network.local(), identity.mesh());
    let config = quic::peer(&NetworkConfig::new(localhost()), tls);
    let connection = endpoint.connect_with(config, node.network.local_addr(), &name).unwrap().await.unwrap();
    (endpoint, connection)
}

/// Dials as a peer, showing `identity` and believing the pinned CA, and waits for the hello.
pub(super) async fn connect_showing(identity: &Identity, pin: crate::CaPin, node: &Node) -> Result<(), String> {
    let stranger = tls::stranger_showing(identity, pin)?;
    let endpoint = Endpoint::client(localhost()).unwrap();
    let connecting = endpoint.connect_with(quic::stranger(stranger), node.network.local_addr(), "any.skein").unwrap();
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let (mut sender, receiver) = connection.open_bi().await.map_err(|error| error.to_string())?;
    let hello = Frame::Hello { version: PROTOCOL_VERSION, boot: 1 };
    let _ = sender.write_chunk(hello.to_bytes()).await;
    hello_back(receiver).await.map(drop)
}

async fn hello_back(receiver: RecvStream) -> Result<Frame, String> {
    let next = timeout(PATIENCE, FrameReader::new(receiver).next()).await;
    next.map_err(|_| "late")?.map_err(|error| error.to_string())?.ok_or_else(|| "ended".to_owned())
}

/// A lane that has said hello.
pub(super) async fn lane(connection: &Connection) -> (SendStream, FrameReader) {
    let (mut sender, receiver) = connection.open_bi().await.unwrap();
    sender.write_chunk(Frame::Hello { version: PROTOCOL_VERSION, boot: 1 }.to_bytes()).await.unwrap();
    let mut reader = FrameReader::new(receiver);
    assert!(matches!(reader.next().await, Ok(Some(Frame::Hello { .. }))));
    (sender, reader)
}

fn junk() -> Vec<Bytes> {
    let too_large = u32::try_from(FRAME_BYTES_MAX).unwrap() + 1;
    vec![
        Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
        Bytes::from(too_large.to_be_bytes().to_vec()),
        Bytes::from_static(&[0, 0, 0, 3, 0xc1, 0xc1, 0xc1]),
        Bytes::from_static(&[0, 0, 0, 0]),
        Frame::Reply { id: 1, body: Bytes::new() }.to_bytes(),
        Frame::Datagram { service: None, body: Bytes::new() }.to_bytes(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_ends_its_stream_and_nothing_else() {
    let mesh = TestMesh::new();
    let (one, two) = mesh.pair().await;
    let (_endpoint, connection) = raw(&mesh.identity(3), &one).await;
    let (mut good, mut answers) = lane(&connection).await;
    for bytes in junk() {
        let (mut sender, mut reader) = lane(&connection).await;
        sender.write_chunk(bytes.clone()).await.unwrap();
        assert!(timeout(PATIENCE, reader.next()).await.unwrap().is_err(), "{bytes:?}");
        let (mut sender, receiver) = connection.open_bi().await.unwrap();
        sender.write_chunk(bytes.clone()).await.unwrap();
        assert!(timeout(PATIENCE, FrameReader::new(receiver).next()).await.unwrap().is_err(), "{bytes:?}");
    }
    connection.send_datagram(Bytes::from_static(b"\xff junk")).unwrap();
    let call = Frame::Call { id: 5, service: Some(Service::Control), deadline_ms: 9_000, body: "ok".into() };
    good.write_chunk(call.to_bytes()).await.unwrap();
    assert_eq!(answers.next().await.unwrap(), Some(Frame::Reply { id: 5, body: "ok".into() }));
    assert_eq!(two.ask(&one, "others").await.unwrap(), "others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_kind_of_frame_is_skipped_and_an_unknown_service_refused() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let (_endpoint, connection) = raw(&mesh.identity(3), &node).await;
    let (mut sender, mut reader) = lane(&connection).await;
    sender.write_chunk(Frame::Unknown.to_bytes()).await.unwrap();
    let call = Frame::Call { id: 5, service: None, deadline_ms: 9_000, body: Bytes::new() };
    sender.write_chunk(call.to_bytes()).await.unwrap();
    let Some(Frame::Fail { id: 5, failure }) = reader.next().await.unwrap() else { panic!("no failure") };
    assert_eq!((failure.code, failure.progress), (ErrorCode::ProtocolMismatch, Progress::NotExecuted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_id_that_is_in_use_ends_the_lane_and_its_handlers() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let (_endpoint, connection) = raw(&mesh.identity(3), &node).await;
    let (mut sender, mut reader) = lane(&connection).await;
    let call = Frame::Call { id: 5, service: Some(Service::Control), deadline_ms: 60_000, body: "hang".into() };
    sender.write_chunk(call.to_bytes()).await.unwrap();
    node.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    sender.write_chunk(call.to_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, reader.next()).await.unwrap().is_err());
    node.echo.until(|echo| echo.dropped.load(SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_stops_its_handlers() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let (_endpoint, connection) = raw(&mesh.identity(3), &node).await;
    let (mut sender, _reader) = lane(&connection).await;
    let call = Frame::Call { id: 5, service: Some(Service::Control), deadline_ms: 60_000, body: "hang".into() };
    sender.write_chunk(call.to_bytes()).await.unwrap();
    node.echo.until(|echo| echo.started.load(SeqCst) == 1).await;
    connection.close(CLOSE_DONE, b"");
    node.echo.until(|echo| echo.dropped.load(SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_version_is_answered_and_refused() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let (_endpoint, connection) = raw(&mesh.identity(3), &node).await;
    let (mut sender, receiver) = connection.open_bi().await.unwrap();
    sender.write_chunk(Frame::Hello { version: 99, boot: 1 }.to_bytes()).await.unwrap();
    assert!(matches!(hello_back(receiver).await, Ok(Frame::Hello { version: PROTOCOL_VERSION, .. })));
    let closed = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_from_outside_harm_nobody() {
    let (one, two) = TestMesh::new().pair().await;
    let socket = tokio::net::UdpSocket::bind(localhost()).await.unwrap();
    for length in 0..1_400_u32 {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8).collect();
        socket.send_to(&bytes, one.network.local_addr()).await.unwrap();
    }
    assert_eq!(two.ask(&one, "in").await.unwrap(), "in");
    assert_eq!(one.ask(&two, "out").await.unwrap(), "out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_certificate_is_refused() {
    let mesh = TestMesh::new();
    let node = mesh.node(1).await;
    let pin = crate::CaPin::Fingerprint(mesh.authority.fingerprint());
    let tls = tls::without_certificate(pin).unwrap();
    let endpoint = Endpoint::client(localhost()).unwrap();
    let connecting = endpoint.connect_with(quic::stranger(tls), node.network.local_addr(), "any.skein").unwrap();
    let connection = connecting.await.unwrap();
    let closed = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert_eq!(crate::close::dial_failure("it", &closed).code, ErrorCode::Untrusted);
}
