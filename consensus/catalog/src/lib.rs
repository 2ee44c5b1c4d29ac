//! What is true for the whole mesh, as a pure value.
//!
//! **Owns** the replicated state machine: [`Command`]s in, [`Outcome`]s out, the [`Catalog`] they build, its
//! snapshot, and the [`Propose`] seam by which the rest of the program changes and watches it.
//!
//! **Refuses** I/O, clocks and randomness: [`Catalog::apply`] is total and deterministic, so that equal logs make
//! equal replicas. A refusal is an outcome, not an error, and changes nothing.
//!
//! **Start reading at** [`Command`], then [`Catalog::apply`].

mod binding;
mod catalog;
mod command;
mod propose;
mod recent;
mod record;
mod refusal;
mod resolve;

pub use binding::{Binding, check_labels};
pub use catalog::{Catalog, SnapshotError};
pub use command::{Addresses, Command, Outcome, Proposal, RequestId};
pub use propose::{Applied, PROPOSE_DEADLINE, Propose, Watch};
#[cfg(feature = "simulation")]
pub use recent::remember_less;
pub use record::{AppRecord, FunctionRecord, KeyRecord, Member, MemberRole, Role, TokenRecord, VersionRecord};
pub use resolve::Resolved;
