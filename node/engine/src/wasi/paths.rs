//! The functions of WASI that take a path.

use super::{
    Errno, Fault,
    files::{Flags, OpenRequest},
    rights::Rights,
    stat::Times,
};
use crate::host::Host;

/// Longest path, as Linux has it, and most parts of one.
pub(super) const PATH_BYTES_MAX: usize = 4096;
const PARTS_MAX: usize = 256;
/// Longest name in a directory, as most file systems have it.
const NAME_BYTES_MAX: usize = 255;

/// Text in guest memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) at: u32,
    pub(super) length: u32,
}

/// A path in guest memory, and the directory it starts from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    pub(super) fd: u32,
    pub(super) path: Text,
}

/// What `path_open` is asked for, as the guest passes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub(super) lookup: u32,
    pub(super) how: u32,
    pub(super) base: u64,
    pub(super) inheriting: u64,
    pub(super) flags: u32,
}

/// Times as the guest passes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawTimes {
    pub(super) accessed_ns: u64,
    pub(super) modified_ns: u64,
    pub(super) flags: u32,
}

impl Host {
    pub(super) fn path_open(&mut self, location: Location, opening: Opening, result: u32) -> Result<(), Fault> {
        let path = self.path(location)?;
        let request = OpenRequest {
            follow: follows(opening.lookup)?,
            how: opening.how,
            base: Rights::from_bits(opening.base)?,
            inheriting: Rights::from_bits(opening.inheriting)?,
            flags: Flags::from_bits(opening.flags)?,
        };
        // A descriptor that the guest could not be told of would be lost.
        if !self.slot.contains(result, 4) {
            return Err(Errno::FAULT.into());
        }
        let fd = self.files.path_open(location.fd, &path, &request)?;
        self.write_u32(result, fd)
    }

    pub(super) fn path_create_directory(&mut self, location: Location) -> Result<(), Fault> {
        let path = self.path(location)?;
        Ok(self.files.path_create_directory(location.fd, &path)?)
    }

    pub(super) fn path_filestat_get(&mut self, location: Location, lookup: u32, result: u32) -> Result<(), Fault> {
        let path = self.path(location)?;
        let stat = self.files.path_stat(location.fd, &path, follows(lookup)?)?;
        self.write(result, &stat.encode())
    }

    pub(super) fn path_filestat_set_times(
        &mut self,
        location: Location,
        lookup: u32,
        times: RawTimes,
    ) -> Result<(), Fault> {
        let path = self.path(location)?;
        let times = Times::decode(times.accessed_ns, times.modified_ns, times.flags)?;
        Ok(self.files.path_set_times(location.fd, &path, follows(lookup)?, times)?)
    }

    pub(super) fn path_link(&mut self, old: Location, lookup: u32, new: Location) -> Result<(), Fault> {
        let (source, target) = (self.path(old)?, self.path(new)?);
        Ok(self.files.path_link((old.fd, &source), follows(lookup)?, (new.fd, &target))?)
    }

    pub(super) fn path_rename(&mut self, old: Location, new: Location) -> Result<(), Fault> {
        let (source, target) = (self.path(old)?, self.path(new)?);
        Ok(self.files.path_rename((old.fd, &source), (new.fd, &target))?)
    }

    pub(super) fn path_symlink(&mut self, target: Text, location: Location) -> Result<(), Fault> {
        // A link may say what it likes, but be absolute; where it leads is judged when it is followed.
        let target = self.text(target)?;
        let path = self.path(location)?;
        Ok(self.files.path_symlink(&target, location.fd, &path)?)
    }

    /// Writes as much of a link's target as there is room for.
    pub(super) fn path_readlink(&mut self, location: Location, target: Text, result: u32) -> Result<(), Fault> {
        let path = self.path(location)?;
        let link = self.files.path_read_link(location.fd, &path)?;
        let piece = link.len().min(target.length as usize);
        self.write(target.at, &link.as_bytes()[..piece])?;
        self.write_u32(result, piece as u32)
    }

    pub(super) fn path_remove_directory(&mut self, location: Location) -> Result<(), Fault> {
        let path = self.path(location)?;
        Ok(self.files.path_remove_directory(location.fd, &path)?)
    }

    pub(super) fn path_unlink_file(&mut self, location: Location) -> Result<(), Fault> {
        let path = self.path(location)?;
        Ok(self.files.path_unlink(location.fd, &path)?)
    }

    /// A path of the guest's, which starts from something open.
    fn path(&mut self, location: Location) -> Result<String, Fault> {
        self.files.get(location.fd)?;
        self.text(location.path)
    }

    /// A path as text. From now on the guest works on files, so that its memory is no image for others.
    fn text(&mut self, text: Text) -> Result<String, Fault> {
        self.asked.input = true;
        let length = text.length as usize;
        if !self.slot.contains(text.at, length) {
            return Err(Errno::FAULT.into());
        }
        if length > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut bytes = vec![0; length];
        self.read(text.at, &mut bytes)?;
        let path = String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
        check(&path)?;
        Ok(path)
    }
}

fn check(path: &str) -> Result<(), Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.contains('\0') {
        return Err(Errno::INVAL);
    }
    if path.starts_with('/') {
        return Err(Errno::PERM);
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    if parts.clone().count() > PARTS_MAX || parts.any(|part| part.len() > NAME_BYTES_MAX) {
        return Err(Errno::NAMETOOLONG);
    }
    Ok(())
}

/// Whether a link at the end of a path is followed.
fn follows(lookup: u32) -> Result<bool, Errno> {
    match lookup {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_bounded_in_length_depth_and_names() {
        let cases = [
            ("a/b", Ok(())),
            ("../a//b/./", Ok(())),
            ("", Err(Errno::NOENT)),
            ("a\0b", Err(Errno::INVAL)),
            ("/a", Err(Errno::PERM)),
            (&"x".repeat(255), Ok(())),
            (&"x".repeat(256), Err(Errno::NAMETOOLONG)),
            (&"x/".repeat(256), Ok(())),
            (&"x/".repeat(257), Err(Errno::NAMETOOLONG)),
        ];
        for (path, expected) in cases {
            assert_eq!(check(path), expected, "{path}");
        }
    }
}
