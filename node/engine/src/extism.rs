//! The host of Extism plug-ins: blocks of memory for input and output, configuration, variables, log and requests.
//!
//! A plug-in is a module whose exported function takes nothing and returns a number, and which exchanges everything
//! else by the functions of `extism:host/env`. `docs/extism.md` says what each does here.

#![allow(dead_code, unused_imports, reason = "dispatched to with the abis of programs, which comes next")]

mod blocks;
mod call;
mod functions;
mod initialise;
mod interface;
mod link;
mod plugin;

pub(crate) use call::{call, initialise};
pub(crate) use initialise::{Initialiser, initialisers};
pub(crate) use interface::{MODULE, Signature, USER_MODULE, names, signature};
pub(crate) use link::import;
pub(crate) use plugin::{Ended, Plugin, Returned};
