//! The WASI preview 1 host of one call: streams, arguments, environment, clocks, random bytes, and files.
//!
//! Files are those of the call's private directory, which is memory, and of directories that a run by hand was given;
//! without either there are none. There are no sockets. Nothing here blocks without waking when the guest is stopped,
//! and nothing the guest says makes the host hold more than the call's limits.
//!
//! ```text
//! link         functions that a module can import
//! process, poll, streams, descriptors, paths
//!              what they do, in terms of guest memory
//! files        descriptors and their rights: every capability is asked for here
//! scratch      files in memory           disk    files of the machine, through cap-std
//! ```

mod descriptors;
mod directory;
mod disk;
mod errno;
mod files;
mod interface;
mod link;
mod paths;
mod poll;
mod preopen;
mod process;
mod rights;
mod scratch;
mod stat;
mod streams;

pub(crate) use errno::{Errno, Fault, Halt};
pub(crate) use files::Files;
pub(crate) use interface::{MODULE, signature};
pub(crate) use link::import;
pub use preopen::Preopen;
