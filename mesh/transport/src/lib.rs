//! Bytes between nodes: QUIC with mutual TLS.
//!
//! **Owns** node identity (key, certificate, the mesh's CA, join tokens), connections, framed calls, streams and
//! datagrams.
//!
//! **Refuses** to know what the bytes mean: a [`Service`] handler does. It keeps no list of members either; who is
//! trusted beyond the CA's signature is asked of the [`Trust`] it is given.
//!
//! **Start reading at** [`Transport`], then [`Serve`], then [`Network`].

mod authority;
mod certificate;
mod close;
mod config;
mod exchange;
mod frame;
mod identity;
mod lane;
pub mod metrics;
mod network;
mod pem;
mod quic;
mod seam;
mod secret_file;
mod stranger;
mod stream;
mod tls;
mod token;
mod trust;

pub use authority::{Authority, AuthorityError, NODE_LIFETIME, Validity};
pub use config::NetworkConfig;
pub use identity::{Identity, IdentityError, NodeKey};
pub use network::{BindError, Network};
pub use seam::{Caller, DATAGRAM_BYTES_MAX, Duplex, Serve, Service, Transport};
pub use stranger::{CaPin, Stranger};
pub use token::{JoinToken, TokenError};
pub use trust::Trust;
