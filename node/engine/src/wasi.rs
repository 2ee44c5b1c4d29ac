//! The WASI preview 1 host of one call: three streams, arguments, environment, clocks and random bytes.
//!
//! There are no files, directories or sockets: what asks for them gets the error that POSIX has for it. Nothing here
//! blocks without waking when the guest is stopped, and nothing the guest says makes the host hold more than the call's
//! limits.

mod errno;
mod interface;
mod link;
mod poll;
mod process;
mod streams;

pub(crate) use errno::{Errno, Fault, Halt};
pub(crate) use interface::{MODULE, signature};
pub(crate) use link::import;

use crate::host::Host;

impl Host {
    /// The stream of a descriptor: 0, 1 or 2.
    fn stream(&self, fd: u32) -> Result<usize, Fault> {
        let index = fd as usize;
        if self.is_open.get(index).copied().unwrap_or(false) { Ok(index) } else { Err(Errno::BADF.into()) }
    }
}

/// The parts and a zero byte; without the zero bytes inside, which no C string can have.
fn terminated<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    parts.concat().into_iter().filter(|byte| *byte != 0).chain([0]).collect()
}
