//! Descriptors 0, 1 and 2: stdin, stdout and stderr. There are no others.

use bytes::Buf as _;

use super::{Errno, Fault, Halt};
use crate::host::Host;

/// Most buffers of one read or write, as POSIX has it (`IOV_MAX`): what the host does for one call stays short.
const BUFFERS_MAX: u32 = 1024;

const STDIN: usize = 0;
const STDOUT: usize = 1;

impl Host {
    pub(super) fn fd_read(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Result<(), Fault> {
        if self.stream(fd)? != STDIN {
            return Err(Errno::BADF.into());
        }
        self.asked.input = true;
        let mut total = 0;
        for index in 0..bounded(count)? {
            let (at, length) = self.buffer(buffers, index)?;
            if !self.slot.contains(at, length as usize) {
                return Err(Errno::FAULT.into());
            }
            let piece = self.payload.len().min(length as usize);
            self.write(at, &self.payload[..piece])?;
            self.payload.advance(piece);
            total += piece;
        }
        self.write_u32(result, u32::try_from(total).map_err(|_| Errno::OVERFLOW)?)
    }

    pub(super) fn fd_write(&mut self, fd: u32, buffers: u32, count: u32, result: u32) -> Result<(), Fault> {
        let stream = self.stream(fd)?;
        if stream == STDIN {
            return Err(Errno::BADF.into());
        }
        let mut total = 0_u32;
        for index in 0..bounded(count)? {
            let (at, length) = self.buffer(buffers, index)?;
            if !self.slot.contains(at, length as usize) {
                return Err(Errno::FAULT.into());
            }
            total = total.checked_add(length).ok_or(Errno::INVAL)?;
            if stream == STDOUT && !self.plugin.is_active() {
                self.write_output(at, length)?
            } else {
                self.write_log(at, length)?
            }
        }
        self.write_u32(result, total)
    }

    fn write_output(&mut self, at: u32, length: u32) -> Result<(), Fault> {
        if self.written.output.len() as u64 + u64::from(length) > self.limits.payload_bytes {
            return Err(Halt::Output.into());
        }
        if self.slot.append_to(&mut self.written.output, at, length as usize) {
            Ok(())
        } else {
            Err(Errno::FAULT.into())
        }
    }

    fn write_log(&mut self, at: u32, length: u32) -> Result<(), Fault> {
        // What does not fit is only counted, so that no more than the limit is ever copied.
        let room = self.limits.log_bytes.saturating_sub(self.written.log.len() as u64);
        let kept = u64::from(length).min(room) as usize;
        if !self.slot.append_to(&mut self.written.log, at, kept) {
            return Err(Errno::FAULT.into());
        }
        self.written.log_bytes_total += u64::from(length);
        Ok(())
    }

    /// The address and the length of the buffer at `index` of an array of them.
    fn buffer(&self, array: u32, index: u32) -> Result<(u32, u32), Fault> {
        let at = array.checked_add(index * 8).ok_or(Errno::FAULT)?;
        let length_at = at.checked_add(4).ok_or(Errno::FAULT)?;
        Ok((self.read_u32(at)?, self.read_u32(length_at)?))
    }

    pub(super) fn fd_close(&mut self, fd: u32) -> Result<(), Fault> {
        let stream = self.stream(fd)?;
        self.is_open[stream] = false;
        Ok(())
    }

    pub(super) fn fd_seek(&mut self, fd: u32, _offset: u64, _whence: u32, _result: u32) -> Result<(), Fault> {
        self.stream(fd)?;
        Err(Errno::SPIPE.into())
    }

    pub(super) fn fd_tell(&mut self, fd: u32, _result: u32) -> Result<(), Fault> {
        self.stream(fd)?;
        Err(Errno::SPIPE.into())
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        const RIGHTS_READ: u64 = 1 << 1 | 1 << 3 | 1 << 21 | 1 << 27;
        const RIGHTS_WRITE: u64 = 1 << 6 | 1 << 3 | 1 << 21 | 1 << 27;
        let rights = if self.stream(fd)? == STDIN { RIGHTS_READ } else { RIGHTS_WRITE };
        // Of an unknown type, as a pipe is: a terminal would have libraries flush every line.
        let mut stat = [0; 24];
        stat[8..16].copy_from_slice(&rights.to_le_bytes());
        self.write(result, &stat)
    }

    /// Streams never block a guest for long, so that flags change nothing.
    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, _flags: u32) -> Result<(), Fault> {
        self.stream(fd).map(drop)
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        self.stream(fd)?;
        let mut stat = [0; 64];
        // One link; everything else is zero, as for a pipe.
        stat[24] = 1;
        self.write(result, &stat)
    }

    /// What is written is kept at once.
    pub(super) fn fd_sync(&mut self, fd: u32) -> Result<(), Fault> {
        self.stream(fd).map(drop)
    }

    /// No directory is open from the start: a guest that looks for them stops looking.
    pub(super) fn fd_prestat_get(&mut self, _fd: u32, _result: u32) -> Result<(), Fault> {
        Err(Errno::BADF.into())
    }

    /// What every other function of descriptors says: of a stream, that it cannot; of anything else, that it is not.
    pub(super) fn refuse(&self, name: &str, fd: u32) -> Errno {
        if self.stream(fd).is_err() {
            Errno::BADF
        } else if name.starts_with("path_") {
            Errno::NOTCAPABLE
        } else if matches!(name, "fd_pread" | "fd_pwrite" | "fd_advise" | "fd_allocate") {
            Errno::SPIPE
        } else {
            Errno::NOTSUP
        }
    }
}

fn bounded(count: u32) -> Result<u32, Errno> {
    if count <= BUFFERS_MAX { Ok(count) } else { Err(Errno::INVAL) }
}
