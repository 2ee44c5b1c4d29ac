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
    /// Most connections of one listener at a time. Default 4,096: an idle one costs some 10 KiB. Further ones wait in
    /// the kernel's queue.
    pub connections_max: usize,
    /// Most requests of one listener at a time. Default 4,096; further ones are answered `overloaded`.
    pub requests_max: usize,
    /// Most body bytes of one listener held in memory at a time. Default 512 MiB; requests beyond are answered
    /// `overloaded`. Must be at least the largest payload, 64 MiB.
    pub body_bytes_max: usize,
    /// Longest wait for the first byte and for a request's head, which is also how long an idle connection stays.
    /// Default 30 s.
    pub head_timeout: Duration,
    /// Longest wait for the next piece of a body. Default 10 s.
    pub body_idle_timeout: Duration,
    /// Longest time a whole body may take. Default 60 s.
    pub body_timeout: Duration,
    /// Longest wait for a client to take the next piece of its answer. Default 30 s.
    pub write_timeout: Duration,
}

impl GatewayConfig {
    /// The defaults, listening at these addresses.
    pub fn new(http: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            http,
            admin,
            connections_max: 4_096,
            requests_max: 4_096,
            body_bytes_max: 512 << 20,
            head_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
        }
    }
}
