//! Real nodes for tests: starts the real binary, owns all it starts, and waits for conditions, never for time.
//!
//! **Owns** the processes, ports and directories of one test. **Refuses** mocks: what is not the shipped program is
//! not here. **Start reading at** [`Mesh`].

mod examples;
mod http;
mod ledger;
mod load;
mod mesh;
mod modules;
mod netns;
mod node;
mod wait;

pub use examples::{Example, examples, examples_dir};
pub use http::{Answer, Http};
pub use ledger::Ledger;
pub use load::{Call, Calls, Expected, Load, LoadReport, Running, Sample};
pub use mesh::{Mesh, Ran};
pub use modules::{ECHO, echo_variant, wasm};
pub use netns::Netns;
pub use node::{Log, Node, NodeOptions};
pub use wait::{PATIENCE, until};
