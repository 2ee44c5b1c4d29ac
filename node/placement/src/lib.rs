//! Where a function should run: policy as pure functions, load in and decisions out.
//!
//! **Owns** the choice of a node for a call ([`rank`]).
//!
//! **Refuses** to wait, to send, or to keep a clock: the router and the runtime gather what it needs, act on what it
//! says, and tell it the time. So each policy is tested with plain values.
//!
//! **Start reading at** [`rank`].

mod rank;

pub use rank::{Candidate, rank};
