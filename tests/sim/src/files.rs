//! Small files on a simulated disk, each replaced as a whole: what `node/skein` does by writing aside and renaming.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use skein_proto::codec;
use skein_raft::Volume;

use crate::disk::SimDisk;

const DIR: &str = "/node";

/// Has the directory for them be there.
pub(crate) fn open(disk: &SimDisk) -> io::Result<()> {
    disk.create_dir_all(Path::new(DIR))?;
    disk.sync_dir(Path::new("/"))
}

/// What was kept under a name; none if nothing was, or it cannot be read.
pub(crate) fn kept<T: DeserializeOwned>(disk: &SimDisk, name: &str) -> Option<T> {
    codec::decode(&disk.read(&path(name)).ok()?).ok()
}

/// Keeps a value under a name. Best effort: without it the next start knows less.
pub(crate) async fn keep<T: Serialize>(disk: &SimDisk, name: &str, value: &T) {
    let bytes: Bytes = codec::encode(value).unwrap();
    disk.pace().await;
    let temp = path(name).with_extension("tmp");
    let _ = disk.create(&temp).and_then(|file| {
        file.write_all_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(&temp, &path(name))?;
        disk.sync_dir(Path::new(DIR))
    });
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}
