//! One node's live function versions, and the calls that run in them.
//!
//! **Owns** the activations of a node: a supervisor actor and one actor per live version, the permits and waiting
//! line in front of each, the threads that guests run on, the preparation (fetch, compile) of versions, idle stop
//! and drain.
//!
//! **Refuses** to know about peers: code comes from a [`CodeSource`], what exists from the catalogue it watches. It
//! resolves no names either; it takes versions that a router has chosen. An actor's mailbox is never on the way of a
//! warm call: the actor owns the life of an activation, the call goes through its `Arc`.
//!
//! ```text
//! invoke(version) --> table: activation?  -- no --> supervisor: Activate --> one actor, Loading --> Ready
//!                        | yes                                                                       |
//!                        v                                                                           v
//!                     permit (or a short line, or `overloaded`) -----> program -----> a thread of the executor
//! ```
//!
//! **Start reading at** [`Runtime`], then `activation`.

mod activation;
mod actor;
mod backoff;
mod config;
mod environment;
mod executor;
mod guest;
pub mod metrics;
mod prefetch;
mod prepare;
mod runtime;
mod source;
mod status;
mod supervisor;
mod table;
#[cfg(test)]
mod testing;

pub use config::Config;
pub use runtime::Runtime;
pub use source::CodeSource;
pub use status::{ActivationState, ActivationStatus};
