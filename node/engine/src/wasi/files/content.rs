//! What is done with something open: reading, writing, seeking, and what is known about it.

use super::{Files, Flags, Object};
use crate::wasi::{
    Errno,
    directory::{Directory, Entry, File},
    rights::Rights,
    scratch::Tree,
    stat::{FileType, Stat, Times},
};

/// How a part of a file will be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advice {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// 0 to 5, in the order of WASI.
    pub(crate) kind: u32,
}

/// Where to seek from.
const FROM_START: u32 = 0;
const FROM_HERE: u32 = 1;
const FROM_END: u32 = 2;

/// An open file, and what working on it needs.
struct Open<'f> {
    file: &'f File,
    position: &'f mut u64,
    flags: Flags,
    base: Rights,
    tree: &'f mut Tree,
}

impl Open<'_> {
    fn size(&self) -> Result<u64, Errno> {
        match self.file {
            File::Scratch(node) => self.tree.size(*node),
            File::Disk(file) => file.size(),
        }
    }

    fn require_positions(&self) -> Result<(), Errno> {
        if let File::Disk(file) = self.file { file.require_positions() } else { Ok(()) }
    }
}

impl Files {
    /// The file `fd`, if it has `rights`. `ESPIPE` for streams, `EISDIR` for directories.
    fn file(&mut self, fd: u32, rights: Rights) -> Result<Open<'_>, Errno> {
        // As `get_mut`, which would borrow the tree too.
        let (index, low) = (fd as usize, self.low.len());
        let slot = if index < low { self.low.get_mut(index) } else { self.high.get_mut(index - low) };
        let descriptor = slot.and_then(Option::as_mut).ok_or(Errno::BADF)?;
        let (base, flags) = (descriptor.base, descriptor.flags);
        match &mut descriptor.object {
            Object::Stream(_) => Err(Errno::SPIPE),
            Object::Directory { .. } => Err(Errno::ISDIR),
            Object::File { file, position } => {
                base.require(rights)?;
                Ok(Open { file, position, flags, base, tree: &mut self.tree })
            }
        }
    }

    /// Fails as reading would, at an offset or not, even if there is nothing to read.
    pub(crate) fn require_readable(&mut self, fd: u32, is_at_offset: bool) -> Result<(), Errno> {
        self.movable(fd, Rights::FD_READ, is_at_offset).map(drop)
    }

    /// Fails as writing would, at an offset or not, even if there is nothing to write.
    pub(crate) fn require_writable(&mut self, fd: u32, is_at_offset: bool) -> Result<(), Errno> {
        self.movable(fd, Rights::FD_WRITE, is_at_offset).map(drop)
    }

    /// The file `fd` for moving bytes: at an offset that takes the right to seek, and positions to seek to.
    fn movable(&mut self, fd: u32, rights: Rights, is_at_offset: bool) -> Result<Open<'_>, Errno> {
        let open = self.file(fd, if is_at_offset { rights.and(Rights::FD_SEEK) } else { rights })?;
        if is_at_offset {
            open.require_positions()?;
        }
        Ok(open)
    }

    /// Reads on from the descriptor's position, or at `offset` without moving it. Less than asked for is the end.
    pub(crate) fn read(&mut self, fd: u32, offset: Option<u64>, target: &mut [u8]) -> Result<usize, Errno> {
        let open = self.movable(fd, Rights::FD_READ, offset.is_some())?;
        let at = offset.unwrap_or(*open.position);
        let count = match open.file {
            File::Scratch(node) => open.tree.read(*node, at, target)?,
            File::Disk(file) => file.read(at, target)?,
        };
        if offset.is_none() {
            *open.position = at + count as u64;
        }
        Ok(count)
    }

    /// Writes on from the descriptor's position, or at `offset` without moving it, or at the end if it appends.
    pub(crate) fn write(&mut self, fd: u32, offset: Option<u64>, source: &[u8]) -> Result<usize, Errno> {
        let open = self.movable(fd, Rights::FD_WRITE, offset.is_some())?;
        let appends = open.flags.has(Flags::APPEND);
        let mut at = offset.unwrap_or(*open.position);
        let count = match open.file {
            File::Scratch(node) => {
                if appends {
                    at = open.tree.size(*node)?;
                }
                open.tree.write(*node, at, source)?
            }
            File::Disk(file) => {
                let count = file.write(at, source)?;
                if appends {
                    at = file.size()?.saturating_sub(count as u64);
                }
                if open.flags.has(Flags::SYNC | Flags::DSYNC) {
                    file.sync(!open.flags.has(Flags::SYNC))?;
                }
                count
            }
        };
        if offset.is_none() {
            *open.position = at + count as u64;
        }
        Ok(count)
    }

    /// Moves the position, and says where it is. To ask without moving it takes less of a right.
    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        let is_tell = whence == FROM_HERE && offset == 0;
        let open = self.file(fd, Rights::NONE)?;
        open.require_positions()?;
        let base = match whence {
            FROM_START => 0,
            FROM_HERE => *open.position,
            FROM_END => open.size()?,
            _ => return Err(Errno::INVAL),
        };
        let position = base.checked_add_signed(offset).filter(|at| i64::try_from(*at).is_ok()).ok_or(Errno::INVAL)?;
        // The right to seek is the right to tell.
        let is_allowed = open.base.contains(Rights::FD_SEEK) || (is_tell && open.base.contains(Rights::FD_TELL));
        if !is_allowed {
            return Err(Errno::NOTCAPABLE);
        }
        *open.position = position;
        Ok(position)
    }

    pub(crate) fn advise(&mut self, fd: u32, advice: Advice) -> Result<(), Errno> {
        let open = self.file(fd, Rights::FD_ADVISE)?;
        if advice.kind > 5 || i64::try_from(advice.offset).is_err() || i64::try_from(advice.length).is_err() {
            return Err(Errno::INVAL);
        }
        match open.file {
            File::Scratch(_) => Ok(()),
            File::Disk(file) => file.advise(advice.offset, advice.length, advice.kind),
        }
    }

    pub(crate) fn allocate(&mut self, fd: u32, offset: u64, length: u64) -> Result<(), Errno> {
        let open = self.file(fd, Rights::FD_ALLOCATE)?;
        if length == 0 {
            return Err(Errno::INVAL);
        }
        if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::FBIG);
        }
        match open.file {
            File::Scratch(node) => open.tree.allocate(*node, offset, length),
            File::Disk(file) => file.allocate(offset, length),
        }
    }

    pub(crate) fn set_size(&mut self, fd: u32, size: u64) -> Result<(), Errno> {
        let open = self.file(fd, Rights::FD_FILESTAT_SET_SIZE)?;
        if i64::try_from(size).is_err() {
            return Err(Errno::INVAL);
        }
        match open.file {
            File::Scratch(node) => open.tree.set_size(*node, size),
            File::Disk(file) => file.set_size(size),
        }
    }

    /// Has the machine keep what was written. What streams and private files hold is there at once.
    pub(crate) fn sync(&mut self, fd: u32, is_data_only: bool) -> Result<(), Errno> {
        let descriptor = self.get(fd)?;
        descriptor.base.require(if is_data_only { Rights::FD_DATASYNC } else { Rights::FD_SYNC })?;
        match &descriptor.object {
            Object::File { file: File::Disk(file), .. } => file.sync(is_data_only),
            Object::Directory { directory: Directory::Disk(directory), .. } => directory.sync(),
            _ => Ok(()),
        }
    }

    pub(crate) fn stat(&mut self, fd: u32) -> Result<Stat, Errno> {
        self.get(fd)?.base.require(Rights::FD_FILESTAT_GET)?;
        self.known(fd)
    }

    /// What kind of file `fd` is, which takes no right.
    pub(crate) fn kind(&mut self, fd: u32) -> Result<FileType, Errno> {
        if let Object::Directory { .. } = self.get(fd)?.object {
            return Ok(FileType::Directory);
        }
        self.known(fd).map(|stat| stat.kind)
    }

    fn known(&mut self, fd: u32) -> Result<Stat, Errno> {
        match &self.get(fd)?.object {
            Object::Stream(_) => Ok(Stat::STREAM),
            Object::File { file: File::Scratch(node), .. } => self.tree.stat(*node),
            Object::File { file: File::Disk(file), .. } => file.stat(),
            Object::Directory { directory: Directory::Disk(directory), .. } => directory.stat(".", true),
            Object::Directory { directory: Directory::Scratch(node), .. } => {
                let node = *node;
                self.tree.touch();
                self.tree.stat(node)
            }
        }
    }

    pub(crate) fn set_times(&mut self, fd: u32, times: Times) -> Result<(), Errno> {
        let descriptor = self.get(fd)?;
        descriptor.base.require(Rights::FD_FILESTAT_SET_TIMES)?;
        match &descriptor.object {
            Object::Stream(_) => Err(Errno::NOTSUP),
            Object::File { file: File::Disk(file), .. } => file.set_times(times),
            Object::Directory { directory: Directory::Disk(directory), .. } => directory.set_times(".", true, times),
            Object::File { file: File::Scratch(node), .. }
            | Object::Directory { directory: Directory::Scratch(node), .. } => {
                let node = *node;
                self.tree.touch();
                self.tree.set_times(node, times)
            }
        }
    }

    /// The entries of the directory `fd` from `cookie` on, itself and its parent first, until `take` wants no more.
    pub(crate) fn read_directory(
        &mut self,
        fd: u32,
        cookie: u64,
        take: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        const DOTS: [&[u8]; 2] = [b".", b".."];
        let Object::Directory { directory, .. } = &self.get(fd)?.object else { return Err(Errno::NOTDIR) };
        self.get(fd)?.base.require(Rights::FD_READDIR)?;
        let directory = directory.clone();
        // What is above is not the guest's to know: both dots are the directory itself.
        let inode = self.known(fd)?.inode;
        for (at, name) in DOTS.iter().enumerate().skip(usize::try_from(cookie).unwrap_or(DOTS.len())) {
            if !take(&Entry { next: at as u64 + 1, inode, kind: FileType::Directory, name }) {
                return Ok(());
            }
        }
        let dots = DOTS.len() as u64;
        let cookie = cookie.saturating_sub(dots);
        let mut take = |entry: &Entry<'_>| take(&Entry { next: entry.next.saturating_add(dots), ..*entry });
        match &directory {
            Directory::Scratch(node) => self.tree.entries(*node, cookie, &mut take),
            Directory::Disk(disk) => match &mut self.get_mut(fd)?.object {
                Object::Directory { progress, .. } => disk.entries(progress, cookie, &mut take),
                _ => Err(Errno::NOTDIR),
            },
        }
    }

    /// How many bytes can be read from the file `fd` without waiting.
    pub(crate) fn readable(&mut self, fd: u32) -> Result<u64, Errno> {
        let open = self.file(fd, Rights::FD_READ)?;
        Ok(open.size()?.saturating_sub(*open.position))
    }

    /// `Ok` if the file `fd` can be written, which never waits.
    pub(crate) fn writable(&mut self, fd: u32) -> Result<(), Errno> {
        self.file(fd, Rights::FD_WRITE).map(drop)
    }
}
