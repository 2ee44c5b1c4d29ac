//! HTTP in: calls, the admin API and the console.
//!
//! **Owns** the two listeners, authentication by keys, the mapping between HTTP and [`Invoke`](skein_proto::Invoke),
//! problem details (RFC 9457), and [`api`], the types of the admin API that the command line shares.
//!
//! **Refuses** to know wasm, peers or Raft: calls leave through `Invoke`, changes through
//! [`Propose`](skein_catalog::Propose), everything else through [`Operations`].
//!
//! **Start reading at** [`Gateway::serve`], then [`authorize`].

mod admin;
pub mod api;
mod auth;
mod body;
mod call;
mod config;
mod console;
mod entrance;
mod gateway;
mod listener;
mod metrics;
mod openapi;
mod operations;
mod problem;

pub use auth::{KeyIdentity, MintedKey, authorize, identify, mint, role_text};
pub use config::GatewayConfig;
pub use gateway::{Gateway, GatewayError, Parts};
pub use operations::Operations;
