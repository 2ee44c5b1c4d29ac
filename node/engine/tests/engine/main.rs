//! What the engine promises, shown with guests written in WebAssembly text.

mod cache;
mod extism;
mod instances;
mod limits;
mod modules;
mod mutation;
mod support;
mod wasi;
