//! HTTP in: calls, the admin API and the console.
//!
//! **Owns** the two listeners, authentication by keys, the mapping between HTTP and [`Invoke`](skein_proto::Invoke),
//! problem details (RFC 9457), and [`api`], the types of the admin API that the command line shares.
//!
//! **Refuses** to know wasm, peers or Raft: calls leave through `Invoke`, changes through
//! [`Propose`](skein_catalog::Propose), everything else through [`Operations`].
//!
//! **Start reading at** [`Gateway::serve`], then [`authorize`].
//!
//! ```
//! use skein_catalog::{Catalog, Role};
//! use skein_gateway::{authorize, mint};
//! use skein_proto::ErrorCode;
//!
//! // A key that no catalogue has heard of opens nothing.
//! let key = mint([1; 6], [2; 32]);
//! let refused = authorize(&Catalog::default(), &key.text, Role::Invoke, None, 0);
//! assert_eq!(refused.map_err(|failure| failure.code), Err(ErrorCode::Unauthenticated));
//! ```

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
mod outbound;
mod places;
mod problem;
mod shares;
mod stall;

pub use auth::{KeyIdentity, MintedKey, authorize, identify, key_id, mint, role_text};
pub use config::GatewayConfig;
pub use gateway::{Gateway, GatewayError, Parts};
pub use operations::Operations;
