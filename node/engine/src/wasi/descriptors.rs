//! The functions of WASI that take an open descriptor, but reading and writing.

use super::{
    Errno, Fault,
    directory::Entry,
    files::{Advice, Flags},
    paths::{RawTimes, Text},
    rights::Rights,
    stat::Times,
};
use crate::host::Host;

/// Bytes of an entry of a directory before its name.
const ENTRY_BYTES: usize = 24;

impl Host {
    pub(super) fn fd_close(&mut self, fd: u32) -> Result<(), Fault> {
        // Another instance has it open: an image taken after this would not know.
        self.asked.input = true;
        Ok(self.files.close(fd)?)
    }

    pub(super) fn fd_renumber(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.asked.input = true;
        Ok(self.files.renumber(from, to)?)
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        // Streams are of an unknown type, as pipes are: a terminal would have libraries flush every line.
        let kind = self.files.kind(fd)?;
        let descriptor = self.files.get(fd)?;
        let mut stat = [0; 24];
        stat[0] = kind as u8;
        stat[2..4].copy_from_slice(&descriptor.flags.0.to_le_bytes());
        stat[8..16].copy_from_slice(&descriptor.base.bits().to_le_bytes());
        stat[16..24].copy_from_slice(&descriptor.inheriting.bits().to_le_bytes());
        self.write(result, &stat)
    }

    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Result<(), Fault> {
        self.asked.input = true;
        Ok(self.files.set_flags(fd, Flags::from_bits(flags)?)?)
    }

    pub(super) fn fd_fdstat_set_rights(&mut self, fd: u32, base: u64, inheriting: u64) -> Result<(), Fault> {
        self.asked.input = true;
        Ok(self.files.narrow(fd, Rights::from_bits(base)?, Rights::from_bits(inheriting)?)?)
    }

    /// Says of a descriptor that the guest was given whether it is a directory to start from: `EBADF` ends its search.
    pub(super) fn fd_prestat_get(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        let name = self.files.get(fd)?.preopened().ok_or(Errno::BADF)?;
        let mut stat = [0; 8];
        stat[4..].copy_from_slice(&u32::try_from(name.len()).map_err(|_| Errno::OVERFLOW)?.to_le_bytes());
        self.write(result, &stat)
    }

    pub(super) fn fd_prestat_dir_name(&mut self, fd: u32, target: Text) -> Result<(), Fault> {
        let name = self.files.get(fd)?.preopened().ok_or(Errno::BADF)?;
        if (target.length as usize) < name.len() {
            return Err(Errno::NAMETOOLONG.into());
        }
        self.write(target.at, name.as_bytes())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        if self.files.get(fd)?.stream().is_none() {
            self.asked.input = true;
        }
        let stat = self.files.stat(fd)?;
        self.write(result, &stat.encode())
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Result<(), Fault> {
        Ok(self.files.set_size(fd, size)?)
    }

    pub(super) fn fd_filestat_set_times(&mut self, fd: u32, times: RawTimes) -> Result<(), Fault> {
        self.asked.input = true;
        let times = Times::decode(times.accessed_ns, times.modified_ns, times.flags)?;
        Ok(self.files.set_times(fd, times)?)
    }

    pub(super) fn fd_seek(&mut self, fd: u32, offset: u64, whence: u32, result: u32) -> Result<(), Fault> {
        if !self.slot.contains(result, 8) {
            return Err(Errno::FAULT.into());
        }
        let position = self.files.seek(fd, offset.cast_signed(), whence)?;
        self.write_u64(result, position)
    }

    pub(super) fn fd_tell(&mut self, fd: u32, result: u32) -> Result<(), Fault> {
        // From here, by nothing.
        self.fd_seek(fd, 0, 1, result)
    }

    pub(super) fn fd_advise(&mut self, fd: u32, advice: Advice) -> Result<(), Fault> {
        Ok(self.files.advise(fd, advice)?)
    }

    pub(super) fn fd_allocate(&mut self, fd: u32, offset: u64, length: u64) -> Result<(), Fault> {
        Ok(self.files.allocate(fd, offset, length)?)
    }

    pub(super) fn fd_sync(&mut self, fd: u32) -> Result<(), Fault> {
        Ok(self.files.sync(fd, false)?)
    }

    pub(super) fn fd_datasync(&mut self, fd: u32) -> Result<(), Fault> {
        Ok(self.files.sync(fd, true)?)
    }

    /// Fills `target` with entries; the last may be cut, which says that there are more.
    pub(super) fn fd_readdir(&mut self, fd: u32, target: Text, cookie: u64, result: u32) -> Result<(), Fault> {
        self.asked.input = true;
        let room = target.length as usize;
        if !self.slot.contains(target.at, room) {
            return Err(Errno::FAULT.into());
        }
        let mut used = 0;
        let mut was_written = true;
        let slot = &self.slot;
        self.files.read_directory(fd, cookie, &mut |entry| {
            let raw = encode(entry);
            let piece = raw.len().min(room - used);
            was_written &= slot.write(target.at + used as u32, &raw[..piece]);
            used += piece;
            piece == raw.len()
        })?;
        if !was_written {
            return Err(Errno::FAULT.into());
        }
        self.write_u32(result, used as u32)
    }
}

fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut raw = Vec::with_capacity(ENTRY_BYTES + entry.name.len());
    raw.extend_from_slice(&entry.next.to_le_bytes());
    raw.extend_from_slice(&entry.inode.to_le_bytes());
    raw.extend_from_slice(&(entry.name.len() as u32).to_le_bytes());
    raw.extend_from_slice(&[entry.kind as u8, 0, 0, 0]);
    raw.extend_from_slice(entry.name);
    raw
}
