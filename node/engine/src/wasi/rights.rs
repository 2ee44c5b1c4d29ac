//! What a descriptor may be used for: the rights of WASI preview 1. They only ever get fewer.

use super::Errno;

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights(u32);

impl Rights {
    pub(crate) const FD_DATASYNC: Self = Self(1);
    pub(crate) const FD_READ: Self = Self(1 << 1);
    pub(crate) const FD_SEEK: Self = Self(1 << 2);
    pub(crate) const FD_FDSTAT_SET_FLAGS: Self = Self(1 << 3);
    pub(crate) const FD_SYNC: Self = Self(1 << 4);
    pub(crate) const FD_TELL: Self = Self(1 << 5);
    pub(crate) const FD_WRITE: Self = Self(1 << 6);
    pub(crate) const FD_ADVISE: Self = Self(1 << 7);
    pub(crate) const FD_ALLOCATE: Self = Self(1 << 8);
    pub(crate) const PATH_CREATE_DIRECTORY: Self = Self(1 << 9);
    pub(crate) const PATH_CREATE_FILE: Self = Self(1 << 10);
    pub(crate) const PATH_LINK_SOURCE: Self = Self(1 << 11);
    pub(crate) const PATH_LINK_TARGET: Self = Self(1 << 12);
    pub(crate) const PATH_OPEN: Self = Self(1 << 13);
    pub(crate) const FD_READDIR: Self = Self(1 << 14);
    pub(crate) const PATH_READLINK: Self = Self(1 << 15);
    pub(crate) const PATH_RENAME_SOURCE: Self = Self(1 << 16);
    pub(crate) const PATH_RENAME_TARGET: Self = Self(1 << 17);
    pub(crate) const PATH_FILESTAT_GET: Self = Self(1 << 18);
    pub(crate) const PATH_FILESTAT_SET_SIZE: Self = Self(1 << 19);
    pub(crate) const PATH_FILESTAT_SET_TIMES: Self = Self(1 << 20);
    pub(crate) const FD_FILESTAT_GET: Self = Self(1 << 21);
    pub(crate) const FD_FILESTAT_SET_SIZE: Self = Self(1 << 22);
    pub(crate) const FD_FILESTAT_SET_TIMES: Self = Self(1 << 23);
    pub(crate) const PATH_SYMLINK: Self = Self(1 << 24);
    pub(crate) const PATH_REMOVE_DIRECTORY: Self = Self(1 << 25);
    pub(crate) const PATH_UNLINK_FILE: Self = Self(1 << 26);
    pub(crate) const POLL_FD_READWRITE: Self = Self(1 << 27);

    pub(crate) const NONE: Self = Self(0);
    /// All that the specification has, sockets' too.
    const KNOWN: Self = Self((1 << 30) - 1);
    /// What may be done with standard input.
    pub(crate) const INPUT: Self = Self::FD_READ.and(Self::STREAM);
    /// What may be done with standard output and standard error.
    pub(crate) const OUTPUT: Self = Self::FD_WRITE.and(Self::STREAM);
    const STREAM: Self = Self::FD_FDSTAT_SET_FLAGS
        .and(Self::FD_FILESTAT_GET)
        .and(Self::POLL_FD_READWRITE)
        .and(Self::FD_SYNC)
        .and(Self::FD_DATASYNC);
    /// What may be done with a file.
    pub(crate) const FILE: Self = Self::FD_READ
        .and(Self::FD_WRITE)
        .and(Self::FD_SEEK)
        .and(Self::FD_TELL)
        .and(Self::FD_FDSTAT_SET_FLAGS)
        .and(Self::FD_SYNC)
        .and(Self::FD_DATASYNC)
        .and(Self::FD_ADVISE)
        .and(Self::FD_ALLOCATE)
        .and(Self::FD_FILESTAT_GET)
        .and(Self::FD_FILESTAT_SET_SIZE)
        .and(Self::FD_FILESTAT_SET_TIMES)
        .and(Self::POLL_FD_READWRITE);
    /// What may be done with a directory.
    pub(crate) const DIRECTORY: Self = Self::FD_FDSTAT_SET_FLAGS
        .and(Self::FD_SYNC)
        .and(Self::FD_DATASYNC)
        .and(Self::FD_READDIR)
        .and(Self::FD_FILESTAT_GET)
        .and(Self::FD_FILESTAT_SET_TIMES)
        .and(Self::PATHS);
    const PATHS: Self = Self::PATH_CREATE_DIRECTORY
        .and(Self::PATH_CREATE_FILE)
        .and(Self::PATH_LINK_SOURCE)
        .and(Self::PATH_LINK_TARGET)
        .and(Self::PATH_OPEN)
        .and(Self::PATH_READLINK)
        .and(Self::PATH_RENAME_SOURCE)
        .and(Self::PATH_RENAME_TARGET)
        .and(Self::PATH_FILESTAT_GET)
        .and(Self::PATH_FILESTAT_SET_SIZE)
        .and(Self::PATH_FILESTAT_SET_TIMES)
        .and(Self::PATH_SYMLINK)
        .and(Self::PATH_REMOVE_DIRECTORY)
        .and(Self::PATH_UNLINK_FILE);
    /// What may be done with what is opened below a preopened directory.
    pub(crate) const INHERITED: Self = Self::DIRECTORY.and(Self::FILE);

    /// The rights a guest names; `EINVAL` if it names some that there are not.
    pub(crate) fn from_bits(bits: u64) -> Result<Self, Errno> {
        let rights = u32::try_from(bits).map(Self).map_err(|_| Errno::INVAL)?;
        if Self::KNOWN.contains(rights) { Ok(rights) } else { Err(Errno::INVAL) }
    }

    /// As the guest reads them.
    pub(crate) fn bits(self) -> u64 {
        self.0.into()
    }

    /// These and the others.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of these that are among the others.
    pub(crate) const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if all of `other` are among these.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if one of `other` is among these.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// `ENOTCAPABLE` unless all of `wanted` are among these.
    pub(crate) fn require(self, wanted: Self) -> Result<(), Errno> {
        if self.contains(wanted) { Ok(()) } else { Err(Errno::NOTCAPABLE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_there_are_not_cannot_be_named() {
        assert_eq!(Rights::from_bits(1 << 30), Err(Errno::INVAL));
        assert_eq!(Rights::from_bits(1 << 63), Err(Errno::INVAL));
        assert_eq!(Rights::from_bits((1 << 30) - 1).map(Rights::bits), Ok((1 << 30) - 1));
    }

    #[test]
    fn what_a_file_cannot_do_is_no_right_of_files_and_the_same_for_directories() {
        assert!(!Rights::FILE.meets(Rights::PATHS) && !Rights::FILE.contains(Rights::FD_READDIR));
        assert!(!Rights::DIRECTORY.meets(Rights::FD_READ.and(Rights::FD_WRITE).and(Rights::FD_SEEK)));
        assert_eq!(Rights::FILE.require(Rights::FD_READDIR), Err(Errno::NOTCAPABLE));
    }
}
