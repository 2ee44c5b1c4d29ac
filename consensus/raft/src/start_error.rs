//! Why a group does not start.

use std::{fmt, io, path::PathBuf};

use skein_proto::{ErrorCode, Failure, NodeId};

/// Why a group does not start. Nothing was changed on disk, and nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A stored record is not what was written. Trying again does not help: move the directory away and let the node
    /// join anew.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The node has begun before, as [`Config::must_exist`](crate::Config::must_exist) says, but its log and its vote
    /// are not there. Trying again does not help: remove the node from its group and let it join anew, under a new id.
    #[error(
        "{} holds no log, though this node has begun before: without its vote and its entries it must not take part; \
         remove the node and let it join anew",
        dir.display()
    )]
    Gone {
        /// Where the log was.
        dir: PathBuf,
    },
    /// A file was written by a newer release, which can still read it.
    #[error("{} has format version {version}, and this release knows up to {known}", file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The directory holds the state of another node.
    #[error("{} holds the state of node {found}, not of node {expected}", dir.display())]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose state it is.
        found: NodeId,
        /// Who asked.
        expected: NodeId,
    },
    /// The operating system refused. It may help to try again once the cause is gone.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The timings contradict each other, or openraft did not start.
    #[error("raft did not start: {0}")]
    Raft(String),
}

impl StartError {
    pub(crate) fn corrupt(file: impl Into<PathBuf>, offset: u64, what: impl fmt::Display) -> Self {
        Self::Corrupt { file: file.into(), offset, what: what.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The stable code that a user sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Corrupt { .. } | Self::Gone { .. } | Self::OtherNode { .. } => ErrorCode::CorruptStore,
            Self::TooNew { .. } => ErrorCode::DataDirTooNew,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            Self::Io { .. } | Self::Raft(_) => ErrorCode::Internal,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let message = match &error {
            StartError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Failure::not_executed(error.code(), message)
    }
}
