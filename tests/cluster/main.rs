//! Whole-program tests: real nodes as real processes over real sockets, used as a user would.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod addresses;
mod bad_input;
mod compiling;
mod copies;
mod entrance;
mod examples;
mod faults;
mod files;
mod forming;
mod hostile;
mod leaving;
mod memory;
mod migration;
mod operating;
mod outward;
mod overload;
mod partition;
mod placing;
mod releases;
mod reporting;
mod scripts;
mod secrecy;
mod starting;
mod stuck;
mod warmth;
mod wrong_use;

/// The binary under test.
const SKEIN: &str = env!("CARGO_BIN_EXE_skein");
