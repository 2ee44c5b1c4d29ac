//! Where a function should run: policy as pure functions, load in and decisions out.
//!
//! **Owns** the choice of a node for a call ([`rank`]), and what is said of it afterwards ([`Ranked::words`]);
//! which activations leave a node that is short of memory ([`evict`]); which versions should move to another node
//! ([`plan()`]); who keeps instances ready ([`warm_share`]); what a function that starts will probably call ([`ahead`]);
//! and on which members the code of a version lies ([`copies`]).
//!
//! **Refuses** to wait, to send, or to keep a clock: the router and the runtime gather what it needs, act on what it
//! says, and tell it the time. So each policy is tested with plain values.
//!
//! **Start reading at** [`rank`], then [`plan()`].

pub mod copies;
pub mod evict;
mod habit;
mod home;
mod plan;
mod rank;
mod warm;
mod words;

pub use habit::{AHEAD_MAX, CALLEES_MAX, Habit, ahead};
pub use plan::{History, MOVES_MAX, MoveReason, NodeView, Places, PlannedMove, plan, refuge};
pub use rank::{Candidate, Group, Line, Ranked, Reason, Standing, rank};
pub use warm::share as warm_share;
