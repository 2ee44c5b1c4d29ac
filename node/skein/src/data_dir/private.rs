//! Keeps a node's directory to its user: nobody else may read or enter it, whatever it was before and whatever the umask.
//!
//! What group or others may use is closed to them where this user owns it; otherwise the node does not start. Symbolic
//! links are not followed: what they point to was made by somebody for something else.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use skein_proto::{ErrorCode, Failure};

use super::io_failure;

/// The bits of a mode that let group and others in.
const OTHERS: u32 = 0o077;
/// What the owner may do with a directory, and with a file.
const OWN: (u32, u32) = (0o700, 0o600);
/// Most directories within each other that are looked at: ours are three deep.
const DEPTH_MAX: usize = 16;

/// Makes a directory, and those above it, that only its owner may use.
pub(super) fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Closes the directory and all that is in it to everybody but this user. `format` is the file in it that tells a data
/// directory from any other: one that is used for something else, such as `/tmp`, is not closed to its other users.
/// What lies in `cache` is its reader's to throw out, if it is somebody else's: it is made again.
///
/// # Errors
/// `bad-request` for what group or others may use and this user cannot or should not close, with what to do about it;
/// `internal` with the system's message.
pub(super) fn close(dir: &Path, format: &Path, cache: &Path, own: &[&str]) -> Result<(), Failure> {
    let mut closed = Vec::new();
    let failed = |error: io::Error| io_failure("look at", dir, &error);
    let meta = fs::metadata(dir).map_err(failed)?;
    if is_open(&meta) && !format.exists() && holds_others(dir, own).map_err(failed)? {
        return Err(refused(dir, &meta, "has files in it that are not a node's, so that it is not closed unasked"));
    }
    // From the outside in: once the directory is closed, nobody puts anything else in it.
    if close_one(dir)? {
        closed.push(dir.to_owned());
    }
    close_within(dir, DEPTH_MAX, cache, &mut closed)?;
    if let [first, ..] = closed.as_slice() {
        tracing::warn!(
            dir = %dir.display(),
            first = %first.display(),
            closed = closed.len(),
            "the data directory could be used by group or others; it is closed to them now"
        );
    }
    Ok(())
}

/// Whether there is something else in the directory than what has these names.
fn holds_others(dir: &Path, own: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !own.iter().any(|own| name == *own) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn close_within(dir: &Path, depth: usize, cache: &Path, closed: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: io::Error| io_failure("look through", dir, &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Of the entry itself: a link is not followed.
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // A process of an earlier run may still be removing what it left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        if !(meta.is_dir() || meta.is_file()) {
            continue;
        }
        let path = entry.path();
        if is_open(&meta) {
            match close_one(&path) {
                Ok(true) => closed.push(path.clone()),
                Ok(false) => {}
                Err(failure) if dir != cache => return Err(failure),
                Err(failure) => tracing::warn!(%failure, "a file of the code cache is not this node's"),
            }
        }
        if meta.is_dir() && depth > 0 {
            close_within(&path, depth - 1, cache, closed)?;
        }
    }
    Ok(())
}

/// Closes one directory or file; whether it was open.
fn close_one(path: &Path) -> Result<bool, Failure> {
    // By one descriptor, so that what is looked at is what is changed.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_failure("open", path, &error)),
    };
    let meta = file.metadata().map_err(|error| io_failure("look at", path, &error))?;
    if !is_open(&meta) {
        return Ok(false);
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(refused(path, &meta, &format!("belongs to user {}, and this node runs as user {me}", meta.uid())));
    }
    let own = if meta.is_dir() { OWN.0 } else { OWN.1 };
    match set_mode(&file, meta.mode() & own) {
        Ok(true) => Ok(true),
        Ok(false) => Err(refused(path, &meta, "is on a file system that keeps no modes")),
        Err(error) => Err(refused(path, &meta, &format!("cannot be closed to them ({error})"))),
    }
}

/// Whether the file has this mode now: some file systems take another in silence.
fn set_mode(file: &File, mode: u32) -> io::Result<bool> {
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(!is_open(&file.metadata()?))
}

fn is_open(meta: &Metadata) -> bool {
    meta.mode() & OTHERS != 0
}

fn refused(path: &Path, meta: &Metadata, why: &str) -> Failure {
    let (path, mode) = (path.display(), meta.mode() & 0o777);
    let next = match meta.is_dir() {
        true => format!("give it to this node's user and close it (chown -R USER {path}; chmod 700 {path})"),
        false => format!("give it to this node's user and close it (chown USER {path}; chmod 600 {path})"),
    };
    let message = format!(
        "a node's data is for its user alone. {path} may be used by its group or by others (mode {mode:04o}), and it \
         {why}: {next}, or choose another directory by --data"
    );
    Failure::not_executed(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// What becomes of a directory that is a node's.
    fn closed(dir: &Path) -> Result<(), Failure> {
        fs::write(dir.join("FORMAT"), "1").unwrap();
        close(dir, &dir.join("FORMAT"), &dir.join("cache"), &[])
    }

    #[test]
    fn a_directory_for_other_things_is_not_closed_to_its_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let close = || close(dir.path(), &dir.path().join("FORMAT"), &dir.path().join("cache"), &["LOCK"]);
        set(dir.path(), 0o755);
        fs::write(dir.path().join("LOCK"), "").unwrap();
        close().unwrap();
        assert_eq!(mode(dir.path()), 0o700, "an empty one is taken");
        set(dir.path(), 0o755);
        fs::write(dir.path().join("thesis"), "").unwrap();
        let failure = close().unwrap_err();
        assert_eq!((failure.code, mode(dir.path())), (ErrorCode::BadRequest, 0o755));
        assert!(failure.message.contains("not a node's") && failure.message.contains("chmod 700"), "{failure}");
        set(dir.path(), 0o700);
        close().unwrap();
    }

    #[test]
    fn what_others_may_use_is_closed_to_them_and_keeps_its_owners_rights() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(&file, "x").unwrap();
        for (before, after) in [(0o600, 0o600), (0o640, 0o600), (0o604, 0o600), (0o422, 0o400), (0o777, 0o600)] {
            set(&file, before);
            for path in [&deep, &dir.path().to_owned()] {
                set(path, 0o755);
            }
            closed(dir.path()).unwrap();
            assert_eq!(mode(&file), after, "{before:o}");
            assert_eq!([mode(&deep), mode(dir.path())], [0o700; 2]);
        }
    }

    #[test]
    fn what_a_link_points_to_is_left_alone() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().join("target");
        fs::write(&target, "x").unwrap();
        set(&target, 0o644);
        set(outside.path(), 0o755);
        std::os::unix::fs::symlink(&target, dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("directory")).unwrap();
        closed(dir.path()).unwrap();
        assert_eq!([mode(&target), mode(outside.path())], [0o644, 0o755]);
    }

    #[test]
    fn an_open_directory_of_somebody_else_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let (file, cache) = (dir.path().join("file"), dir.path().join("cache"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("code"), "x").unwrap();
        if std::os::unix::fs::chown(cache.join("code"), Some(12_345), None).is_ok() {
            // The cache sees to it itself.
            closed(dir.path()).unwrap();
        }
        for path in [dir.path(), &file] {
            set(path, 0o750);
            if let Err(error) = std::os::unix::fs::chown(path, Some(12_345), None) {
                // Only the superuser gives files away. Nothing of another user's is sure to be there to try it on.
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                return;
            }
            let failure = closed(dir.path()).unwrap_err();
            assert_eq!(failure.code, ErrorCode::BadRequest);
            for word in ["mode 0750", "user 12345", "chown", "chmod", "--data", &*path.to_string_lossy()] {
                assert!(failure.message.contains(word), "{word}: {failure}");
            }
            assert_eq!(mode(path), 0o750, "nothing of theirs is changed");
            // Closed to others, it is theirs to give.
            set(path, 0o700);
            closed(dir.path()).unwrap();
        }
    }
}
