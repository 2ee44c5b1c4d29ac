//! How a host function ends when it does not succeed.

/// An error number of WASI preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const OVERFLOW: Self = Self(61);
    pub(crate) const SPIPE: Self = Self(70);
    pub(crate) const NOTCAPABLE: Self = Self(76);
}

/// Ends the guest, unwinding its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Halt {
    /// It asked to end.
    #[error("exit code {0}")]
    Exit(i32),
    /// It wrote too much to stdout.
    #[error("too much output")]
    Output,
    /// It is a plug-in that cannot go on; its `Plugin` knows why.
    #[error("the plug-in cannot go on")]
    Plugin,
    /// It was stopped while in the host.
    #[error("stopped")]
    Stopped,
}

/// Either of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The guest goes on, and is told.
    Errno(Errno),
    /// The guest ends.
    Halt(Halt),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Halt> for Fault {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}
