//! The host of Extism plug-ins: blocks of memory for input and output, configuration, variables, log and requests.
//!
//! A plug-in is a module whose exported function takes nothing and returns a number, and which exchanges everything
//! else by the functions of `extism:host/env`. `docs/extism.md` says what each does here.

mod blocks;
mod functions;
mod initialise;
mod interface;
mod link;
mod plugin;

pub(crate) use initialise::initialisers;
pub(crate) use interface::{MODULE, USER_MODULE, is_module, signature};
pub(crate) use link::import;
pub(crate) use plugin::{Ended, Plugin, Told};
