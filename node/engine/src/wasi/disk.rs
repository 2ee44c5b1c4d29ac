//! Directories and files of the machine, given to a guest by `skein run --dir`. On the mesh there are none.
//!
//! Every path is followed by cap-std: on Linux the kernel itself refuses to leave the directory (`openat2` with
//! `RESOLVE_BENEATH`), however the path tries, and whatever others rename meanwhile.

use std::{
    fs, io,
    os::unix::fs::{DirEntryExt as _, FileExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cap_fs_ext::{
    DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsMaybeDirExt as _, OpenOptionsSyncExt as _,
    SystemTimeSpec,
};
use cap_std::{
    ambient_authority,
    fs::{Dir, FileTypeExt as _, MetadataExt as _, OpenOptions, OpenOptionsExt as _, ReadDir},
};
use rustix::fs::{Advice, FallocateFlags, OFlags};

use super::{
    Errno,
    directory::{Entry, OpenHow, Opened, Progress},
    stat::{FileType, Stat, Time, Times},
};

/// A directory of the machine, with all that is below it.
#[derive(Debug, Clone)]
pub(crate) struct DiskDirectory {
    dir: Arc<Dir>,
    is_read_only: bool,
}

/// An open file of the machine.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: fs::File,
    is_read_only: bool,
    /// False for devices, pipes and sockets, which have no positions.
    is_regular: bool,
}

/// How far a directory has been read: what was read and not taken yet comes first.
#[derive(Debug)]
pub(crate) struct Reading {
    entries: ReadDir,
    next: u64,
    pending: Option<Found>,
}

#[derive(Debug)]
struct Found {
    inode: u64,
    kind: FileType,
    name: String,
}

impl DiskDirectory {
    /// Opens a directory of the machine, by the machine's own rules.
    pub(crate) fn open_ambient(path: &Path, is_read_only: bool) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir: Arc::new(dir), is_read_only })
    }

    /// `EROFS` if nothing here may change.
    fn require_writable(&self) -> Result<(), Errno> {
        if self.is_read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    pub(crate) fn open(&self, path: &str, how: &OpenHow) -> Result<Opened<Self, DiskFile>, Errno> {
        let mut how = *how;
        if self.is_read_only {
            if how.write || how.truncate {
                let there = if how.create { Ok(()) } else { self.stat(path, how.follow).map(drop) };
                return Err(there.err().unwrap_or(Errno::ROFS));
            }
            if std::mem::take(&mut how.create) && self.stat(path, how.follow) == Err(Errno::NOENT) {
                return Err(Errno::ROFS);
            }
        }
        match self.dir.open_with(path, &options(&how)) {
            // What is there may be opened for reading although creating it anew would need more.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) && how.create && !how.exclusive && !how.write => {
                let how = OpenHow { create: false, ..how };
                self.opened(self.dir.open_with(path, &options(&how))?)
            }
            opened => self.opened(opened?),
        }
    }

    fn opened(&self, file: cap_std::fs::File) -> Result<Opened<Self, DiskFile>, Errno> {
        let kind = file.metadata()?.file_type();
        let is_read_only = self.is_read_only;
        Ok(if kind.is_dir() {
            Opened::Directory(Self { dir: Arc::new(Dir::from_std_file(file.into_std())), is_read_only })
        } else {
            Opened::File(DiskFile { file: file.into_std(), is_read_only, is_regular: kind.is_file() })
        })
    }

    pub(crate) fn create_directory(&self, path: &str) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(self.dir.create_dir(path)?)
    }

    pub(crate) fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(self.dir.symlink(target, path)?)
    }

    pub(crate) fn read_link(&self, path: &str) -> Result<String, Errno> {
        self.dir.read_link(path)?.into_os_string().into_string().map_err(|_| Errno::ILSEQ)
    }

    pub(crate) fn link(&self, path: &str, follow: bool, new: (&Self, &str)) -> Result<(), Errno> {
        // A second name in a writable directory would be a way to write.
        self.require_writable()?;
        new.0.require_writable()?;
        if follow {
            // The last part may become a link again meanwhile; then the link gets the name, which leads nowhere else.
            return Ok(self.dir.hard_link(self.dir.canonicalize(path)?, &new.0.dir, new.1)?);
        }
        Ok(self.dir.hard_link(path, &new.0.dir, new.1)?)
    }

    pub(crate) fn unlink(&self, path: &str) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(self.dir.remove_file(path)?)
    }

    pub(crate) fn remove_directory(&self, path: &str) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(self.dir.remove_dir(path)?)
    }

    pub(crate) fn rename(&self, path: &str, new: (&Self, &str)) -> Result<(), Errno> {
        self.require_writable()?;
        new.0.require_writable()?;
        Ok(self.dir.rename(path, &new.0.dir, new.1)?)
    }

    pub(crate) fn stat(&self, path: &str, follow: bool) -> Result<Stat, Errno> {
        Ok(stat(&if follow { self.dir.metadata(path)? } else { self.dir.symlink_metadata(path)? }))
    }

    pub(crate) fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<(), Errno> {
        self.require_writable()?;
        let (accessed, modified) = (times.accessed.map(spec), times.modified.map(spec));
        // Never through an open file: opening a pipe may wait for ever.
        if follow && self.stat(path, false)?.kind == FileType::Link {
            return Ok(self.dir.set_symlink_times(self.dir.canonicalize(path)?, accessed, modified)?);
        }
        Ok(self.dir.set_symlink_times(path, accessed, modified)?)
    }

    pub(crate) fn sync(&self) -> Result<(), Errno> {
        Ok(self.dir.open_with(".", OpenOptions::new().read(true).maybe_dir(true))?.sync_all()?)
    }

    /// The entries from the one on that is number `cookie`, until `take` wants no more. Names that are not UTF-8 are
    /// left out, since no guest can name them.
    pub(crate) fn entries(
        &self,
        progress: &mut Progress,
        cookie: u64,
        take: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut reading = match progress.take() {
            Some(reading) if reading.next == cookie => reading,
            _ => Box::new(Reading::begin(&self.dir, cookie)?),
        };
        while let Some(found) = reading.found()? {
            let entry =
                Entry { next: reading.next + 1, inode: found.inode, kind: found.kind, name: found.name.as_bytes() };
            if !take(&entry) {
                reading.pending = Some(found);
                break;
            }
            reading.next += 1;
        }
        *progress = Some(reading);
        Ok(())
    }
}

impl Reading {
    fn begin(dir: &Dir, cookie: u64) -> Result<Self, Errno> {
        let mut reading = Self { entries: dir.entries()?, next: 0, pending: None };
        while reading.next < cookie && reading.found()?.is_some() {
            reading.next += 1;
        }
        reading.next = cookie;
        Ok(reading)
    }

    fn found(&mut self) -> Result<Option<Found>, Errno> {
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        for entry in self.entries.by_ref() {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                let kind = entry.file_type().map_or(FileType::Unknown, kind);
                return Ok(Some(Found { inode: entry.ino(), kind, name }));
            }
        }
        Ok(None)
    }
}

impl DiskFile {
    /// `ESPIPE` for what has no positions.
    pub(crate) fn require_positions(&self) -> Result<(), Errno> {
        if self.is_regular { Ok(()) } else { Err(Errno::SPIPE) }
    }

    fn require_writable(&self) -> Result<(), Errno> {
        if self.is_read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    pub(crate) fn read(&self, offset: u64, target: &mut [u8]) -> Result<usize, Errno> {
        if self.is_regular {
            return Ok(self.file.read_at(target, offset)?);
        }
        Ok(io::Read::read(&mut &self.file, target)?)
    }

    /// Writes at `offset`, or where the system appends.
    pub(crate) fn write(&self, offset: u64, source: &[u8]) -> Result<usize, Errno> {
        if self.is_regular {
            return Ok(self.file.write_at(source, offset)?);
        }
        Ok(io::Write::write(&mut &self.file, source)?)
    }

    pub(crate) fn size(&self) -> Result<u64, Errno> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(self.file.set_len(size)?)
    }

    pub(crate) fn allocate(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.require_writable()?;
        Ok(rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, length).map_err(io::Error::from)?)
    }

    pub(crate) fn advise(&self, offset: u64, length: u64, advice: u32) -> Result<(), Errno> {
        let advice = match advice {
            0 => Advice::Normal,
            1 => Advice::Sequential,
            2 => Advice::Random,
            3 => Advice::WillNeed,
            4 => Advice::DontNeed,
            _ => Advice::NoReuse,
        };
        let length = std::num::NonZeroU64::new(length);
        Ok(rustix::fs::fadvise(&self.file, offset, length, advice).map_err(io::Error::from)?)
    }

    /// Has the system append, or not.
    pub(crate) fn set_append(&self, is_on: bool) -> Result<(), Errno> {
        let flags = if is_on { OFlags::APPEND | OFlags::NONBLOCK } else { OFlags::NONBLOCK };
        Ok(rustix::fs::fcntl_setfl(&self.file, flags).map_err(io::Error::from)?)
    }

    pub(crate) fn sync(&self, is_data_only: bool) -> Result<(), Errno> {
        let synced = if is_data_only { self.file.sync_data() } else { self.file.sync_all() };
        Ok(synced?)
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        let metadata = self.file.metadata()?;
        Ok(stat(&cap_std::fs::Metadata::from_just_metadata(metadata)))
    }

    pub(crate) fn set_times(&self, times: Times) -> Result<(), Errno> {
        self.require_writable()?;
        let at = |time| if let Time::At(ns) = time { UNIX_EPOCH + Duration::from_nanos(ns) } else { SystemTime::now() };
        let mut wanted = fs::FileTimes::new();
        if let Some(time) = times.accessed {
            wanted = wanted.set_accessed(at(time));
        }
        if let Some(time) = times.modified {
            wanted = wanted.set_modified(at(time));
        }
        Ok(self.file.set_times(wanted)?)
    }
}

fn options(how: &OpenHow) -> OpenOptions {
    let mut options = OpenOptions::new();
    // The system creates and truncates only what is open for writing; the descriptor's rights keep the guest from it.
    let write = how.write || how.truncate || how.create;
    options.read(how.read || !write).write(write).truncate(how.truncate);
    options.create(how.create && !how.exclusive).create_new(how.create && how.exclusive);
    options.follow(if how.follow { FollowSymlinks::Yes } else { FollowSymlinks::No }).maybe_dir(true);
    // Opening a pipe does not wait for its other end, nor does reading it.
    options.nonblock(true);
    if how.directory {
        options.custom_flags(libc::O_DIRECTORY);
    }
    options
}

fn stat(metadata: &cap_std::fs::Metadata) -> Stat {
    // Before 1970 is at 1970: WASI's times have no sign.
    let ns = |seconds: i64, ns: i64| u64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(ns)).unwrap_or(0);
    Stat {
        device: metadata.dev(),
        inode: metadata.ino(),
        kind: kind(metadata.file_type()),
        links: metadata.nlink(),
        size: metadata.len(),
        accessed_ns: ns(metadata.atime(), metadata.atime_nsec()),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn kind(kind: cap_std::fs::FileType) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_file() {
        FileType::Regular
    } else if kind.is_symlink() {
        FileType::Link
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else if kind.is_socket() {
        FileType::Socket
    } else {
        FileType::Unknown
    }
}

fn spec(time: Time) -> SystemTimeSpec {
    match time {
        Time::Now => SystemTimeSpec::SymbolicNow,
        Time::At(ns) => {
            let at = UNIX_EPOCH + Duration::from_nanos(ns);
            SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(at))
        }
    }
}
