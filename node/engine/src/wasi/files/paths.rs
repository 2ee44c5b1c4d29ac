//! What is done by path, below a directory that is open.

use super::{Descriptor, Files, Flags, Object, Preopened};
use crate::wasi::{
    Errno,
    directory::{Directory, File, OpenHow, Opened},
    rights::Rights,
    stat::{Stat, Times},
};

/// What `path_open` is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenRequest {
    pub(crate) follow: bool,
    /// The `oflags` of WASI.
    pub(crate) how: u32,
    pub(crate) base: Rights,
    pub(crate) inheriting: Rights,
    pub(crate) flags: Flags,
}

/// Bits of `oflags`.
const CREATE: u32 = 1;
const DIRECTORY: u32 = 1 << 1;
const EXCLUSIVE: u32 = 1 << 2;
const TRUNCATE: u32 = 1 << 3;

impl OpenRequest {
    /// The rights that the directory must have for it.
    fn needed(&self) -> Rights {
        let mut needed = Rights::PATH_OPEN;
        if self.how & CREATE != 0 {
            needed = needed.and(Rights::PATH_CREATE_FILE);
        }
        if self.how & TRUNCATE != 0 {
            needed = needed.and(Rights::PATH_FILESTAT_SET_SIZE);
        }
        if self.flags.has(Flags::SYNC | Flags::RSYNC) {
            needed = needed.and(Rights::FD_SYNC);
        }
        needed
    }

    fn decode(&self) -> Result<OpenHow, Errno> {
        let has = |flag| self.how & flag != 0;
        if self.how & !(CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE) != 0
            || (has(DIRECTORY) && has(CREATE | EXCLUSIVE | TRUNCATE))
        {
            return Err(Errno::INVAL);
        }
        Ok(OpenHow {
            follow: self.follow,
            create: has(CREATE),
            directory: has(DIRECTORY),
            exclusive: has(EXCLUSIVE),
            truncate: has(TRUNCATE),
            read: self.base.meets(Rights::FD_READ.and(Rights::FD_READDIR)),
            // These rights do not apply to directories: asked for where a file may be meant, one is an error.
            write: !has(DIRECTORY) && self.base.meets(Rights::FD_WRITE.and(Rights::FD_ALLOCATE)),
        })
    }
}

impl Files {
    /// The directory `fd`, if it has `rights`. Its private files are there from now on.
    fn directory(&mut self, fd: u32, rights: Rights) -> Result<Directory, Errno> {
        let descriptor = self.get(fd)?;
        let Object::Directory { directory, .. } = &descriptor.object else { return Err(Errno::NOTDIR) };
        descriptor.base.require(rights)?;
        let directory = directory.clone();
        self.touch(&directory);
        Ok(directory)
    }

    pub(super) fn touch(&mut self, directory: &Directory) {
        if let Directory::Scratch(_) = directory {
            self.tree.touch();
        }
    }

    /// Opens a path below `fd`, with rights that `fd` lets others inherit and none more.
    pub(crate) fn path_open(&mut self, fd: u32, path: &str, request: &OpenRequest) -> Result<u32, Errno> {
        let how = request.decode()?;
        let directory = self.directory(fd, request.needed())?;
        let parent = self.get(fd)?;
        parent.inheriting.require(request.base.and(request.inheriting))?;
        if request.flags.has(Flags::DSYNC) && !parent.base.meets(Rights::FD_DATASYNC.and(Rights::FD_SYNC)) {
            return Err(Errno::NOTCAPABLE);
        }
        // Before anything is created or cut.
        self.require_free()?;
        let opened = match &directory {
            Directory::Scratch(base) => match self.tree.open(*base, path, &how)? {
                Opened::Directory(node) => Opened::Directory(Directory::Scratch(node)),
                Opened::File(node) => Opened::File(File::Scratch(node)),
            },
            Directory::Disk(base) => match base.open(path, &how)? {
                Opened::Directory(directory) => Opened::Directory(Directory::Disk(directory)),
                Opened::File(file) => {
                    if request.flags.has(Flags::APPEND) {
                        file.set_append(true)?;
                    }
                    Opened::File(File::Disk(file))
                }
            },
        };
        let (object, base, inheriting) = match opened {
            Opened::Directory(directory) => (
                Object::Directory { directory, progress: None },
                request.base.within(Rights::DIRECTORY),
                request.inheriting,
            ),
            Opened::File(file) => (Object::File { file, position: 0 }, request.base.within(Rights::FILE), Rights::NONE),
        };
        self.insert(Descriptor { object, base, inheriting, flags: request.flags, preopened: Preopened::No })
    }

    pub(crate) fn path_create_directory(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        match self.directory(fd, Rights::PATH_CREATE_DIRECTORY)? {
            Directory::Scratch(base) => self.tree.create_directory(base, path),
            Directory::Disk(base) => base.create_directory(path),
        }
    }

    pub(crate) fn path_symlink(&mut self, target: &str, fd: u32, path: &str) -> Result<(), Errno> {
        match self.directory(fd, Rights::PATH_SYMLINK)? {
            Directory::Scratch(base) => self.tree.symlink(target, base, path),
            Directory::Disk(base) => base.symlink(target, path),
        }
    }

    pub(crate) fn path_read_link(&mut self, fd: u32, path: &str) -> Result<String, Errno> {
        match self.directory(fd, Rights::PATH_READLINK)? {
            Directory::Scratch(base) => self.tree.read_link(base, path),
            Directory::Disk(base) => base.read_link(path),
        }
    }

    /// Gives what is at `old` a second name.
    pub(crate) fn path_link(&mut self, old: (u32, &str), follow: bool, new: (u32, &str)) -> Result<(), Errno> {
        let source = self.directory(old.0, Rights::PATH_LINK_SOURCE)?;
        match (source, self.directory(new.0, Rights::PATH_LINK_TARGET)?) {
            (Directory::Scratch(from), Directory::Scratch(to)) => self.tree.link((from, old.1), follow, (to, new.1)),
            (Directory::Disk(from), Directory::Disk(to)) => from.link(old.1, follow, (&to, new.1)),
            _ => Err(Errno::XDEV),
        }
    }

    pub(crate) fn path_rename(&mut self, old: (u32, &str), new: (u32, &str)) -> Result<(), Errno> {
        let source = self.directory(old.0, Rights::PATH_RENAME_SOURCE)?;
        match (source, self.directory(new.0, Rights::PATH_RENAME_TARGET)?) {
            (Directory::Scratch(from), Directory::Scratch(to)) => self.tree.rename((from, old.1), (to, new.1)),
            (Directory::Disk(from), Directory::Disk(to)) => from.rename(old.1, (&to, new.1)),
            _ => Err(Errno::XDEV),
        }
    }

    pub(crate) fn path_unlink(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        match self.directory(fd, Rights::PATH_UNLINK_FILE)? {
            Directory::Scratch(base) => self.tree.unlink(base, path),
            Directory::Disk(base) => base.unlink(path),
        }
    }

    pub(crate) fn path_remove_directory(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        match self.directory(fd, Rights::PATH_REMOVE_DIRECTORY)? {
            Directory::Scratch(base) => self.tree.remove_directory(base, path),
            Directory::Disk(base) => base.remove_directory(path),
        }
    }

    pub(crate) fn path_stat(&mut self, fd: u32, path: &str, follow: bool) -> Result<Stat, Errno> {
        match self.directory(fd, Rights::PATH_FILESTAT_GET)? {
            Directory::Scratch(base) => self.tree.stat_path(base, path, follow),
            Directory::Disk(base) => base.stat(path, follow),
        }
    }

    pub(crate) fn path_set_times(&mut self, fd: u32, path: &str, follow: bool, times: Times) -> Result<(), Errno> {
        match self.directory(fd, Rights::PATH_FILESTAT_SET_TIMES)? {
            Directory::Scratch(base) => self.tree.set_times_path(base, path, follow, times),
            Directory::Disk(base) => base.set_times(path, follow, times),
        }
    }
}
