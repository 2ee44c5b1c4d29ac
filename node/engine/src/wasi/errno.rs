//! How a host function ends when it does not succeed.

use std::io;

/// An error number of WASI preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const BUSY: Self = Self(10);
    pub(crate) const EXIST: Self = Self(20);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const FBIG: Self = Self(22);
    pub(crate) const ILSEQ: Self = Self(25);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const IO: Self = Self(29);
    pub(crate) const ISDIR: Self = Self(31);
    pub(crate) const LOOP: Self = Self(32);
    pub(crate) const MFILE: Self = Self(33);
    pub(crate) const MLINK: Self = Self(34);
    pub(crate) const NAMETOOLONG: Self = Self(37);
    pub(crate) const NOENT: Self = Self(44);
    pub(crate) const NOMEM: Self = Self(48);
    pub(crate) const NOSPC: Self = Self(51);
    pub(crate) const NOTDIR: Self = Self(54);
    pub(crate) const NOTEMPTY: Self = Self(55);
    pub(crate) const NOTSOCK: Self = Self(57);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const OVERFLOW: Self = Self(61);
    pub(crate) const PERM: Self = Self(63);
    pub(crate) const ROFS: Self = Self(69);
    pub(crate) const SPIPE: Self = Self(70);
    pub(crate) const XDEV: Self = Self(75);
    pub(crate) const NOTCAPABLE: Self = Self(76);
}

/// What the machine's files answer, in the guest's numbers.
impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        let Some(code) = error.raw_os_error() else {
            // What cap-std refuses by itself: a path that leads out of its directory.
            return if error.kind() == io::ErrorKind::PermissionDenied { Self::PERM } else { Self::IO };
        };
        OS.iter().find(|(known, _)| *known == code).map_or(Self::IO, |(_, errno)| Self(*errno))
    }
}

/// The system's error numbers that files give, and WASI's for the same.
const OS: [(i32, u16); 38] = [
    (libc::E2BIG, 1),
    (libc::EACCES, 2),
    (libc::EAGAIN, 6),
    (libc::EBADF, 8),
    (libc::EBUSY, 10),
    (libc::EDQUOT, 19),
    (libc::EEXIST, 20),
    (libc::EFAULT, 21),
    (libc::EFBIG, 22),
    (libc::EILSEQ, 25),
    (libc::EINTR, 27),
    (libc::EINVAL, 28),
    (libc::EIO, 29),
    (libc::EISDIR, 31),
    (libc::ELOOP, 32),
    (libc::EMFILE, 33),
    (libc::EMLINK, 34),
    (libc::ENAMETOOLONG, 37),
    (libc::ENFILE, 41),
    (libc::ENODEV, 43),
    (libc::ENOENT, 44),
    (libc::ENOMEM, 48),
    (libc::ENOSPC, 51),
    (libc::ENOSYS, 52),
    (libc::ENOTDIR, 54),
    (libc::ENOTEMPTY, 55),
    (libc::EOPNOTSUPP, 58),
    (libc::ENOTTY, 59),
    (libc::ENXIO, 60),
    (libc::EOVERFLOW, 61),
    (libc::EPERM, 63),
    (libc::EPIPE, 64),
    (libc::ERANGE, 68),
    (libc::EROFS, 69),
    (libc::ESPIPE, 70),
    (libc::ESTALE, 72),
    (libc::ETXTBSY, 74),
    (libc::EXDEV, 75),
];

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
