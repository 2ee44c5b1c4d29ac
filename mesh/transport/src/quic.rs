//! How QUIC is tuned. The figures are in the project's measurements; whoever wants others measures again.

use std::{sync::Arc, time::Duration};

use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig,
    TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use skein_proto::Digest;

use crate::{Identity, NetworkConfig};

/// The endpoint of a node. Its reset key comes from the node's own key, so that after a restart it can tell its
/// peers' old connections that they are dead (RFC 9000, section 10.3).
pub(crate) fn endpoint(identity: &Identity) -> EndpointConfig {
    let mut secret = b"skein stateless reset".to_vec();
    secret.extend_from_slice(identity.key().secret_pkcs8_der());
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, Digest::of(&secret).as_bytes());
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Connection ids that are random and nothing else. quinn's own carry a mark drawn at each start, and packets without
/// it get no reset: a restarted node would leave its peers to wait for their idle timeout.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// How connections are accepted: at first as from a stranger.
pub(crate) fn server(config: &NetworkConfig, tls: QuicServerConfig) -> ServerConfig {
    let mut transport = common(config.stranger_idle_timeout);
    transport
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(config.streams_per_stranger_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport)).max_incoming(INCOMING_MAX).migration(false);
    server
}

/// How peers are dialed. They open no bidirectional streams on a connection that we dialed.
pub(crate) fn peer(config: &NetworkConfig, tls: QuicClientConfig) -> ClientConfig {
    let mut transport = common(config.idle_timeout);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(LARGE_REPLIES_MAX))
        .keep_alive_interval(Some(config.keep_alive));
    client(tls, transport)
}

/// How a stranger dials.
pub(crate) fn stranger(tls: QuicClientConfig) -> ClientConfig {
    let mut transport = common(Duration::from_secs(20));
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(Duration::from_secs(5)));
    client(tls, transport)
}

/// Lets somebody who has shown who it is have as much on its way as anybody may.
pub(crate) fn trust_with_streams(connection: &Connection, streams_max: u32) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams_max));
}

fn client(tls: QuicClientConfig, transport: TransportConfig) -> ClientConfig {
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::new(transport));
    client
}

fn common(idle_timeout: Duration) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle_ms = u32::try_from(idle_timeout.as_millis()).unwrap_or(u32::MAX);
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        // Finishing one stream before the next is 1.7 times as fast for large bodies.
        .send_fairness(false)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    transport
}

/// Answers over the inline limit on their way at once, on one connection.
const LARGE_REPLIES_MAX: u32 = 16;

/// What one connection may send that was not read yet, over all its streams.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;

/// The same for somebody who has shown nothing yet: four times the largest token with what belongs to it.
pub(crate) const STRANGER_WINDOW_BYTES: u32 = 64 << 10;

/// Some 60 datagrams; the oldest are dropped beyond that.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

/// Connections that knocked and were not yet looked at.
const INCOMING_MAX: usize = 1024;

/// As quinn's own.
const CONNECTION_ID_BYTES: usize = 8;
