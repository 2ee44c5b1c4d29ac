//! Bytes between nodes: QUIC with mutual TLS.
//!
//! **Owns** node identity (key, certificate, the mesh's CA, join tokens), the records by which nodes say where they are
//! reached, connections, framed calls, streams and datagrams, and how often calls may be repeated over them. It knows from
//! whom this node hears nothing; who is down is the membership's to say.
//!
//! **Refuses** to know what the bytes mean: a [`Service`] handler does. It keeps no list of members either; who is
//! trusted beyond the CA's signature is asked of the [`Trust`] it is given.
//!
//! Each peer pair has up to three connections a side: one for small calls (four lanes) and datagrams, one for Raft,
//! one for large bodies and free streams. A thread of the network's own drives QUIC; handlers run where `bind` was
//! called.
//!
//! **Start reading at** [`Transport`], then [`Serve`], then [`Network`].
//!
//! ```
//! use std::sync::Arc;
//! use skein_proto::{MeshId, NodeId};
//! use skein_transport::{Authority, Identity, Network, NetworkConfig, NodeKey, Validity};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let authority = Authority::found(MeshId::random())?;
//! let key = NodeKey::generate()?;
//! let certificate = authority.sign(&key.request()?, NodeId(1), Validity::of_a_node())?;
//! let identity = Identity::new(key, &certificate, authority.certificate())?;
//!
//! let config = NetworkConfig::new("127.0.0.1:0".parse()?);
//! let network = Network::bind(config, identity, Arc::new(|_, _| true)).await?;
//! network.start();
//! network.shutdown(tokio::time::Instant::now()).await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod address_record;
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
mod pulse;
mod quic;
mod retry_budget;
mod seam;
mod secret_file;
mod stranger;
mod stream;
mod tls;
mod token;
mod trust;

pub use address::{Address, AddressError};
pub use address_record::{AddressRecord, AddressRecordError, ReachedAt};
pub use authority::{Authority, AuthorityError, NODE_LIFETIME, Validity};
pub use config::NetworkConfig;
pub use identity::{Identity, IdentityError, NodeKey};
pub use network::{BindError, Network};
pub use retry_budget::RetryBudget;
pub use seam::{Caller, DATAGRAM_BYTES_MAX, Duplex, Serve, Service, Transport};
pub use stranger::{CaPin, Stranger};
pub use token::{JoinToken, TokenError};
pub use trust::Trust;
