//! What the requests of a node's functions may use.

/// The settings of a [`HttpEgress`](crate::HttpEgress).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EgressConfig {
    /// Most requests at a time. Default 1,024; each has a connection, some 20 KiB and what its answer takes. One app has
    /// no more of them than are left for the others: half, if it is alone.
    pub requests_max: usize,
    /// Most bytes of answers held at a time, in all, from their first byte until their guest has taken them. Default
    /// 256 MiB, shared out among apps in the same way; a request that finds no room fails as `overloaded`. Must be at
    /// least twice the largest answer, 64 MiB.
    pub answers_bytes_max: usize,
    /// Certificates of authorities to trust besides the built-in ones, in PEM. Default none.
    pub roots_pem: Vec<u8>,
    /// Whether loopback, link-local and private addresses may be reached by functions whose grant names the host.
    /// Default true. False is for nodes whose functions are not their operator's own.
    pub may_reach_private: bool,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self { requests_max: 1_024, answers_bytes_max: 256 << 20, roots_pem: Vec::new(), may_reach_private: true }
    }
}
