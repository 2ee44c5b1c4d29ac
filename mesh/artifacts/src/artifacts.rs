//! The handle: what is kept here, and the parts that exchange it with peers.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, Limits};
use skein_transport::{Serve, Transport};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::{
    CollectReport,
    flight::Flights,
    metrics,
    service::Service,
    store::{Found, PutError, Store},
};

#[cfg(test)]
mod tests;

/// The artifacts of one node. Cloning gives another handle to the same store.
#[derive(Clone)]
pub struct Artifacts {
    pub(crate) store: Arc<Store>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) flights: Arc<Flights>,
    /// Transfers on behalf of peers.
    pub(crate) slots: Arc<Semaphore>,
}

/// What an operator may change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Most bytes of artifacts on this node's disk. Default 64 GiB, a thousand of the largest; raising it costs only
    /// disk. Beyond it, and on a full disk, storing is refused with `disk-full`.
    pub bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { bytes_max: 1_024 * Limits::ARTIFACT_BYTES_MAX }
    }
}

/// Why a store could not be opened. Nothing was changed but that directories may have been made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or cleaned.
    #[error("artifact directory {} cannot be used", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Transfers on behalf of peers at a time: each may hold [`Limits::ARTIFACT_BYTES_MAX`] in memory.
const PEER_TRANSFERS_MAX: usize = 8;

impl Artifacts {
    /// Opens the store in `dir`, making it as needed; what an interrupted write left behind is removed.
    ///
    /// # Errors
    /// When the directory cannot be made, read or cleaned.
    pub async fn open(dir: PathBuf, transport: Arc<dyn Transport>) -> Result<Self, OpenError> {
        Self::open_with(Config::default(), dir, transport).await
    }

    /// The same, with a configuration.
    ///
    /// # Errors
    /// When the directory cannot be made, read or cleaned.
    pub async fn open_with(config: Config, dir: PathBuf, transport: Arc<dyn Transport>) -> Result<Self, OpenError> {
        let place = dir.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(place, config.bytes_max)).await;
        let opened = opened.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let store = Arc::new(opened.map_err(|source| OpenError::Io { dir, source })?);
        let artifacts =
            Self { store, transport, flights: Arc::default(), slots: Arc::new(Semaphore::new(PEER_TRANSFERS_MAX)) };
        artifacts.measure();
        Ok(artifacts)
    }

    /// What answers peers' requests for `Service::Artifact`.
    pub fn service(&self) -> Arc<dyn Serve> {
        Arc::new(Service(self.clone()))
    }

    /// Keeps `bytes` durably (file and directory synced) and names them. Idempotent. If the future is dropped, the
    /// bytes may be kept all the same.
    ///
    /// # Errors
    /// `too-large`, `disk-full` or `internal`; nothing is left half-done.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Failure> {
        self.keep(None, bytes).await.map_err(Failure::from)
    }

    /// Keeps `bytes` durably, if `expected` is their digest or none is expected.
    pub(crate) async fn keep(&self, expected: Option<Digest>, bytes: Bytes) -> Result<Digest, PutError> {
        let (digest, was_corrupt) =
            self.blocking(move |store| store.put(expected, &bytes)).await.unwrap_or_else(|e| Err(e.into()))?;
        if was_corrupt {
            self.note_corrupt(digest);
        }
        self.measure();
        Ok(digest)
    }

    /// The bytes, if this node has them. A file that does not match its digest is set aside and counts as absent.
    ///
    /// # Errors
    /// `internal` when the disk cannot be read.
    pub async fn get(&self, digest: Digest) -> Result<Option<Bytes>, Failure> {
        self.look(move |store| store.read(digest), digest).await
    }

    /// Like `get`; what is there counts as stored now, so that no collection takes it before it is referred to, and is
    /// certain to be durable.
    ///
    /// # Errors
    /// `internal` when the disk cannot be read or synced.
    pub async fn claim(&self, digest: Digest) -> Result<Option<Bytes>, Failure> {
        self.look(move |store| store.confirm(digest), digest).await
    }

    /// Which of these artifacts have a file here.
    pub(crate) async fn which(&self, digests: Vec<Digest>) -> Result<Vec<bool>, Failure> {
        let looked = self.blocking(move |store| digests.into_iter().map(|digest| store.has(digest)).collect()).await;
        looked
            .map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("the disk was not looked at: {error}")))
    }

    async fn look(
        &self,
        look: impl FnOnce(&Store) -> io::Result<Found> + Send + 'static,
        digest: Digest,
    ) -> Result<Option<Bytes>, Failure> {
        match self.blocking(look).await.and_then(|found| found) {
            Ok(Found::Sound(bytes)) => Ok(Some(bytes)),
            Ok(Found::Absent) => Ok(None),
            Ok(Found::Corrupt) => {
                self.note_corrupt(digest);
                self.measure();
                Ok(None)
            }
            Err(error) => {
                let message = format!("artifact {digest} could not be read: {error}");
                Err(Failure::not_executed(ErrorCode::Internal, message))
            }
        }
    }

    /// Removes artifacts that are not `live` and were stored longer ago than `older_than`; what `put` found there
    /// already counts as stored then. What cannot be removed stays until the next time.
    pub async fn collect(&self, live: &HashSet<Digest>, older_than: Duration) -> CollectReport {
        let live = live.clone();
        let collected = self.blocking(move |store| store.collect(&live, older_than)).await.and_then(|report| report);
        self.measure();
        collected.unwrap_or_else(|error| {
            warn!(%error, "artifacts could not be collected");
            CollectReport::default()
        })
    }

    /// Whether this node has the artifact. Says nothing of its soundness: only reading verifies.
    pub fn has(&self, digest: Digest) -> bool {
        self.store.has(digest)
    }

    /// Runs on a blocking thread: disks are slow, and so is hashing 64 MiB.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> io::Result<T> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(io::Error::other)
    }

    fn note_corrupt(&self, digest: Digest) {
        ::metrics::counter!(metrics::CORRUPT_FILES).increment(1);
        error!(%digest, "an artifact on disk did not match its digest and was set aside; the disk may be failing");
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; bytes up to 2^53 are exact")]
    fn measure(&self) {
        ::metrics::gauge!(metrics::STORED_BYTES).set(self.store.used_bytes() as f64);
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Self {
        let code = match &error {
            PutError::TooLarge(_) => ErrorCode::TooLarge,
            PutError::Mismatch { .. } => ErrorCode::BadRequest,
            PutError::NoRoom(_) => ErrorCode::DiskFull,
            PutError::Io(_) => ErrorCode::Internal,
        };
        Failure::not_executed(code, error.to_string())
    }
}
