//! The descriptors of one call: streams, directories and files, each with its rights.
//!
//! This is where capabilities are kept: whatever a guest does to a file, it does by a descriptor that it was given or
//! that it opened below one, and each operation asks the descriptor's rights first. Guest memory is not known here.

mod content;
mod paths;

use std::sync::Arc;

pub(crate) use content::Advice;
pub(crate) use paths::OpenRequest;

use super::{
    Errno,
    directory::{Directory, File, Progress},
    rights::Rights,
    scratch::Tree,
};
use crate::Call;

/// All descriptors of one call.
#[derive(Debug)]
pub(crate) struct Files {
    /// Descriptors 0 to 2, kept apart so that a call that opens nothing allocates nothing.
    low: [Option<Descriptor>; 3],
    /// Descriptors from 3 on.
    high: Vec<Option<Descriptor>>,
    open: u32,
    open_max: u32,
    tree: Tree,
}

/// One open descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor {
    object: Object,
    /// What may be done with it.
    pub(crate) base: Rights,
    /// What may be done with what is opened through it.
    pub(crate) inheriting: Rights,
    /// How it writes.
    pub(crate) flags: Flags,
    preopened: Preopened,
}

#[derive(Debug)]
enum Object {
    Stream(Stream),
    Directory { directory: Directory, progress: Progress },
    File { file: File, position: u64 },
}

/// One of the three streams a guest starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Input,
    Output,
    Log,
}

/// Whether a guest was given a descriptor as a directory to start from, and under which name.
#[derive(Debug)]
enum Preopened {
    No,
    Scratch,
    Disk(Arc<str>),
}

/// How a descriptor writes: the `fdflags` of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u16);

impl Flags {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const APPEND: u16 = 1;
    pub(crate) const DSYNC: u16 = 1 << 1;
    pub(crate) const RSYNC: u16 = 1 << 3;
    pub(crate) const SYNC: u16 = 1 << 4;
    const KNOWN: u16 = (1 << 5) - 1;

    /// The flags a guest names; `EINVAL` if it names some that there are not.
    pub(crate) fn from_bits(bits: u32) -> Result<Self, Errno> {
        u16::try_from(bits).ok().filter(|bits| bits & !Self::KNOWN == 0).map(Self).ok_or(Errno::INVAL)
    }

    /// True if one of `flags` is set.
    pub(crate) fn has(self, flags: u16) -> bool {
        self.0 & flags != 0
    }
}

impl Default for Files {
    fn default() -> Self {
        Self { low: Descriptor::streams(), high: Vec::new(), open: 3, open_max: 3, tree: Tree::default() }
    }
}

impl Files {
    /// Closes everything, and opens what `call` begins with: the streams, its private directory, what it was given.
    pub(crate) fn begin(&mut self, call: &Call<'_>) {
        self.low = Descriptor::streams();
        self.high.clear();
        self.open = 3;
        self.open_max = call.limits.handles;
        self.tree.reset(if call.scratch { call.limits.scratch_bytes } else { 0 });
        if call.scratch {
            self.preopen(Directory::Scratch(Tree::ROOT), Preopened::Scratch);
        }
        for preopen in call.preopens {
            self.preopen(Directory::Disk(preopen.directory()), Preopened::Disk(preopen.guest()));
        }
    }

    /// Closes everything; private files are gone.
    pub(crate) fn end(&mut self) {
        /// More room than this is not kept for the next call.
        const KEPT_MAX: usize = 64;
        self.high.clear();
        self.high.shrink_to(KEPT_MAX);
        self.tree.reset(0);
    }

    fn preopen(&mut self, directory: Directory, preopened: Preopened) {
        self.high.push(Some(Descriptor {
            object: Object::Directory { directory, progress: None },
            base: Rights::DIRECTORY,
            inheriting: Rights::INHERITED,
            flags: Flags::NONE,
            preopened,
        }));
        self.open += 1;
    }

    /// The descriptor `fd`; `EBADF` if it is not open.
    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let fd = fd as usize;
        let slot = self.low.get(fd).or_else(|| self.high.get(fd - self.low.len()));
        slot.and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.slot(fd).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    fn slot(&mut self, fd: u32) -> Option<&mut Option<Descriptor>> {
        let (fd, low) = (fd as usize, self.low.len());
        if fd < low { self.low.get_mut(fd) } else { self.high.get_mut(fd - low) }
    }

    /// `EMFILE` if no more descriptors may be open.
    fn require_free(&self) -> Result<(), Errno> {
        if self.open < self.open_max { Ok(()) } else { Err(Errno::MFILE) }
    }

    /// Gives a descriptor the lowest number that is free, as POSIX does.
    fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.require_free()?;
        if let Some(node) = descriptor.node() {
            self.tree.retain(node);
        }
        let free = self.low.iter_mut().chain(&mut self.high).enumerate().find(|(_, slot)| slot.is_none());
        let fd = match free {
            Some((fd, slot)) => {
                *slot = Some(descriptor);
                fd
            }
            None => {
                self.high.push(Some(descriptor));
                self.low.len() + self.high.len() - 1
            }
        };
        self.open += 1;
        u32::try_from(fd).map_err(|_| Errno::MFILE)
    }

    /// Closes `fd`.
    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        let closed = self.slot(fd).and_then(Option::take).ok_or(Errno::BADF)?;
        self.open -= 1;
        if let Some(node) = closed.node() {
            self.tree.release(node);
        }
        Ok(())
    }

    /// Closes `to` and gives its number to `from`. Both are open before.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(());
        }
        self.close(to)?;
        let moved = self.slot(from).and_then(Option::take);
        if let Some(slot) = self.slot(to) {
            *slot = moved;
        }
        Ok(())
    }

    /// Takes rights away from `fd`; `ENOTCAPABLE` if that would give it some.
    pub(crate) fn narrow(&mut self, fd: u32, base: Rights, inheriting: Rights) -> Result<(), Errno> {
        let descriptor = self.get_mut(fd)?;
        descriptor.base.require(base)?;
        descriptor.inheriting.require(inheriting)?;
        (descriptor.base, descriptor.inheriting) = (base, inheriting);
        Ok(())
    }

    /// Changes how `fd` writes. Streams take flags and stay as they are: none of them ever blocks or seeks.
    pub(crate) fn set_flags(&mut self, fd: u32, flags: Flags) -> Result<(), Errno> {
        let descriptor = self.get_mut(fd)?;
        descriptor.base.require(Rights::FD_FDSTAT_SET_FLAGS)?;
        match &descriptor.object {
            Object::Stream(_) => return Ok(()),
            Object::File { file: File::Disk(file), .. } => file.set_append(flags.has(Flags::APPEND))?,
            Object::File { .. } | Object::Directory { .. } => {}
        }
        descriptor.flags = flags;
        Ok(())
    }
}

impl Descriptor {
    fn streams() -> [Option<Self>; 3] {
        let stream = |stream, base| {
            Some(Self {
                object: Object::Stream(stream),
                base,
                inheriting: Rights::NONE,
                flags: Flags::NONE,
                preopened: Preopened::No,
            })
        };
        [
            stream(Stream::Input, Rights::INPUT),
            stream(Stream::Output, Rights::OUTPUT),
            stream(Stream::Log, Rights::OUTPUT),
        ]
    }

    /// Which stream it is, if it is one.
    pub(crate) fn stream(&self) -> Option<Stream> {
        if let Object::Stream(stream) = self.object { Some(stream) } else { None }
    }

    /// The name under which the guest was given it, if it was given it as a directory to start from.
    pub(crate) fn preopened(&self) -> Option<&str> {
        match &self.preopened {
            Preopened::No => None,
            Preopened::Scratch => Some("/"),
            Preopened::Disk(name) => Some(name),
        }
    }

    /// What of the private directory it keeps.
    fn node(&self) -> Option<super::scratch::NodeId> {
        match &self.object {
            Object::Directory { directory: Directory::Scratch(node), .. }
            | Object::File { file: File::Scratch(node), .. } => Some(*node),
            _ => None,
        }
    }
}
