//! Code bytes by digest: kept, verified, spread over peers and fetched from them.
//!
//! **Owns** the content-addressed store of one node and the exchange of artifacts between nodes.
//!
//! **Refuses** bytes that do not match their digest, whether they come from a peer or from its own disk; to say which
//! node should hold what (the publisher and the catalogue do); and anything compiled.
//!
//! **Start reading at** [`Artifacts`].

mod artifacts;
mod exchange;
mod fetch;
mod flight;
pub mod metrics;
mod replicate;
mod service;
mod store;
mod wire;

pub use artifacts::{Artifacts, Config, OpenError};
pub use store::CollectReport;
