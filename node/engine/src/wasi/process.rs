//! Arguments, environment, clocks, random bytes and the end of the process.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngCore as _;

use super::{Errno, Fault, Halt, terminated};
use crate::{clock, host::Host};

/// The clocks of WASI by their ids: wall clock, monotonic clock, CPU time of the process and of the thread.
const REALTIME: u32 = 0;
const CLOCK_MAX: u32 = 3;

impl Host {
    pub(super) fn args_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Fault> {
        self.write_sizes(&self.arguments(), count, bytes)
    }

    pub(super) fn args_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Fault> {
        self.write_strings(&self.arguments(), pointers, buffer)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Fault> {
        self.write_sizes(&self.environment(), count, bytes)
    }

    pub(super) fn environ_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Fault> {
        self.write_strings(&self.environment(), pointers, buffer)
    }

    /// Each ends with a zero byte.
    fn arguments(&self) -> Vec<Vec<u8>> {
        self.args.iter().map(|arg| terminated([arg.as_bytes()])).collect()
    }

    /// Each is `name=value` and ends with a zero byte.
    fn environment(&self) -> Vec<Vec<u8>> {
        self.env.iter().map(|(name, value)| terminated([name.as_bytes(), b"=", value.as_bytes()])).collect()
    }

    fn write_sizes(&self, strings: &[Vec<u8>], count: u32, bytes: u32) -> Result<(), Fault> {
        let total: usize = strings.iter().map(Vec::len).sum();
        self.write_u32(count, u32::try_from(strings.len()).map_err(|_| Errno::OVERFLOW)?)?;
        self.write_u32(bytes, u32::try_from(total).map_err(|_| Errno::OVERFLOW)?)
    }

    fn write_strings(&self, strings: &[Vec<u8>], mut pointers: u32, mut buffer: u32) -> Result<(), Fault> {
        for string in strings {
            self.write_u32(pointers, buffer)?;
            self.write(buffer, string)?;
            let length = u32::try_from(string.len()).map_err(|_| Errno::OVERFLOW)?;
            pointers = pointers.checked_add(4).ok_or(Errno::FAULT)?;
            buffer = buffer.checked_add(length).ok_or(Errno::FAULT)?;
        }
        Ok(())
    }

    pub(super) fn clock_res_get(&mut self, id: u32, result: u32) -> Result<(), Fault> {
        clock_now(id)?;
        self.write_u64(result, 1)
    }

    pub(super) fn clock_time_get(&mut self, id: u32, _precision: u64, result: u32) -> Result<(), Fault> {
        self.asked.clock = true;
        self.write_u64(result, clock_now(id)?)
    }

    pub(super) fn random_get(&mut self, at: u32, length: u32) -> Result<(), Fault> {
        /// Filled in pieces, so that a guest that asks for gigabytes can be stopped and costs the host no memory.
        const CHUNK_BYTES: usize = 4 << 10;
        if !self.slot.contains(at, length as usize) {
            return Err(Errno::FAULT.into());
        }
        self.asked.random = true;
        let mut chunk = [0; CHUNK_BYTES];
        let mut done = 0;
        while done < length {
            let piece = &mut chunk[..CHUNK_BYTES.min((length - done) as usize)];
            rand::rng().fill_bytes(piece);
            self.write(at + done, piece)?;
            done += piece.len() as u32;
            if self.interrupt.reason().is_some() {
                return Err(Halt::Stopped.into());
            }
        }
        Ok(())
    }

    pub(super) fn sched_yield(&mut self) -> Result<(), Fault> {
        std::thread::yield_now();
        Ok(())
    }

    /// Ends the guest as a shell would see it: with 128 and the number of the signal.
    pub(super) fn proc_raise(&mut self, signal: u32) -> Result<(), Fault> {
        match i32::try_from(signal) {
            Ok(0) => Ok(()),
            Ok(signal @ 1..=31) => Err(Halt::Exit(128 + signal).into()),
            _ => Err(Errno::INVAL.into()),
        }
    }
}

/// What a clock shows, in nanoseconds. CPU time is not told apart from the monotonic clock's.
pub(super) fn clock_now(id: u32) -> Result<u64, Errno> {
    match id {
        REALTIME => {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since_epoch.as_nanos()).map_err(|_| Errno::OVERFLOW)
        }
        1..=CLOCK_MAX => Ok(clock::monotonic_ns()),
        _ => Err(Errno::INVAL),
    }
}
