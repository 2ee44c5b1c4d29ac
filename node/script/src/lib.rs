//! The guest that runs JavaScript, and the form in which scripts are published.
//!
//! **Owns** [`RUNTIME`], a WebAssembly module made of quickjs-ng and of `runtime/` (C and JavaScript) when this crate is
//! built; [`Bundle`], the files of one script as one artifact; and [`frame`], what the host and that guest pass each other.
//!
//! **Refuses** to run anything: the engine does, and it alone knows wasmer. JavaScript is never parsed outside the guest.
//!
//! **Start reading at** [`Bundle`], then `runtime/runtime.c`, whose top says how the guest lives.
//!
//! ```
//! use skein_script::Bundle;
//!
//! let text = "export default (input) => input.length";
//! let bundle = Bundle::parse(text.as_bytes(), Some("length.js"))?;
//! assert_eq!(bundle.entry(), "length.js");
//! assert_eq!(bundle.to_bytes(), text.as_bytes());
//! # Ok::<(), skein_script::BundleError>(())
//! ```

mod bundle;
pub mod frame;
mod gather;

pub use bundle::{Bundle, BundleError};

/// The WebAssembly module that runs scripts: a WASI reactor whose exports and imports are those of `runtime/runtime.c`.
pub const RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.wasm"));
