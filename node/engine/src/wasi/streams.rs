//! Reading and writing: the three streams, and files.

use bytes::Buf as _;

use super::{Errno, Fault, Halt, files::Stream};
use crate::host::Host;

/// Most buffers of one read or write, as POSIX has it (`IOV_MAX`): what the host does for one call stays short.
const BUFFERS_MAX: u32 = 1024;
/// How much of a file is moved at a time: between two pieces a guest can be stopped.
const PIECE_BYTES: usize = 64 << 10;

/// An array of buffers in guest memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffers {
    pub(super) at: u32,
    pub(super) count: u32,
}

impl Host {
    pub(super) fn fd_read(&mut self, fd: u32, buffers: Buffers, result: u32) -> Result<(), Fault> {
        match self.files.get(fd)?.stream() {
            None => self.read_file(fd, None, buffers, result),
            Some(Stream::Input) => self.read_input(fd, buffers, result),
            Some(Stream::Output | Stream::Log) => Err(Errno::BADF.into()),
        }
    }

    fn read_input(&mut self, fd: u32, buffers: Buffers, result: u32) -> Result<(), Fault> {
        self.files.get(fd)?.base.require(super::rights::Rights::FD_READ)?;
        self.asked.input = true;
        let mut total = 0;
        for index in 0..buffers.bounded()? {
            let (at, length) = self.buffer(buffers, index)?;
            let piece = self.payload.len().min(length as usize);
            self.write(at, &self.payload[..piece])?;
            self.payload.advance(piece);
            total += piece;
        }
        self.write_u32(result, u32::try_from(total).map_err(|_| Errno::OVERFLOW)?)
    }

    pub(super) fn fd_pread(&mut self, fd: u32, buffers: Buffers, offset: u64, result: u32) -> Result<(), Fault> {
        self.read_file(fd, Some(positive(offset)?), buffers, result)
    }

    fn read_file(&mut self, fd: u32, mut offset: Option<u64>, buffers: Buffers, result: u32) -> Result<(), Fault> {
        self.asked.input = true;
        self.files.require_readable(fd, offset.is_some())?;
        let mut total = 0_u32;
        let mut piece = self.take_piece();
        let read = self.each_piece(buffers, |host, at, length| {
            let piece = piece.get_mut(..length).unwrap_or_default();
            let count = host.files.read(fd, offset, piece)?;
            host.write(at, &piece[..count])?;
            offset = offset.map(|offset| offset + count as u64);
            total += count as u32;
            Ok(count)
        });
        self.piece = piece;
        self.moved(read, total, result)
    }

    pub(super) fn fd_write(&mut self, fd: u32, buffers: Buffers, result: u32) -> Result<(), Fault> {
        let descriptor = self.files.get(fd)?;
        let Some(stream) = descriptor.stream() else { return self.write_file(fd, None, buffers, result) };
        if stream == Stream::Input {
            return Err(Errno::BADF.into());
        }
        descriptor.base.require(super::rights::Rights::FD_WRITE)?;
        let mut total = 0_u32;
        for index in 0..buffers.bounded()? {
            let (at, length) = self.buffer(buffers, index)?;
            total = total.checked_add(length).ok_or(Errno::INVAL)?;
            // What a plug-in prints is its log: its output is a block of memory.
            if stream == Stream::Output && !self.plugin.is_active() {
                self.write_output(at, length)?
            } else {
                self.write_log(at, length)?
            }
        }
        self.write_u32(result, total)
    }

    pub(super) fn fd_pwrite(&mut self, fd: u32, buffers: Buffers, offset: u64, result: u32) -> Result<(), Fault> {
        self.write_file(fd, Some(positive(offset)?), buffers, result)
    }

    fn write_file(&mut self, fd: u32, mut offset: Option<u64>, buffers: Buffers, result: u32) -> Result<(), Fault> {
        self.asked.input = true;
        self.files.require_writable(fd, offset.is_some())?;
        let mut total = 0_u32;
        let mut piece = self.take_piece();
        let written = self.each_piece(buffers, |host, at, length| {
            let piece = piece.get_mut(..length).unwrap_or_default();
            host.read(at, piece)?;
            let count = host.files.write(fd, offset, piece)?;
            offset = offset.map(|offset| offset + count as u64);
            total += count as u32;
            Ok(count)
        });
        self.piece = piece;
        self.moved(written, total, result)
    }

    /// The host's own buffer; made when it is first needed, and kept.
    fn take_piece(&mut self) -> Vec<u8> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(PIECE_BYTES, 0);
        piece
    }

    /// Has `work` move piece after piece of `buffers`, until it moves less than it was asked to.
    fn each_piece(
        &mut self,
        buffers: Buffers,
        mut work: impl FnMut(&mut Self, u32, usize) -> Result<usize, Fault>,
    ) -> Result<(), Fault> {
        let mut total = 0_u32;
        for index in 0..buffers.bounded()? {
            let (at, length) = self.buffer(buffers, index)?;
            total = total.checked_add(length).ok_or(Errno::INVAL)?;
            let mut done = 0;
            while done < length {
                if self.interrupt.reason().is_some() {
                    return Err(Halt::Stopped.into());
                }
                let piece = PIECE_BYTES.min((length - done) as usize);
                let count = work(self, at + done, piece)?;
                if count < piece {
                    return Ok(());
                }
                done += count as u32;
            }
        }
        Ok(())
    }

    /// Tells the guest how much was moved. What was moved before an error counts, as in POSIX.
    fn moved(&mut self, outcome: Result<(), Fault>, total: u32, result: u32) -> Result<(), Fault> {
        match outcome {
            Err(Fault::Errno(_)) if total > 0 => {}
            other => other?,
        }
        self.write_u32(result, total)
    }

    fn write_output(&mut self, at: u32, length: u32) -> Result<(), Fault> {
        if self.written.output.len() as u64 + u64::from(length) > self.limits.payload_bytes {
            return Err(Halt::Output.into());
        }
        if !self.holds(length.into()) {
            return Err(Errno::NOMEM.into());
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

    /// The address and the length of the buffer at `index` of an array of them; all of it is the guest's.
    fn buffer(&self, buffers: Buffers, index: u32) -> Result<(u32, u32), Fault> {
        let at = buffers.at.checked_add(index * 8).ok_or(Errno::FAULT)?;
        let length_at = at.checked_add(4).ok_or(Errno::FAULT)?;
        let (at, length) = (self.read_u32(at)?, self.read_u32(length_at)?);
        if self.slot.contains(at, length as usize) { Ok((at, length)) } else { Err(Errno::FAULT.into()) }
    }
}

impl Buffers {
    /// How many there are; `EINVAL` if too many.
    fn bounded(self) -> Result<u32, Errno> {
        if self.count <= BUFFERS_MAX { Ok(self.count) } else { Err(Errno::INVAL) }
    }
}

/// An offset in a file, which has no more than 63 bits.
fn positive(offset: u64) -> Result<u64, Errno> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::INVAL) }
}
