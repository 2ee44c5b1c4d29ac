//! The code of versions on a simulated disk, and how nodes ask one another for it: what `skein_artifacts` does on a real
//! one, with its doors.
//!
//! A file is written, synced, given its name, and the directory synced, as there: so a cut or a kill between any two of
//! these steps leaves what it may leave of a real store. An artifact here is a few bytes, so a call carries it whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{Digest, ErrorCode, Failure, NodeId, codec};
use skein_raft::Volume;
use skein_transport::{Caller, Serve, Service, Transport};
use tokio::time::{Instant, timeout_at};

use crate::disk::SimDisk;

/// The artifacts of one boot of a node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Artifacts {
    disk: SimDisk,
    transport: Arc<dyn Transport>,
    temp_next: Arc<AtomicU64>,
}

/// What one node asks another.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Which of these do you have?
    Which(Vec<Digest>),
    /// The bytes of this one.
    Get(Digest),
    /// Keep these.
    Put(Bytes),
    /// Keep this one, which these have.
    Keep(Digest, Vec<NodeId>),
}

const DIR: &str = "/artifacts";
/// What is being written; the next start removes it.
const TEMP: &str = "tmp";

/// The digests that lie on a disk, as their names.
pub(crate) fn kept_on(disk: &SimDisk) -> BTreeSet<String> {
    let names = disk.names(Path::new(DIR)).into_iter().filter(|path| path.extension().is_none());
    names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// The name of the file of an artifact.
pub(crate) fn name(digest: Digest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(digest: Digest) -> PathBuf {
    Path::new(DIR).join(name(digest))
}

impl Artifacts {
    /// Opens the store of a node, and removes what an earlier process did not finish.
    pub(crate) fn open(disk: &SimDisk, transport: Arc<dyn Transport>) -> io::Result<Self> {
        disk.create_dir_all(Path::new(DIR))?;
        disk.sync_dir(Path::new("/"))?;
        for left in disk.list(Path::new(DIR))?.iter().filter(|path| path.extension().is_some()) {
            disk.remove(left)?;
        }
        Ok(Self { disk: disk.clone(), transport, temp_next: Arc::default() })
    }

    /// What answers the peers.
    pub(crate) fn service(&self) -> Arc<dyn Serve> {
        Arc::new(self.clone())
    }

    /// Keeps bytes durably.
    pub(crate) async fn put(&self, bytes: &Bytes) -> Result<Digest, Failure> {
        let digest = Digest::of(bytes);
        // The sync of a file is what takes time.
        self.disk.pace().await;
        let kept = if self.has(digest) { self.disk.sync_dir(Path::new(DIR)) } else { self.write(digest, bytes) };
        kept.map(|()| digest).map_err(|error| {
            let is_full = error.kind() == io::ErrorKind::StorageFull;
            let code = if is_full { ErrorCode::DiskFull } else { ErrorCode::Internal };
            Failure::not_executed(code, error.to_string())
        })
    }

    fn write(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let temp = path(digest).with_extension(format!("{}.{TEMP}", self.temp_next.fetch_add(1, SeqCst)));
        let file = self.disk.create(&temp)?;
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync());
        if let Err(error) = written {
            // A process that was killed cannot tidy up either.
            let _ = self.disk.remove(&temp);
            return Err(error);
        }
        self.disk.rename(&temp, &path(digest))?;
        self.disk.sync_dir(Path::new(DIR))
    }

    fn has(&self, digest: Digest) -> bool {
        self.disk.open(&path(digest)).is_ok()
    }

    fn get(&self, digest: Digest) -> Option<Bytes> {
        let bytes = self.disk.read(&path(digest)).ok()?;
        (Digest::of(&bytes) == digest).then(|| bytes.into())
    }

    /// Pushes an artifact that is here to candidates, in their order, until `copies` of them have it; gives those.
    pub(crate) async fn replicate(
        &self,
        bytes: &Bytes,
        candidates: &[NodeId],
        copies: usize,
        deadline: Instant,
    ) -> Vec<NodeId> {
        let (mut waiting, mut kept) = (candidates.iter().copied(), BTreeSet::new());
        let mut pushes = tokio::task::JoinSet::new();
        loop {
            while kept.len() + pushes.len() < copies
                && let Some(peer) = waiting.next()
            {
                let (artifacts, bytes) = (self.clone(), bytes.clone());
                pushes.spawn(async move {
                    // A peer that does not answer leaves time to ask another one.
                    let half = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
                    (peer, artifacts.ask(peer, &Ask::Put(bytes), half).await)
                });
            }
            match timeout_at(deadline, pushes.join_next()).await {
                Ok(Some(Ok((peer, Ok(_))))) => drop(kept.insert(peer)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        candidates.iter().copied().filter(|peer| kept.contains(peer)).collect()
    }

    /// Which of these artifacts each of these nodes says that it has; nothing of those that do not answer.
    pub(crate) async fn survey(
        &self,
        nodes: impl Iterator<Item = NodeId>,
        digests: &[Digest],
        deadline: Instant,
    ) -> BTreeMap<NodeId, Vec<bool>> {
        let asked = nodes.map(async |node| {
            if node == self.transport.local() {
                return Some((node, self.which(digests)));
            }
            let answer = self.ask(node, &Ask::Which(digests.to_vec()), deadline).await.ok()?;
            Some((node, codec::decode(&answer).ok()?))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    fn which(&self, digests: &[Digest]) -> Vec<bool> {
        let kept = kept_on(&self.disk);
        digests.iter().map(|digest| kept.contains(&name(*digest))).collect()
    }

    /// Has a node keep an artifact that these have.
    pub(crate) async fn keep_at(
        &self,
        target: NodeId,
        digest: Digest,
        from: &[NodeId],
        deadline: Instant,
    ) -> Result<(), Failure> {
        if target == self.transport.local() {
            return self.keep_here(digest, from, deadline).await;
        }
        self.ask(target, &Ask::Keep(digest, from.to_vec()), deadline).await.map(drop)
    }

    async fn keep_here(&self, digest: Digest, from: &[NodeId], deadline: Instant) -> Result<(), Failure> {
        if let Some(bytes) = self.get(digest) {
            return self.put(&bytes).await.map(drop);
        }
        for peer in from.iter().filter(|peer| **peer != self.transport.local()) {
            let Ok(bytes) = self.ask(*peer, &Ask::Get(digest), deadline).await else { continue };
            if Digest::of(&bytes) == digest {
                return self.put(&bytes).await.map(drop);
            }
        }
        Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, format!("none of {from:?} gives {digest}")))
    }

    async fn ask(&self, peer: NodeId, ask: &Ask, deadline: Instant) -> Result<Bytes, Failure> {
        self.transport.call(peer, Service::Artifact, codec::encode(ask)?, deadline).await
    }
}

#[async_trait]
impl Serve for Artifacts {
    async fn call(&self, _: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        match codec::decode(&body)? {
            Ask::Which(digests) => Ok(codec::encode(&self.which(&digests))?),
            Ask::Get(digest) => self
                .get(digest)
                .ok_or_else(|| Failure::not_executed(ErrorCode::ArtifactUnavailable, format!("{digest} is not here"))),
            Ask::Put(bytes) => self.put(&bytes).await.map(|_| Bytes::new()),
            Ask::Keep(digest, from) => self.keep_here(digest, &from, deadline).await.map(|()| Bytes::new()),
        }
    }
}
