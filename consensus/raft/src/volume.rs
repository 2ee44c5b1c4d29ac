//! The seam between a group and its disk: the file system in life, a disk with a power switch in simulations.
//!
//! Here are also the two ways in which work on a disk gets off the async threads, since a simulation, whose time stands
//! still while it computes, has no other threads.

#[cfg(test)]
pub(crate) mod test_disk;

use std::{
    fmt::Debug,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;

/// Where a group keeps its files. All of it blocks, unless it returns a future.
pub trait Volume: Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, if they are not there. What is made survives a crash.
    ///
    /// # Errors
    /// What the disk says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The paths of what is in a directory, in no order.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// The content of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and what else the disk says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Opens a file that is there, to be read and written.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and what else the disk says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Opens an empty file to be read and written, in place of one that is there.
    ///
    /// # Errors
    /// What the disk says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Gives a file another name, in place of a file of that name.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Has the names in a directory survive a crash.
    ///
    /// # Errors
    /// What the disk says; the names are then as good as lost.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written below this directory.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Waits as long as the next sync takes, where that is not felt in the sync itself.
    fn pace(&self) -> BoxFuture<'static, ()>;

    /// Lets this time pass in work that was begun by [`start`](Volume::start).
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Has `work` done where it may block, and waits for it. Dropping the future does not stop the work.
    ///
    /// # Errors
    /// If the work ended in a panic.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>>;

    /// Has `work`, which may block, done beside everything else. What is returned waits for its end.
    ///
    /// # Errors
    /// If it cannot be started. The future: if the work ended in a panic.
    fn start(&self, name: String, work: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, io::Result<()>>>;
}

/// An open file on a [`Volume`].
pub trait VolumeFile: Debug + Send + Sync {
    /// Fills `bytes` from this offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`], and what else the disk says.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes at this offset; what lies between the end and it reads as zeros.
    ///
    /// # Errors
    /// What the disk says; some of the bytes may then be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Has what was written survive a crash.
    ///
    /// # Errors
    /// What the disk says; what it then holds is not known.
    fn sync(&self) -> io::Result<()>;
}

/// Has `work` done on the volume's terms, and hands out what it returns.
///
/// # Errors
/// If the work ended in a panic.
pub(crate) async fn run<T: Send + 'static>(
    volume: &dyn Volume,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tx, rx) = oneshot::channel();
    // Whoever waited may have gone away.
    volume.run(Box::new(move || drop(tx.send(work())))).await?;
    rx.await.map_err(io::Error::other)
}

/// Has `bytes` be the content of `path` in `dir`: entirely, or, after a crash or a failure, not at all.
pub(crate) fn replace_file(volume: &dyn Volume, dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = write_aside(volume, path, bytes)?;
    volume.rename(&aside, path)?;
    volume.sync_dir(dir)
}

/// Writes a file beside `path`, which is to be renamed to it. When it returns, the content is on the disk.
pub(crate) fn write_aside(volume: &dyn Volume, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let aside = path.with_extension("tmp");
    let written = volume.create(&aside).and_then(|file| {
        file.write_all_at(bytes, 0)?;
        file.sync()
    });
    if written.is_err() {
        // What did not fit would take the room that others wait for. If it cannot be removed either, it is written over
        // at the next attempt.
        let _ = volume.remove(&aside);
    }
    written.map(|()| aside)
}

/// Has the names in `dir`, and its own, survive a crash, whoever made them.
pub(crate) fn settle_dir(volume: &dyn Volume, dir: &Path) -> io::Result<()> {
    volume.sync_dir(dir)?;
    volume.sync_dir(parent(dir))
}

/// The directory that holds the name of `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Whether asking again may help: there is no room, or there are no descriptors, and nothing was half done that asking
/// again does not do anew.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let is_short = |errno| [Errno::MFILE, Errno::NFILE].contains(&errno);
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || Errno::from_io_error(error).is_some_and(is_short)
}

/// The operating system's file system. What is made there only its owner may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystem;

impl Volume for FileSystem {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = parent(dir);
        self.create_dir_all(parent)?;
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made?,
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn pace(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        // The work has a thread of its own.
        async move { thread::sleep(time) }.boxed()
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>> {
        tokio::task::spawn_blocking(work).map(|ended| ended.map_err(io::Error::other)).boxed()
    }

    fn start(&self, name: String, work: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, io::Result<()>>> {
        let thread = thread::Builder::new().name(name).spawn(|| futures_executor::block_on(work))?;
        let end = async {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await.map_err(io::Error::other)?;
            joined.map_err(|_| io::Error::other("the thread panicked"))
        };
        Ok(end.boxed())
    }
}

impl VolumeFile for File {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // Of the metadata only the size matters, and that comes with the data.
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        FileSystem.create_dir_all(&deep).unwrap();
        FileSystem.create(&file).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&dir.path().join("a")), mode(&deep), mode(&file)], [0o700, 0o700, 0o600]);
    }
}
