//! What a network may be told: its address, its patience and its bounds.

use std::{net::SocketAddr, time::Duration};

/// How one node's network behaves. Made by [`NetworkConfig::new`]; every field may be changed before `bind`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Where to listen (UDP). Port 0 picks a free one.
    pub addr: SocketAddr,
    /// How long a dial may take, handshake and hello included. 1.5 s: several round trips around the world; longer
    /// only delays the failure of calls to a node that is down.
    pub dial_timeout: Duration,
    /// How long an accepted connection may take until it has shown who it is. 3 s.
    pub handshake_timeout: Duration,
    /// How often a dialed connection shows that it lives. 400 ms; each costs a packet there and back. After three signs
    /// that got no answer [`Transport::is_doubted`](crate::Transport::is_doubted) says so, after five the connection is
    /// closed: 1.2 and 2 s.
    pub keep_alive: Duration,
    /// After how long without a packet QUIC gives a peer's connection up. 5 s: it goes by the clock, and shorter would
    /// give up all connections of a node that was held up itself.
    pub idle_timeout: Duration,
    /// After how long a stranger's connection is given up. 20 s.
    pub stranger_idle_timeout: Duration,
    /// For how long a failed dial answers further calls, the first time; doubles up to `redial_delay_max`. 250 ms.
    pub redial_delay: Duration,
    /// The longest such time. 1 s, so that a peer that returns is reached soon even if it does not call first.
    pub redial_delay_max: Duration,
    /// The largest request or reply body. 128 MiB: the largest artifact, with room.
    pub body_bytes_max: usize,
    /// Calls under way on one lane, in each direction; over it the caller is told `overloaded`. 1024; each costs
    /// up to 32 KiB of memory at worst.
    pub calls_per_lane_max: usize,
    /// Requests under way on streams of their own, on one connection of a peer. 96.
    pub streams_per_peer_max: u32,
    /// The same for a stranger that has shown no key. 4: its hello, and a key or token beside another.
    pub streams_per_stranger_max: u32,
    /// The same for a client, which is a stranger that has shown a good key.
    /// 1024: more than the calls of one function that a node has permits for by far, and 50 KiB for each client.
    pub streams_per_client_max: u32,
    /// Connections accepted at once, of peers. 1024: three for each of some 340 peers.
    pub peer_connections_max: usize,
    /// Connections accepted at once, of clients, which are strangers that have shown a good key. 1024.
    pub client_connections_max: usize,
    /// Connections accepted at once, of strangers that have shown none. 256, each with up to 128 KiB that nobody has read.
    /// When there is one too many, the one that has been idle longest is closed.
    pub stranger_connections_max: usize,
    /// The same for strangers of one address: an IPv4 address or 64 bits of an IPv6 address. 64.
    pub stranger_connections_per_address_max: usize,
    /// Connections at once that have not shown yet who they are; each ends or shows it within `handshake_timeout`.
    /// 1024. Whoever has one has shown that its address is its own; beyond all of them the oldest is given up.
    pub handshakes_max: usize,
    /// The same of one address. 256.
    pub handshakes_per_address_max: usize,
    /// Requests of all clients under way at once. 4,096, as at the gateway. Those that only show a key or token have
    /// places of their own: two for each connection, 16 KiB each. A stranger without a good key may not call.
    pub client_requests_max: usize,
    /// Bytes of their bodies held at once. 512 MiB, as at the gateway.
    pub client_body_bytes_max: usize,
    /// How long a node that shuts down waits for the others to have its last answers and to go. 2 s: a round trip, on a
    /// machine that does much else.
    pub goodbye_timeout: Duration,
}

impl NetworkConfig {
    /// The defaults, listening at `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            dial_timeout: Duration::from_millis(1_500),
            handshake_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(400),
            idle_timeout: Duration::from_secs(5),
            stranger_idle_timeout: Duration::from_secs(20),
            redial_delay: Duration::from_millis(250),
            redial_delay_max: Duration::from_secs(1),
            body_bytes_max: 128 << 20,
            calls_per_lane_max: 1024,
            streams_per_peer_max: 96,
            streams_per_stranger_max: 4,
            streams_per_client_max: 1024,
            peer_connections_max: 1024,
            client_connections_max: 1024,
            stranger_connections_max: 256,
            stranger_connections_per_address_max: 64,
            handshakes_max: 1024,
            handshakes_per_address_max: 256,
            client_requests_max: 4_096,
            client_body_bytes_max: 512 << 20,
            goodbye_timeout: Duration::from_secs(2),
        }
    }
}
