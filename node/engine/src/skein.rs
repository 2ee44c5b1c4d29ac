//! The module `skein`: Skein's own services, as host functions for guests of every abi. docs/services.md describes them.
//!
//! A guest asks for as many calls and HTTP requests as it likes before it waits for any of them; they go on together
//! while it waits. Answers stay with the host until the guest takes them, within bounds.

mod functions;
mod interface;
mod link;
mod requests;

pub(crate) use interface::{MODULE, signature};
pub(crate) use link::import;
pub(crate) use requests::Requests;
