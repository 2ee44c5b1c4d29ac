//! Arguments, environment, clocks, random bytes and the end of the process.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngCore as _;

use super::{Errno, Fault, Halt};
use crate::{clock, host::Host};

/// The clocks of WASI by their ids; 2 and 3 are the CPU time of the process and of the thread.
pub(super) const REALTIME: u32 = 0;
pub(super) const MONOTONIC: u32 = 1;
const CLOCK_MAX: u32 = 3;

impl Host {
    pub(super) fn args_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Fault> {
        self.write_sizes(self.args.iter().map(|arg| [arg.as_str(), "", ""]), count, bytes)
    }

    pub(super) fn args_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Fault> {
        self.write_strings(self.args.iter().map(|arg| [arg.as_str(), "", ""]), pointers, buffer)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Fault> {
        self.asked.environment = true;
        self.write_sizes(self.env.iter().map(|(name, value)| [name.as_str(), "=", value]), count, bytes)
    }

    pub(super) fn environ_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Fault> {
        self.asked.environment = true;
        self.write_strings(self.env.iter().map(|(name, value)| [name.as_str(), "=", value]), pointers, buffer)
    }

    fn write_sizes<'s>(
        &self,
        strings: impl Iterator<Item = [&'s str; 3]>,
        count: u32,
        bytes: u32,
    ) -> Result<(), Fault> {
        let (mut strings_total, mut bytes_total) = (0_usize, 0_usize);
        for string in strings {
            strings_total += 1;
            bytes_total += terminated(string).count();
        }
        self.write_u32(count, u32::try_from(strings_total).map_err(|_| Errno::OVERFLOW)?)?;
        self.write_u32(bytes, u32::try_from(bytes_total).map_err(|_| Errno::OVERFLOW)?)
    }

    fn write_strings<'s>(
        &self,
        strings: impl Iterator<Item = [&'s str; 3]>,
        mut pointers: u32,
        mut buffer: u32,
    ) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        for string in strings {
            bytes.clear();
            bytes.extend(terminated(string));
            self.write_u32(pointers, buffer)?;
            self.write(buffer, &bytes)?;
            let length = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
            pointers = pointers.checked_add(4).ok_or(Errno::FAULT)?;
            buffer = buffer.checked_add(length).ok_or(Errno::FAULT)?;
        }
        Ok(())
    }

    pub(super) fn clock_res_get(&mut self, id: u32, result: u32) -> Result<(), Fault> {
        if id > CLOCK_MAX {
            return Err(Errno::INVAL.into());
        }
        self.write_u64(result, 1)
    }

    pub(super) fn clock_time_get(&mut self, id: u32, _precision: u64, result: u32) -> Result<(), Fault> {
        self.asked.clock = true;
        let now_ns = match id {
            REALTIME => wall_ns()?,
            MONOTONIC => clock::monotonic_ns(),
            2..=CLOCK_MAX => self.cpu_ns(),
            _ => return Err(Errno::INVAL.into()),
        };
        self.write_u64(result, now_ns)
    }

    /// CPU time since the call first asked for it: what the thread did before is not the guest's to know.
    fn cpu_ns(&mut self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let now_ns = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0);
        now_ns.saturating_sub(*self.cpu_began_ns.get_or_insert(now_ns))
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

/// The wall clock, in nanoseconds since the Unix epoch.
pub(super) fn wall_ns() -> Result<u64, Errno> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).map_err(|_| Errno::OVERFLOW)
}

/// The parts and a zero byte; without the zero bytes inside, which no C string can have.
fn terminated(parts: [&str; 3]) -> impl Iterator<Item = u8> {
    parts.into_iter().flat_map(str::bytes).filter(|byte| *byte != 0).chain([0])
}
