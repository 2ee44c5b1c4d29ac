//! Where the gateway listens and what it lets in.

use std::{net::SocketAddr, time::Duration};

/// The gateway's settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Where calls are taken. Port 0 picks a free one.
    pub http: SocketAddr,
    /// Where the admin API and the console are served. Port 0 picks a free one.
    pub admin: SocketAddr,
    /// Most connections of one listener at a time. Default 4,096: an idle one costs some 10 KiB. For further ones those
    /// leave that have been idle for longest; while all are busy, they wait in the kernel's queue.
    pub connections_max: usize,
    /// Most of them from one address, of IPv6 from one network of 64 bits. Default 2,048. Further ones are closed, unless
    /// one of the same address is idle and leaves.
    pub connections_per_address_max: usize,
    /// Most requests of one listener at a time. Default 4,096; further ones are answered `overloaded`.
    pub requests_max: usize,
    /// Most body bytes of one listener held in memory at a time. Default 512 MiB; requests beyond are answered
    /// `overloaded`. Must be at least the largest payload, 64 MiB.
    pub body_bytes_max: usize,
    /// Most bytes of answers of one listener that clients have not taken yet. Default 512 MiB. Beyond it those connections
    /// end that do not read what they asked for, and further requests are answered `overloaded` until there is room.
    pub answer_bytes_max: usize,
    /// Longest wait for the first byte and for a request's head, which is also how long an idle connection stays.
    /// Default 30 s.
    pub head_timeout: Duration,
    /// Longest wait for the next piece of a body. Default 10 s.
    pub body_idle_timeout: Duration,
    /// Longest time a whole body may take. Default 60 s.
    pub body_timeout: Duration,
    /// Longest wait for a client to take the next piece of its answer. Default 30 s. A whole answer may take that, and a
    /// second more for each 64 KiB.
    pub write_timeout: Duration,
}

impl GatewayConfig {
    /// The defaults, listening at these addresses.
    pub fn new(http: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            http,
            admin,
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            requests_max: 4_096,
            body_bytes_max: 512 << 20,
            answer_bytes_max: 512 << 20,
            head_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
        }
    }
}
