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

use std::sync::Arc;

use bytes::Bytes;
use skein_proto::Limits;

pub(crate) use errno::{Errno, Fault, Halt};
pub(crate) use interface::{MODULE, Signature, signature};
pub(crate) use link::import;

use crate::{memory::Slot, stop::Interrupt};

/// What the host knows of one call, and what the guest has written so far.
#[derive(Debug)]
pub(crate) struct Wasi {
    slot: Arc<Slot>,
    interrupt: Arc<Interrupt>,
    /// Each ends with a zero byte.
    args: Vec<Vec<u8>>,
    /// Each is `name=value` and ends with a zero byte.
    env: Vec<Vec<u8>>,
    stdin: Bytes,
    /// Which of the three streams the guest has not closed.
    is_open: [bool; 3],
    stdout: Vec<u8>,
    log: Vec<u8>,
    log_bytes_total: u64,
    limits: Limits,
}

/// What a guest wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) stdout: Vec<u8>,
    pub(crate) log: Vec<u8>,
    pub(crate) log_bytes_total: u64,
}

impl Wasi {
    pub(crate) fn new(slot: Arc<Slot>, interrupt: Arc<Interrupt>, call: &crate::Call<'_>) -> Self {
        Self {
            slot,
            interrupt,
            args: call.args.iter().map(|arg| terminated([arg.as_bytes()])).collect(),
            env: call.env.iter().map(|(k, v)| terminated([k.as_bytes(), b"=", v.as_bytes()])).collect(),
            stdin: call.stdin.clone(),
            is_open: [true; 3],
            stdout: Vec::new(),
            log: Vec::new(),
            log_bytes_total: 0,
            limits: call.limits,
        }
    }

    /// Takes what the guest wrote.
    pub(crate) fn take_written(&mut self) -> Written {
        Written {
            stdout: std::mem::take(&mut self.stdout),
            log: std::mem::take(&mut self.log),
            log_bytes_total: self.log_bytes_total,
        }
    }

    /// The stream of a descriptor: 0, 1 or 2.
    fn stream(&self, fd: u32) -> Result<usize, Fault> {
        let index = fd as usize;
        if self.is_open.get(index).copied().unwrap_or(false) { Ok(index) } else { Err(Errno::BADF.into()) }
    }

    fn read_u32(&self, at: u32) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn read(&self, at: u32, target: &mut [u8]) -> Result<(), Fault> {
        if self.slot.read(at, target) { Ok(()) } else { Err(Errno::FAULT.into()) }
    }

    fn write(&self, at: u32, source: &[u8]) -> Result<(), Fault> {
        if self.slot.write(at, source) { Ok(()) } else { Err(Errno::FAULT.into()) }
    }

    fn write_u32(&self, at: u32, value: u32) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }

    fn write_u64(&self, at: u32, value: u64) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }
}

/// The parts and a zero byte; without the zero bytes inside, which no C string can have.
fn terminated<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    parts.concat().into_iter().filter(|byte| *byte != 0).chain([0]).collect()
}
