//! What a guest may have open besides streams: directories and files, of the call's own memory or of the machine.

use super::{
    disk::{DiskDirectory, DiskFile, Reading},
    scratch::NodeId,
    stat::FileType,
};

/// A directory. Nothing above it can be reached through it.
#[derive(Debug, Clone)]
pub(crate) enum Directory {
    /// Of the call's private directory.
    Scratch(NodeId),
    /// Of the machine, below what was preopened.
    Disk(DiskDirectory),
}

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    /// Of the call's private directory.
    Scratch(NodeId),
    /// Of the machine.
    Disk(DiskFile),
}

/// What opening a path gave.
#[derive(Debug)]
pub(crate) enum Opened<D, F> {
    /// The path leads to a directory.
    Directory(D),
    /// The path leads to anything else.
    File(F),
}

/// How to open a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenHow {
    /// Go where a link at its end leads.
    pub(crate) follow: bool,
    pub(crate) create: bool,
    /// Fail if it is no directory.
    pub(crate) directory: bool,
    /// With `create`: fail if it is there.
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'e> {
    /// Where reading goes on after it.
    pub(crate) next: u64,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    pub(crate) name: &'e [u8],
}

/// How far a directory of the machine has been read.
pub(crate) type Progress = Option<Box<Reading>>;
