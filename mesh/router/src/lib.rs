//! Location transparency: a name in, the answer out, wherever the function runs.
//!
//! **Owns** the way of a call: resolve the name in the local catalogue, rank the nodes, try them within the deadline
//! and a retry budget, and the receiving side of an attempt that comes from a peer.
//!
//! **Refuses** to wait for Raft, to forward a peer's call (it goes to the runtime, never to a router, so there are no
//! loops), and to repeat what may have run.
//!
//! **Start reading at** [`Router`], then `skein_placement::rank` for the choice of nodes and `attempt` for what may be repeated.
//!
//! ```text
//!  Invocation -> resolve (catalogue) -> rank (view) -> attempt: here -> runtime
//!                                          ^              |---- peer -> invoke_service -> runtime there
//!                                          '-- next one --'  if nothing ran, in time, and the budget allows
//! ```
//!
//! ```
//! use skein_proto::{Invocation, Invoke, Reply};
//! use tokio::time::{Duration, Instant};
//!
//! async fn price(router: &skein_router::Router) -> Result<Reply, Box<dyn std::error::Error>> {
//!     let deadline = Instant::now() + Duration::from_secs(1);
//!     Ok(router.invoke(Invocation::new("shop/price".parse()?, "42".into(), deadline)).await?)
//! }
//! ```

mod attempt;
mod decisions;
pub mod metrics;
mod notes;
mod reach;
mod router;
mod service;
#[cfg(test)]
mod tests;
mod trail;
mod way;
mod wire;

pub use decisions::{Decision, End, FailedAttempt, KEPT};
pub use reach::reach;
pub use router::Router;
pub use service::invoke_service;
