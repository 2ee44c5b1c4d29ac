//! One node's live function versions, and the calls that run in them.
//!
//! **Owns** the activations of a node: a supervisor actor and one actor per live version, the permits and waiting
//! line in front of each, the threads that guests run and wait on, what guests ask of others, the preparation (fetch,
//! compile) of versions, the node's memory and who leaves when it is short, idle stop and drain.
//!
//! **Refuses** to know about peers: code comes from a [`CodeSource`], what exists from the catalogue it watches. It
//! resolves no names either; it takes versions that a router has chosen, and hands a guest's own calls to that router
//! ([`Runtime::connect`]). It opens no sockets: guests' HTTP requests go through an [`Egress`]. An actor's mailbox is never on the way of a
//! warm call: the actor owns the life of an activation, the call goes through its `Arc`.
//!
//! ```text
//! invoke(version) --> table: activation?  -- no --> supervisor: Activate --> one actor, Loading --> Ready
//!                        | yes                                                                       |
//!                        v                                                                           v
//!                     permit (or a short line, or `overloaded`) -----> program -----> a thread of the executor,
//!                                                                           or this one, if it is always short (`brief`)
//! ```
//!
//! **Start reading at** [`Runtime`], then `activation`.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//!
//! use skein_catalog::Watch;
//! use skein_engine::{Engine, EngineConfig};
//! use skein_proto::{Failure, Invocation, Invoke, NodeId, Reply};
//! use skein_runtime::{CodeSource, Config, Runtime};
//! use tokio::time::Instant;
//!
//! async fn once(code: Arc<dyn CodeSource>, catalog: Watch, call: Invocation) -> Result<Reply, Failure> {
//!     let engine = Engine::open(EngineConfig::new("/var/lib/skein/artefacts"))?;
//!     let runtime = Runtime::start(Config::new(NodeId(1)), engine, code, catalog).await?;
//!     let reply = runtime.invoke(call).await;
//!     runtime.shutdown(Instant::now() + Duration::from_secs(10)).await;
//!     reply
//! }
//! ```

mod activation;
mod actor;
mod backoff;
mod brief;
mod busy;
mod config;
mod egress;
mod environment;
mod executor;
mod gate;
mod guest;
mod habits;
mod holds;
pub mod metrics;
mod outward;
mod prefetch;
mod prepare;
mod room;
mod runtime;
mod source;
mod status;
mod supervisor;
mod table;
#[cfg(test)]
mod testing;
mod turns;

pub use config::Config;
pub use egress::Egress;
pub use gate::{Gate, Pass, Shut};
pub use runtime::Runtime;
pub use source::CodeSource;
pub use status::{ActivationState, ActivationStatus};
pub use supervisor::Kept;
