//! The context file: how to reach a mesh, and a credential for it.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure};
use tracing::warn;

/// How to reach a mesh, and a credential for it. Kept in a TOML file that only its owner may read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The mesh's id.
    pub mesh: String,
    /// The certificate of the mesh's CA, PEM: a node that is not signed by it is refused.
    pub ca: String,
    /// The key shown with each request.
    pub key: String,
    /// Nodes of the mesh; each is tried until one answers.
    pub nodes: Vec<ContextNode>,
}

/// Where one node is reached, as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextNode {
    /// Its name.
    pub name: String,
    /// QUIC, UDP.
    pub mesh: String,
    /// The gateway, TCP.
    pub http: String,
    /// The admin API, TCP.
    pub admin: String,
}

/// A context file that could not be read or written. After a failed write the old file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The file is not there, or the system refused it.
    #[error("context file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no context: not TOML, or a key is missing.
    #[error("context file {}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Context {
    /// The context in the file at `path`. Keys of a newer release are skipped.
    ///
    /// # Errors
    /// [`ContextError`], when the file cannot be read or is no context.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ContextError> {
        let path = path.as_ref();
        let io = |source| ContextError::Io { path: path.to_path_buf(), source };
        let invalid = |reason: String| ContextError::Invalid { path: path.to_path_buf(), reason };
        let file = fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            warn!(path = %path.display(), mode = format!("{mode:o}"), "others may read the key in this context file");
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        let context: Self = toml::from_str(&text).map_err(|error| invalid(error.message().to_owned()))?;
        if context.nodes.is_empty() {
            return Err(invalid("it names no node".to_owned()));
        }
        Ok(context)
    }

    /// Writes the file at `path`, readable by its owner only, whole or not at all.
    ///
    /// # Errors
    /// [`ContextError`], when the directory or the disk refuses; an older file stays as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ContextError> {
        let path = path.as_ref();
        let text = toml::to_string(self)
            .map_err(|error| ContextError::Invalid { path: path.to_path_buf(), reason: error.to_string() })?;
        replace(path, text.as_bytes()).map_err(|source| ContextError::Io { path: path.to_path_buf(), source })
    }
}

impl fmt::Debug for Context {
    /// Without the key: contexts end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("mesh", &self.mesh).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        let code = match &error {
            ContextError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorCode::NotFound,
            ContextError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            _ => ErrorCode::BadRequest,
        };
        Failure::not_executed(code, error.to_string())
    }
}

/// Puts `bytes` in place of the file at `path`: written and synced beside it under a name of our own, then renamed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let beside = directory.join(name);
    // One that a killed process of the same id left behind.
    let _ = fs::remove_file(&beside);
    let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
        return written;
    }
    fs::File::open(directory)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Some hundred nodes and a certificate fit many times.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn context() -> Context {
        let node = ContextNode {
            name: "goose".into(),
            mesh: "127.0.0.1:7070".into(),
            http: "127.0.0.1:7080".into(),
            admin: "127.0.0.1:7090".into(),
        };
        let ca = "-----BEGIN CERTIFICATE-----\n".to_owned();
        Context { mesh: "m".into(), ca, key: "sk_a_00ff".into(), nodes: vec![node] }
    }

    #[test]
    fn what_was_saved_is_loaded_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("context.toml");
        context().save(&path).unwrap();
        let again = Context { key: "sk_b_11".into(), ..context() };
        again.save(&path).unwrap();
        assert_eq!(Context::load(&path).unwrap(), again);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_no_context_is_refused_with_its_name_and_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("context.toml");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let error = Context::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("context.toml"), "{text}: {error}");
        };
        check("= 1", "context.toml");
        check("mesh = 'm'\nca = ''\nkey = ''", "missing field `nodes`");
        check("mesh = 'm'\nca = ''\nkey = ''\nnodes = []", "names no node");
        fs::remove_file(&path).unwrap();
        let failure: Failure = Context::load(&path).unwrap_err().into();
        assert_eq!(failure.code, ErrorCode::NotFound);
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir_all(path.join("by a directory")).unwrap();
        assert!(context().save(&path).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn keys_are_not_shown() {
        assert!(!format!("{:?}", context()).contains("00ff"));
    }
}
