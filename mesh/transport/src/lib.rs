//! Bytes between nodes: QUIC with mutual TLS.
//!
//! **Owns** node identity (key, certificate, the mesh's CA, join tokens), connections, framed calls, streams and
//! datagrams.
//!
//! **Refuses** to know what the bytes mean: a [`Service`] handler does. It keeps no list of members either; who is
//! trusted beyond the CA's signature is asked of the `Trust` it is given.
//!
//! **Start reading at** [`Transport`], then [`Serve`].

mod seam;

pub use seam::{Caller, DATAGRAM_BYTES_MAX, Duplex, Serve, Service, Transport};
