//! What the engine promises, shown with guests written in WebAssembly text.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod budgets;
mod cache;
mod escapes;
mod extism;
mod files;
mod images;
mod instances;
mod limits;
mod lost;
mod modules;
mod mutation;
mod probe;
mod support;
mod wasi;
